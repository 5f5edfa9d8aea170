package oci

import (
	"context"
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
)

// Warm compresses the objects of a closure that have no blob in rt.Cache yet.
// What cannot be kept there is an error.
//
// Of n shards, all of the same closure, shard i has an n-th of the objects: see [closure.Closure.Shard].
// A shard that is all of them also finds out what is to be known of the layers,
// for which the first build after several shards goes through the blobs.
func Warm(ctx context.Context, c *closure.Closure, opts *Options, rt *image.Runtime, i, n int) (*image.Warmed, error) {
	switch {
	case rt == nil || rt.Cache == nil:
		return nil, errors.New("oci: warm: there is no cache")
	case c == nil || c.Files == nil:
		return nil, fmt.Errorf("oci: warm: %w", closure.ErrNoFiles)
	case i < 0 || i >= n:
		return nil, fmt.Errorf("oci: warm: no shard %d of %d", i, n)
	}
	if opts == nil {
		opts = new(Options)
	}
	coding, err := newCoding(opts.Compression, opts.Level)
	if err != nil {
		return nil, err
	}
	s, err := newBlobs(rt, coding, c, image.GPU{}, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	s.shelf.Strict()
	done, err := s.warm(ctx, opts, i, n)
	for errors.Is(err, errDropped) {
		done, err = s.warm(ctx, opts, i, n)
	}
	return done, err
}

func (s *blobs) warm(ctx context.Context, opts *Options, i, n int) (*image.Warmed, error) {
	layers, units, err := s.layers(ctx, opts)
	if err != nil {
		return nil, err
	}
	shard := s.closure.Shard(i, n)
	if err := s.adopt(ctx, unitsOf(shard, units)); err != nil {
		return nil, err
	}
	s.observe = true
	missing := new(job)
	for u := range unitsOf(shard, units) {
		absent, err := s.isAbsent(ctx, u)
		if err != nil {
			return nil, err
		}
		if absent {
			missing.units = append(missing.units, u)
		}
	}
	if n == 1 {
		err = s.makeLayers(ctx, layers)
	} else {
		err = s.encode(ctx, []*job{missing})
	}
	if err != nil {
		return nil, err
	}
	if err := s.survey.Prove(shard...); err != nil {
		return nil, err
	}
	if _, err = s.survey.Complete(ctx, shard, s.overlay(ctx, s.closure, units)); err != nil {
		return nil, err
	}
	return &image.Warmed{Objects: len(shard), Encoded: len(missing.units)}, nil
}
