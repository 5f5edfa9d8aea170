package squash

import (
	"context"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// Foresee tells what a build with these options would compress. Nothing is written, and no file is read.
func Foresee(ctx context.Context, c *closure.Closure, opts *squashfs.Options, rt *image.Runtime) (*image.Forecast, error) {
	opts, rt, err := check(&image.Image{Closure: c}, opts, rt)
	if err != nil {
		return nil, err
	}
	_, encoding, err := complete(opts, squashfs.DefaultModTime)
	if err != nil {
		return nil, err
	}
	return rt.Foresee(ctx, c.Objects(), func(o *closure.Object) cache.Key {
		return (&entryMeta{o.NARHash, encoding}).key()
	})
}
