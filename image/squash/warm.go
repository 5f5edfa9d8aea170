package squash

import (
	"context"
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// Warm encodes the objects of a closure that have no segment in rt.Cache yet.
// What cannot be kept there is an error.
//
// Of n shards, all of the same closure, shard i has an n-th of the objects, by their sizes.
// So n machines that share a cache can do the work together.
func Warm(ctx context.Context, c *closure.Closure, opts *squashfs.Options, rt *image.Runtime, i, n int) (*image.Warmed, error) {
	opts, rt, err := check(&image.Image{Closure: c}, opts, rt)
	if err != nil {
		return nil, err
	}
	if rt.Cache == nil {
		return nil, errors.New("squash: warm: there is no cache")
	}
	if i < 0 || i >= n {
		return nil, fmt.Errorf("squash: warm: no shard %d of %d", i, n)
	}
	shelf := rt.Shelf().Strict()
	defer shelf.Close()
	for {
		done, err := warm(ctx, c, opts, rt, shelf, i, n)
		if err != errDropped {
			return done, err
		}
	}
}

func warm(ctx context.Context, c *closure.Closure, opts *squashfs.Options, rt *image.Runtime, shelf *cache.Shelf, i, n int) (*image.Warmed, error) {
	st, err := newSegments(opts, rt, shelf, image.GPU{})
	if err != nil {
		return nil, err
	}
	defer st.close()
	b := &build{objects: c.Shard(i, n), files: c.Files}
	for _, o := range b.objects {
		b.narSize += o.NARSize
	}
	if _, err := st.find(ctx, b.objects); err != nil {
		return nil, err
	}
	st.observe = true
	done := &image.Warmed{Objects: len(b.objects)}
	if done.Encoded, err = st.encode(ctx, b); err != nil {
		return nil, err
	}
	// What was fetched, or had a segment but no facts, is looked at in the segments.
	files, err := st.files(ctx, c)
	if err != nil {
		return nil, err
	}
	if _, err = st.facts(ctx, b.objects, files); err != nil {
		return nil, err
	}
	return done, nil
}
