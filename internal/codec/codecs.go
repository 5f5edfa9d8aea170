package codec

import (
	"bytes"
	"errors"
	"io"

	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// codecs lists what there is, in the order in which it is offered to users.
var codecs = []*Codec{
	{
		Name: "gzip", ID: GZIP, Module: "github.com/klauspost/compress",
		Min: 1, Max: 9, Default: 7, newCompressor: newGzip,
		// Level; 15 bits of window and no special strategy.
		options: func(level, _ int) []uint32 { return []uint32{uint32(level), 15} },
	},
	libzstd,
	{
		Name: "zstd-go", ID: ZSTD, Module: "github.com/klauspost/compress",
		Min: 1, Max: 4, Default: 2, newCompressor: newZstdGo,
		options: zstdOptions,
	},
	{
		// 0 is the fast algorithm, the others are those of LZ4 HC.
		Name: "lz4", ID: LZ4, Module: "github.com/pierrec/lz4/v4",
		Min: 1, Max: 9, Default: 0, newCompressor: newLZ4,
		// Version 1 of the format, and whether the blocks are of LZ4 HC.
		options: func(level, _ int) []uint32 { return []uint32{1, uint32(min(level, 1))} },
	},
	{
		Name: "xz", ID: XZ, Module: "github.com/ulikunitz/xz", newCompressor: newXZ,
		// Size of the dictionary, and no filters.
		options: func(_, blockSize int) []uint32 { return []uint32{uint32(xzDict(blockSize)), 0} },
	},
	// There is no number for "not compressed", but every reader takes stored blocks.
	{Name: "none", ID: GZIP, newCompressor: func(int, int) (Compressor, error) { return none{}, nil }},
}

type none struct{}

func (none) Compress(dst, src []byte) ([]byte, error) { return nil, nil }

// limited is a writer into a slice that gives up once the slice is full.
type limited struct{ buf []byte }

var errFull = errors.New("not smaller than the input")

func (l *limited) Write(p []byte) (int, error) {
	if len(l.buf)+len(p) > cap(l.buf) {
		return 0, errFull
	}
	l.buf = append(l.buf, p...)
	return len(p), nil
}

// streamed compresses a block with a stream's writer.
// It gives up as soon as the output is no smaller than the input.
func streamed(out *limited, w io.WriteCloser, dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return nil, nil
	}
	out.buf = slice(dst, len(src)-1)
	_, err := w.Write(src)
	if err == nil {
		err = w.Close()
	}
	if errors.Is(err, errFull) {
		return nil, nil
	}
	return out.buf, err
}

// slice returns an empty slice of capacity n, of dst's memory if there is enough of it.
func slice(dst []byte, n int) []byte {
	if cap(dst) < n {
		return make([]byte, 0, n)
	}
	return dst[:0:n]
}

type gzipCompressor struct {
	w   *zlib.Writer
	out limited
}

func newGzip(level, _ int) (Compressor, error) {
	w, err := zlib.NewWriterLevel(nil, level)
	return &gzipCompressor{w: w}, err
}

func (c *gzipCompressor) Compress(dst, src []byte) ([]byte, error) {
	c.w.Reset(&c.out)
	return streamed(&c.out, c.w, dst, src)
}

// A zstdGo encoder runs on the caller's goroutine alone.
// The kernel refuses a window larger than the block, which EncodeAll keeps to
// by making a frame of a single segment.
type zstdGo struct{ enc *zstd.Encoder }

func newZstdGo(level, blockSize int) (Compressor, error) {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevel(level)),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithWindowSize(max(blockSize, zstd.MinWindowSize)))
	return &zstdGo{enc}, err
}

func (c *zstdGo) Compress(dst, src []byte) ([]byte, error) {
	return smaller(c.enc.EncodeAll(src, dst[:0]), src), nil
}

func zstdOptions(level, _ int) []uint32 { return []uint32{uint32(level)} }

// smaller returns out if it is smaller than src.
func smaller(out, src []byte) []byte {
	if len(out) < len(src) {
		return out
	}
	return nil
}

type lz4Fast struct{ c lz4.Compressor }

type lz4HC struct{ c lz4.CompressorHC }

func newLZ4(level, _ int) (Compressor, error) {
	if level == 0 {
		return &lz4Fast{}, nil
	}
	return &lz4HC{lz4.CompressorHC{Level: lz4.CompressionLevel(1 << (8 + level))}}, nil
}

// A block that does not fit is reported by pierrec/lz4 as 0 bytes, now and then as an error.
func (c *lz4Fast) Compress(dst, src []byte) ([]byte, error) {
	return lz4Block(c.c.CompressBlock, dst, src)
}

func (c *lz4HC) Compress(dst, src []byte) ([]byte, error) {
	return lz4Block(c.c.CompressBlock, dst, src)
}

func lz4Block(compress func(src, dst []byte) (int, error), dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return nil, nil
	}
	dst = slice(dst, len(src)-1)
	n, err := compress(src, dst[:cap(dst)])
	switch {
	case errors.Is(err, lz4.ErrInvalidSourceShortBuffer), err == nil && n == 0:
		return nil, nil
	case err != nil:
		return nil, err
	}
	return dst[:n], nil
}

type xzCompressor struct{ config xz.WriterConfig }

// xzDict is the size of the dictionary: that of a block, but the kernel takes none below 8 KiB.
func xzDict(blockSize int) int { return max(blockSize, 8<<10) }

// The kernel wants CRC32 checks, and no dictionary larger than it has been told of.
func newXZ(_, blockSize int) (Compressor, error) {
	c := xz.WriterConfig{DictCap: xzDict(blockSize), CheckSum: xz.CRC32}
	return &xzCompressor{c}, c.Verify()
}

func (c *xzCompressor) Compress(dst, src []byte) ([]byte, error) {
	var buf bytes.Buffer
	w, err := c.config.NewWriter(&buf)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(src); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return smaller(append(dst[:0], buf.Bytes()...), src), nil
}
