package oci

import (
	"context"
	"errors"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
)

// makeLayers finds out what is to be known of layers.
// Of those that the cache knows, nothing is read.
func (s *blobs) makeLayers(ctx context.Context, layers []*Layer) (err error) {
	var jobs []*job
	var missing []*Layer
	defer func() {
		if err != nil {
			for _, j := range jobs {
				j.sum.stop()
			}
		}
	}()
	for _, l := range layers {
		begin := s.chain(s.closure.StoreDir())
		known, err := s.known(ctx, l, begin)
		if err != nil {
			return err
		}
		if known {
			s.skip(l)
			continue
		}
		sum, err := s.newLayerSum(ctx, l.units, begin)
		if err != nil {
			return err
		}
		missing, jobs = append(missing, l), append(jobs, &job{sum.rest, sum})
	}
	if err := s.encode(ctx, jobs); err != nil {
		if _, ok := errors.AsType[*WhiteoutError](err); ok {
			return s.whiteouts(layers, err)
		}
		return err
	}
	for i, l := range missing {
		sum, err := jobs[i].sum.finish()
		if err != nil {
			return err
		}
		l.summary, l.file = *sum, jobs[i].sum.file
	}
	return nil
}

// known reports whether a cache knows a layer, and fills in what it knows.
func (s *blobs) known(ctx context.Context, l *Layer, c chain) (bool, error) {
	for _, u := range l.units {
		if u.object == nil {
			return false, nil
		}
		c = c.add(u.object)
	}
	err := s.shelf.Recall(ctx, c.layerKey(), &l.summary)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// whiteouts lists all files that no layer can hold, of which err has the first.
// Nothing is fetched once more for that.
func (s *blobs) whiteouts(layers []*Layer, err error) error {
	if _, remote := s.closure.Files.(closure.Fetcher); remote {
		return err
	}
	e := new(WhiteoutError)
	for _, l := range layers {
		for _, u := range l.units {
			found, err := findWhiteouts(&u.source)
			if err != nil {
				return err
			}
			e.Paths = append(e.Paths, found...)
		}
	}
	return e
}
