package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz/lzma"

	"github.com/nix2img/nix2img/internal/ctxio"
)

// maxDict bounds the dictionary that an xz or lzma block may ask for, in bytes.
// Writers use at most the size of a block, and so does the kernel.
const maxDict = 1 << 20

var errTooLong = errors.New("block expands beyond its limit")

// Expand returns the contents of src, one compressed block of the given format.
//
// They are written to dst[:0], whose capacity is the limit: a block that holds more is an error.
// Other memory is bounded too, whatever src says.
// Many goroutines may call Expand at once.
func Expand(id ID, dst, src []byte) ([]byte, error) {
	var expand func(dst, src []byte) (int, error)
	switch id {
	case GZIP:
		expand = expandZlib
	case LZMA:
		expand = expandLZMA
	case LZO:
		expand = expandLZO
	case XZ:
		expand = expandXZ
	case LZ4:
		expand = expandLZ4
	case ZSTD:
		expand = expandZstd
	default:
		return nil, fmt.Errorf("codec: expand: %v is unknown", id)
	}
	n, err := expand(dst[:cap(dst)], src)
	if err != nil {
		return nil, fmt.Errorf("codec: expand %v: %w", id, err)
	}
	return dst[:n], nil
}

// fill reads r into dst and demands that it ends there, or before.
// Reading the end is what verifies a checksum.
func fill(dst []byte, r io.Reader) (n int, err error) {
	if n, err = ctxio.Fill(dst, r); err == nil {
		var more [1]byte
		if m, end := ctxio.Fill(more[:], r); m > 0 {
			err = errTooLong
		} else {
			err = end
		}
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// A zlibReader is kept for the next block: its window and tables are what costs.
type zlibReader struct {
	src bytes.Reader
	r   io.ReadCloser // nil before the first block
}

var zlibReaders = sync.Pool{New: func() any { return new(zlibReader) }}

func expandZlib(dst, src []byte) (n int, err error) {
	z := zlibReaders.Get().(*zlibReader)
	z.src.Reset(src)
	if z.r == nil {
		z.r, err = zlib.NewReader(&z.src)
	} else {
		err = z.r.(zlib.Resetter).Reset(&z.src, nil)
	}
	if err != nil {
		return 0, err // z may be half made: not kept
	}
	n, err = fill(dst, z.r)
	z.src.Reset(nil)
	zlibReaders.Put(z)
	return n, err
}

type xzReader struct {
	src bytes.Reader
	r   *xz.Reader
}

var xzReaders = sync.Pool{New: func() any {
	r, _ := xz.NewReader(nil, maxDict) // nothing to read, so nothing to fail
	return &xzReader{r: r}
}}

func expandXZ(dst, src []byte) (int, error) {
	z := xzReaders.Get().(*xzReader)
	defer xzReaders.Put(z)
	z.src.Reset(src)
	defer z.src.Reset(nil)
	if err := z.r.Reset(&z.src); err != nil {
		return 0, err
	}
	z.r.Multistream(false)
	return fill(dst, z.r)
}

// expandLZMA reads the format of the LZMA utilities before xz,
// with the length in the header. Linux itself never mounted such images.
func expandLZMA(dst, src []byte) (int, error) {
	r, err := lzma.ReaderConfig{DictCap: maxDict}.NewReader(bytes.NewReader(src))
	if err != nil {
		return 0, err
	}
	return fill(dst, r)
}

func expandLZO(dst, src []byte) (int, error) { return lzo.Decompress(src, dst) }

func expandLZ4(dst, src []byte) (int, error) { return lz4.UncompressBlock(src, dst) }

var zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0), // as many blocks at once as there are cores
		zstd.WithDecodeAllCapLimit(true))
})

func expandZstd(dst, src []byte) (int, error) {
	dec, err := zstdDecoder()
	if err != nil {
		return 0, err
	}
	out, err := dec.DecodeAll(src, dst[:0])
	return len(out), err
}
