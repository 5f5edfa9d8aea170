package codec

import (
	"bufio"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxWindow bounds the memory that a zstd stream may ask for: what zstd(1) takes without being told.
const maxWindow = 128 << 20

// Decompress returns what a stream of gzip members or zstd frames holds, which it tells by the first bytes.
// Any other stream is returned as it is.
func Decompress(r *bufio.Reader) (io.ReadCloser, error) {
	magic, err := r.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case len(magic) > 1 && magic[0] == 0x1f && magic[1] == 0x8b:
		return gzip.NewReader(r)
	case string(magic) == "\x28\xb5\x2f\xfd":
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return io.NopCloser(r), nil
}
