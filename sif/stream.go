package sif

import (
	"context"
	"fmt"
	"io"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
)

// Stream writes img to w, from its first byte to its last, as a pipe wants it.
// The bytes are those of [Write]. A nil opts or rt means the zero value.
//
// All segments must be there before the first byte is written, so without a cache
// they are spooled in temporary files.
func Stream(ctx context.Context, w io.Writer, img *image.Image, opts *Options, rt *Runtime) (*Result, error) {
	if opts == nil {
		opts = new(Options)
	}
	if err := checkConfig(img); err != nil {
		return nil, err
	}
	plan, err := squash.Prepare(ctx, img, &opts.Options, rt)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	// Once something has been written, there is no way back.
	if err := plan.Check(ctx); err != nil {
		return nil, err
	}
	f := &frame{hole: plan.Size}
	res, err := finish(ctx, f, plan, opts, &plan.Result)
	if err != nil {
		return nil, err
	}
	for _, write := range []func() error{
		func() error { _, err := w.Write(f.head[:]); return err },
		func() error { _, err := plan.WriteTo(w); return err },
		func() error { _, err := w.Write(f.tail); return err },
	} {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := write(); err != nil {
			return nil, fmt.Errorf("sif: write: %w", err)
		}
	}
	return res, nil
}

// A frame is a SIF in memory, but for its partition, which is a hole of so many bytes.
type frame struct {
	head [PartitionOffset]byte
	hole int64
	tail []byte
}

func (f *frame) WriteAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	after := PartitionOffset + f.hole
	switch {
	case off >= 0 && end <= PartitionOffset:
		return copy(f.head[off:], p), nil
	case off >= after:
		if grow := end - after - int64(len(f.tail)); grow > 0 {
			f.tail = append(f.tail, make([]byte, grow)...)
		}
		return copy(f.tail[off-after:], p), nil
	}
	return 0, fmt.Errorf("sif: write %d bytes at %d: the partition is there", len(p), off)
}

func (f *frame) ReadAt(p []byte, off int64) (int, error) {
	return 0, fmt.Errorf("sif: read at %d: not while it is being written", off)
}

func (f *frame) Truncate(int64) error { return nil }
