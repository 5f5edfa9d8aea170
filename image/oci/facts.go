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

// facts returns what package gpu finds in objects, and those of them about which the cache knew nothing.
func (s *store) facts(objects []closure.Object, files fs.FS) (facts map[closure.Path]*gpu.Facts, unknown []closure.Object, err error) {
	facts = make(map[closure.Path]*gpu.Facts)
	var names []string
	for _, o := range objects {
		f := new(gpu.Facts)
		err := getJSON(s.cas, factsKey(&o), f)
		if err == nil {
			facts[o.Path] = f
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, nil, err
		}
		unknown, names = append(unknown, o), append(names, o.Path.Base())
	}
	found, err := gpu.InspectAll(s.ctx, files, names, &gpu.Runtime{Workers: s.rt.Workers})
	for i, f := range found {
		facts[unknown[i].Path] = f
	}
	return facts, unknown, err
}

// keepFacts puts facts into the cache. The objects must have been compared with their NAR hashes.
func (s *store) keepFacts(facts map[closure.Path]*gpu.Facts, unknown []closure.Object) error {
	for _, o := range unknown {
		if err := putJSON(s.cas, factsKey(&o), facts[o.Path]); err != nil {
			return err
		}
	}
	return nil
}
