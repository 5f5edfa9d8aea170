package oci

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/internal/cas"
)

// factsKey is where the cache has what package gpu has found in an object.
func factsKey(o *closure.Object) cas.Key {
	return sha256.Sum256(fmt.Appendf(nil, "oci gpu facts %d\n%x\n", gpu.FactsVersion, o.NARHash))
}

// recallFacts returns what the cache has of facts about objects, and those that it has none about.
func (s *store) recallFacts(objects []closure.Object) (facts map[closure.Path]*gpu.Facts, unknown []closure.Object, err error) {
	facts = make(map[closure.Path]*gpu.Facts)
	for _, o := range objects {
		f := new(gpu.Facts)
		err := getJSON(s.cas, factsKey(&o), f)
		if errors.Is(err, fs.ErrNotExist) {
			unknown = append(unknown, o)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		facts[o.Path] = f
	}
	return facts, unknown, nil
}

// findFacts adds facts about objects: what has been seen while they were compressed, else what is found in their files.
func (s *store) findFacts(facts map[closure.Path]*gpu.Facts, objects []closure.Object, files fs.FS) error {
	var unseen []closure.Object
	var names []string
	for _, o := range objects {
		if seen := s.observers[o.Path]; seen != nil && seen.Facts() != nil {
			facts[o.Path] = seen.Facts()
		} else {
			unseen, names = append(unseen, o), append(names, o.Path.Base())
		}
	}
	found, err := gpu.InspectAll(s.ctx, files, names, &gpu.Runtime{Workers: s.rt.Workers})
	for i, f := range found {
		facts[unseen[i].Path] = f
	}
	return err
}

// keepFacts puts facts about objects into the cache. They must have been compared with their NAR hashes.
func (s *store) keepFacts(facts map[closure.Path]*gpu.Facts, objects []closure.Object) error {
	if s.rt.Cache == nil {
		return nil
	}
	for _, o := range objects {
		if err := putJSON(s.cas, factsKey(&o), facts[o.Path]); err != nil {
			return err
		}
	}
	return nil
}
