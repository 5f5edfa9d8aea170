package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/squashfs"
)

// forecast is what "build --dry-run --json" prints.
type forecast struct {
	File        string         `json:"file"`
	Format      string         `json:"format"`
	StorePaths  int            `json:"storePaths"`
	NARSize     int64          `json:"narSize"`     // bytes, of all store paths
	Cached      int            `json:"cached"`      // store paths that are compressed already
	CachedSize  int64          `json:"cachedSize"`  // bytes of those, compressed: about the size of the image, if nothing is missing
	Missing     []closure.Path `json:"missing"`     // store paths that would be compressed
	MissingSize int64          `json:"missingSize"` // bytes of those, before
}

// sayForecast says what a build would do.
func (b *builder) sayForecast(ctx context.Context, img *image.Image, opts *squashfs.Options) error {
	f, err := b.foresee(ctx, img.Closure, opts)
	if err != nil {
		return err
	}
	res := &forecast{
		File: b.output, Format: b.format(), StorePaths: len(img.Closure.Objects()), NARSize: img.Closure.NARSize(),
		Cached: f.Found, CachedSize: f.Size,
	}
	if b.oci.any() {
		res.Format, res.File = b.oci.output()
	} else if res.File == "" {
		res.File = b.defaultOutput(img.Closure)
	}
	for _, o := range f.Missing {
		res.Missing = append(res.Missing, o.Path)
		res.MissingSize += o.NARSize
	}
	if b.asJSON {
		return printEnvelope(b.ui, "build dry-run", res)
	}
	return res.print(b.ui, f.Missing)
}

func (res *forecast) print(u *ui, missing []closure.Object) error {
	var text strings.Builder
	for _, o := range missing {
		fmt.Fprintf(&text, "compress %s  %s\n", formatSize(o.NARSize), o.Path)
	}
	fmt.Fprintf(&text, "%s would have %s (%s): %d in the cache (%s compressed), %d to compress (%s)\n", res.File,
		plural(res.StorePaths, "store path"), formatSize(res.NARSize), res.Cached, formatSize(res.CachedSize), len(res.Missing), formatSize(res.MissingSize))
	return u.resultf("%s", text.String())
}

// tellForecast says how much of a build is done already.
func (b *builder) tellForecast(ctx context.Context, c *closure.Closure, opts *squashfs.Options) error {
	f, err := b.foresee(ctx, c, opts)
	if err != nil {
		return err
	}
	var missing int64
	for _, o := range f.Missing {
		missing += o.NARSize
	}
	b.ui.detailf("%d of %s are in the cache; %s to compress", f.Found, plural(len(c.Objects()), "store path"), formatSize(missing))
	return nil
}

func (b *builder) foresee(ctx context.Context, c *closure.Closure, opts *squashfs.Options) (*image.Forecast, error) {
	rt := b.caching.runtime(b.ui, newProgress(b.ui, time.Now), b.encode.jobs)
	if !b.oci.any() {
		return squash.Foresee(ctx, c, opts, rt)
	}
	layers, err := b.oci.options(b)
	if err != nil {
		return nil, err
	}
	return oci.Foresee(ctx, c, layers, rt)
}
