package oci

import (
	"context"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
)

// Foresee tells what a build with these options would compress. Nothing is written, and no file is read.
func Foresee(ctx context.Context, c *closure.Closure, opts *Options, rt *image.Runtime) (*image.Forecast, error) {
	if c == nil {
		return nil, fmt.Errorf("oci: %w", closure.ErrNoFiles)
	}
	if opts == nil {
		opts = new(Options)
	}
	if rt == nil {
		rt = new(image.Runtime)
	}
	coding, err := newCoding(opts.Compression, opts.Level)
	if err != nil {
		return nil, err
	}
	return rt.Foresee(ctx, c.Objects(), coding.blobKey)
}
