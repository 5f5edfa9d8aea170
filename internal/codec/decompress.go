package codec

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for: what zstd(1) takes without being told.
const maxWindow = 128 << 20

// The first bytes of streams that [Decompress] knows.
const (
	gzipMagic = "\x1f\x8b"
	zstdMagic = "\x28\xb5\x2f\xfd"
)

// IsCompressed reports whether a stream that begins with the given bytes, four if there are so many,
// is one that [Decompress] knows.
func IsCompressed(begin []byte) bool {
	return bytes.HasPrefix(begin, []byte(gzipMagic)) || bytes.HasPrefix(begin, []byte(zstdMagic))
}

// Decompress returns what a stream of gzip members or zstd frames holds, which it tells by the first bytes.
// Any other stream is returned as it is.
func Decompress(r *bufio.Reader) (io.ReadCloser, error) {
	begin, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(begin, []byte(gzipMagic)):
		return gzip.NewReader(r)
	case bytes.HasPrefix(begin, []byte(zstdMagic)):
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
