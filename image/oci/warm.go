package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
)

// Warm compresses the objects of a closure that have no blob in rt.Cache yet.
// It returns how many objects it was about, and how many of them it compressed.
//
// Of n shards, all of the same closure, shard i has an n-th of the objects: see [closure.Closure.Shard].
// A shard that is all of them also finds out what is to be known of the layers,
// for which the first build after several shards goes through the blobs.
func Warm(ctx context.Context, c *closure.Closure, opts *Options, rt *Runtime, i, n int) (objects, encoded int, err error) {
	if rt == nil || rt.Cache == nil {
		return 0, 0, errors.New("oci: warm: there is no cache")
	}
	if i < 0 || i >= n {
		return 0, 0, fmt.Errorf("oci: warm: no shard %d of %d", i, n)
	}
	if opts == nil {
		opts = &Options{}
	}
	coding, err := newCoding(opts.Compression, opts.Level)
	if err != nil {
		return 0, 0, err
	}
	s, err := newStore(ctx, rt, coding, c, image.Inspectors())
	if err != nil {
		return 0, 0, err
	}
	defer s.Close()
	objects, encoded, err = s.warm(opts, i, n)
	for errors.Is(err, errDropped) {
		objects, encoded, err = s.warm(opts, i, n)
	}
	return objects, encoded, err
}

func (s *store) warm(opts *Options, i, n int) (objects, encoded int, err error) {
	layers, units, err := s.layers(opts)
	if err != nil {
		return 0, 0, err
	}
	shard := s.closure.Shard(i, n)
	if err := s.adopt(unitsOf(shard, units)); err != nil {
		return 0, 0, err
	}
	s.observe = true
	missing := new(job)
	for u := range unitsOf(shard, units) {
		absent, err := s.isAbsent(u)
		if err != nil {
			return 0, 0, err
		}
		if absent {
			missing.units = append(missing.units, u)
		}
	}
	if n == 1 {
		err = s.makeLayers(layers)
	} else {
		err = s.encode(s.ctx, []*job{missing})
	}
	if err != nil {
		return 0, 0, err
	}
	files := s.overlay(s.closure, units)
	defer files.close()
	if err := s.survey.Prove(shard...); err != nil {
		return 0, 0, err
	}
	_, err = s.survey.Complete(s.ctx, shard, files)
	return len(shard), len(missing.units), err
}
