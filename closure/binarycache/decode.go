package binarycache

import (
	"bufio"
	"compress/bzip2"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
)

// Limits of the dictionaries that a file may ask for, in bytes: those of xz -9 and of zstd -22.
const (
	maxXZ   = 64 << 20
	maxZstd = 128 << 20
)

// slow reports whether unpacking takes longer than compressing again,
// so that it pays to be far ahead.
func slow(compression string) bool {
	return compression == "xz" || compression == "bzip2"
}

// decoder unpacks r. The second result gives up what the decoder holds, once it has come to the end.
func (b *buffers) decoder(compression string, r *bufio.Reader) (io.Reader, func(), error) {
	nothing := func() {}
	switch compression {
	case "none":
		return r, nothing, nil
	case "xz":
		d, ok := b.xz.take()
		var err error
		if ok {
			err = d.Reset(r)
		} else {
			d, err = xz.NewReader(r, maxXZ)
		}
		return d, func() { b.xz.put(d) }, err
	case "zstd":
		d, ok := b.zstd.take()
		var err error
		if ok {
			err = d.Reset(r)
		} else {
			// One goroutine for each NAR is enough: there are others.
			d, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxZstd))
		}
		return d, func() { b.zstd.put(d) }, err
	case "bzip2":
		return bzip2.NewReader(r), nothing, nil
	case "gzip":
		d, err := gzip.NewReader(r)
		return d, nothing, err
	case "br", "brotli":
		return brotli.NewReader(r), nothing, nil
	case "lz4":
		return lz4.NewReader(r), nothing, nil
	}
	return nil, nil, fmt.Errorf("it is compressed with %q, which is none of xz, zstd, bzip2, gzip, br, lz4 and none", shorten(compression))
}
