package sif

import (
	"context"
	"fmt"
	"io"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Stream writes img to w, from its first byte to its last, as a pipe wants it.
// The bytes are those of [Write]. A nil opts or rt means the zero value.
//
// All segments must be there before the first byte is written, so without a cache
// they are spooled in temporary files.
func Stream(ctx context.Context, w io.Writer, img *image.Image, opts *Options, rt *image.Runtime) (*Result, error) {
	if opts == nil {
		opts = new(Options)
	}
	if err := check(img); err != nil {
		return nil, err
	}
	if w == nil {
		return nil, errNoOutput
	}
	plan, err := squash.Prepare(ctx, img, &opts.Squashfs, rt)
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	// Once something has been written, there is no way back.
	if err := plan.Check(ctx); err != nil {
		return nil, err
	}
	f, err := opts.frame(ctx, plan, &plan.Result)
	if err != nil {
		return nil, err
	}
	w = ctxio.Writer(ctx, w)
	if _, err = w.Write(f.head()); err == nil {
		if _, err = plan.WriteTo(w); err == nil {
			_, err = w.Write(f.tail.Bytes())
		}
	}
	if err != nil {
		return nil, fmt.Errorf("sif: write: %w", err)
	}
	return opts.result(&plan.Result, f), nil
}
