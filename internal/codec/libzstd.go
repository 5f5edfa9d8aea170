//go:build cgo

package codec

import (
	"runtime"

	"github.com/DataDog/zstd"
)

var libzstd = &Codec{
	Name: "zstd", ID: ZSTD, Module: "github.com/DataDog/zstd",
	Min: 1, Max: 22, Default: 3, newCompressor: newLibzstd,
	options: zstdOptions,
}

// libzstd sizes its window by the input, so it never exceeds the block.
type libzstdCompressor struct {
	ctx   zstd.Ctx
	level int
}

func newLibzstd(level, _ int) (Compressor, error) {
	return &libzstdCompressor{zstd.NewCtx(), level}, nil
}

func (c *libzstdCompressor) Compress(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return nil, nil
	}
	out, err := c.ctx.CompressLevel(dst[:cap(dst)], src, c.level)
	runtime.KeepAlive(c.ctx) // its finalizer must not free what C code is using
	return smaller(out, src), err
}
