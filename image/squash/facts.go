package squash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// factsDir is the folder of a cache with what package gpu has found in objects: a store of its own.
const factsDir = "gpu"

// factsKey is where facts are found. Unlike a segment they do not depend on an encoding.
func factsKey(h closure.Hash) cas.Key {
	return sha256.Sum256(fmt.Appendf(nil, "gpu facts %d\n%x\n", gpu.FactsVersion, h))
}

// seenKey is where facts are found about files that were not compared with the NAR hash.
// No image is made of them.
func seenKey(h closure.Hash) cas.Key {
	return sha256.Sum256(fmt.Appendf(nil, "gpu facts %d, not verified\n%x\n", gpu.FactsVersion, h))
}

// facts looks up what is known of an object, under one of its keys.
// The error wraps fs.ErrNotExist if that is nothing.
func (c *Cache) facts(k cas.Key) (*gpu.Facts, error) {
	if c.known == nil {
		return nil, fs.ErrNotExist
	}
	e, err := c.known.Get(k)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	f := new(gpu.Facts)
	return f, json.Unmarshal(e.Meta, f)
}

// keepFacts puts facts into the cache.
func (c *Cache) keepFacts(k cas.Key, f *gpu.Facts) error {
	if c == nil || c.known == nil {
		return nil
	}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	w, err := c.known.Create(k)
	if err != nil {
		return err
	}
	e, err := w.Commit(data)
	if err != nil {
		return err
	}
	return e.Close()
}

// Inspect returns what package gpu finds in the objects of a closure.
// What rt.Cache knows is not looked for again, nor what an earlier call has found.
// Files are not compared with their NAR hashes, so what is found in them is kept apart:
// a build does not rely on it.
func Inspect(ctx context.Context, c *closure.Closure, rt *Runtime) (map[closure.Path]*gpu.Facts, error) {
	facts := make(map[closure.Path]*gpu.Facts)
	var unknown []closure.Object
	var names []string
	for _, o := range c.Objects() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if rt.Cache != nil && !o.NARHash.IsZero() {
			f, err := rt.Cache.facts(factsKey(o.NARHash))
			if err != nil {
				f, err = rt.Cache.facts(seenKey(o.NARHash))
			}
			if err == nil {
				facts[o.Path] = f
				continue
			}
		}
		unknown, names = append(unknown, o), append(names, o.Path.Base())
	}
	found, err := gpu.InspectAll(ctx, c.Files, names, &gpu.Runtime{Workers: rt.Workers})
	if err != nil {
		return nil, err
	}
	for i, o := range unknown {
		facts[o.Path] = found[i]
		if o.NARHash.IsZero() {
			continue
		}
		if err := rt.Cache.keepFacts(seenKey(o.NARHash), found[i]); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// facts returns what package gpu finds in objects, whose files are in fsys as by [store.files].
//
// What the cache has is not looked for again. What has a segment was compared with its NAR hash, so what is found there is kept.
// Everything else is not kept before it has a segment.
func (st *store) facts(ctx context.Context, objects []closure.Object, fsys fs.FS) (map[closure.Path]*gpu.Facts, error) {
	facts := make(map[closure.Path]*gpu.Facts)
	var unknown []closure.Object
	var names []string
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := st.found(o.Path)
		if f == nil {
			f = st.lookupFacts(o)
		}
		if f != nil {
			facts[o.Path] = f
			continue
		}
		if err := st.check(ctx, st.segments[o.Path]); err != nil {
			return nil, err
		}
		unknown, names = append(unknown, o), append(names, o.Path.Base())
	}
	found, err := gpu.InspectAll(ctx, fsys, names, &gpu.Runtime{Workers: st.rt.Workers})
	if err != nil {
		return nil, err
	}
	for i, o := range unknown {
		facts[o.Path] = found[i]
		if st.segments[o.Path] == nil {
			st.early[o.Path] = found[i]
		} else if err := st.cache.keepFacts(factsKey(o.NARHash), found[i]); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// found returns what has been found in an object that had no segment, or nil.
func (st *store) found(p closure.Path) *gpu.Facts {
	if o := st.observers[p]; o != nil {
		return o.Facts()
	}
	return st.early[p]
}

// lookupFacts looks for facts wherever they can be relied on, or returns nil.
func (st *store) lookupFacts(o closure.Object) *gpu.Facts {
	caches := []*Cache{st.cache}
	for _, from := range st.rt.From {
		if c, ok := from.(*Cache); ok {
			caches = append(caches, c)
		}
	}
	for _, c := range caches {
		if c == nil {
			continue
		}
		f, err := c.facts(factsKey(o.NARHash))
		if err == nil {
			return f
		}
		if !errors.Is(err, fs.ErrNotExist) {
			st.rt.note("facts about %s: %v; they are looked for again", o.Path, err)
		}
	}
	return nil
}

// check compares the data of a segment, if there is one, with its checksums.
// If they differ it drops it, and returns errDropped.
func (st *store) check(ctx context.Context, s *segment) error {
	if s == nil {
		return nil
	}
	err := s.Check(ctxio.Reader(ctx, io.NewSectionReader(s.data, 0, s.Size())))
	if _, ok := errors.AsType[*squashfs.ChecksumError](err); !ok {
		return err
	}
	if err := st.giveUp(s.object, err); err != nil {
		return err
	}
	return errDropped
}

// factsSize returns how many bytes the facts take.
func (c *Cache) factsSize() (size int64, err error) {
	if c.known == nil {
		return 0, nil
	}
	list, err := c.known.List()
	for _, i := range list {
		size += i.Size
	}
	return size, err
}

// A factsVerifier compares facts with the objects that they are about, as their segments have them.
type factsVerifier struct {
	cache    *Cache
	done     map[cas.Key]bool
	wrong    map[cas.Key]error
	compared int
}

// verify looks for the facts about a segment's tree again, but for the first segment of several with that tree only.
func (v *factsVerifier) verify(ctx context.Context, s *segment, m *entryMeta) error {
	key := factsKey(m.narHash)
	if v.done[key] {
		return nil
	}
	v.done[key] = true
	kept, err := v.cache.facts(key)
	if err == nil {
		err = v.compare(ctx, kept, s, m)
	}
	if ctx.Err() != nil || errors.Is(err, fs.ErrNotExist) {
		return ctx.Err()
	}
	v.compared++
	if err != nil {
		v.wrong[key] = err
	}
	return nil
}

func (v *factsVerifier) compare(ctx context.Context, kept *gpu.Facts, s *segment, m *entryMeta) error {
	fsys, err := s.files(ctx, m.options())
	if err != nil {
		return err
	}
	found, err := gpu.Inspect(ctx, fsys, treeName, nil)
	if err != nil {
		return err
	}
	a, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	b, err := json.Marshal(found)
	if err == nil && !bytes.Equal(a, b) {
		err = errors.New("they are not what is found in the files")
	}
	return err
}

// sweep removes facts that are wrong, which it tells removed, and those about objects that have no segment.
func (v *factsVerifier) sweep(removed func(cas.Key, error)) error {
	if v.cache.known == nil {
		return nil
	}
	list, err := v.cache.known.List()
	for _, i := range list {
		reason := v.wrong[i.Key]
		if v.done[i.Key] && reason == nil {
			continue
		}
		if reason != nil {
			removed(i.Key, reason)
		}
		if err := v.cache.known.Remove(i.Key); err != nil {
			return err
		}
	}
	return err
}
