package squash

import (
	"context"
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
)

// Warm encodes the objects of a closure that have no segment in rt.Cache yet.
// It returns how many objects it was about, and how many of them it encoded.
//
// Of n shards, all of the same closure, shard i has an n-th of the objects, by their sizes.
// So n machines that share a cache can do the work together.
func Warm(ctx context.Context, c *closure.Closure, opts *Options, rt *Runtime, i, n int) (objects, encoded int, err error) {
	if rt == nil || rt.Cache == nil {
		return 0, 0, errors.New("squash: warm: there is no cache")
	}
	if i < 0 || i >= n {
		return 0, 0, fmt.Errorf("squash: warm: no shard %d of %d", i, n)
	}
	if opts == nil {
		opts = &Options{}
	}
	damaged := make(map[closure.Hash]bool)
	for {
		objects, encoded, err = warm(ctx, c, opts, rt, damaged, i, n)
		if err != errDropped {
			return objects, encoded, err
		}
	}
}

func warm(ctx context.Context, c *closure.Closure, opts *Options, rt *Runtime, damaged map[closure.Hash]bool, i, n int) (objects, encoded int, err error) {
	st, err := newStore(opts, rt, rt.Cache, image.Inspectors(), damaged)
	if err != nil {
		return 0, 0, err
	}
	defer st.close()
	b := &build{objects: c.Shard(i, n), files: c.Files}
	for _, o := range b.objects {
		b.narSize += o.NARSize
	}
	if _, err := st.find(ctx, b.objects); err != nil {
		return 0, 0, err
	}
	st.observe = true
	if encoded, err = st.encode(ctx, b); err != nil {
		return 0, 0, err
	}
	// What was fetched, or had a segment but no facts, is looked at in the segments.
	files, err := st.files(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	_, err = st.facts(ctx, b.objects, files)
	return len(b.objects), encoded, err
}
