package squash

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// factsDir is the folder of a cache with what inspectors have found in objects: a store of its own.
const factsDir = "gpu"

// newSurvey returns one that recalls what a cache has, and what those have that are relied on.
func newSurvey(rt *Runtime, cache *Cache, list []inspect.Inspector) *inspect.Survey {
	s := &inspect.Survey{Inspectors: append(list, rt.Inspectors...), TempDir: rt.TempDir, Workers: rt.Workers, Note: rt.Note}
	if cache != nil && cache.known != nil {
		s.Kept = inspect.Kept(cache.known)
	}
	for _, from := range rt.From {
		if c, ok := from.(*Cache); ok && c.known != nil {
			s.Others = append(s.Others, inspect.Kept(c.known))
		}
	}
	return s
}

// Inspect returns what inspectors find in the objects of a closure.
// What rt.Cache knows is not looked for again, nor what an earlier call has found.
// Files are not compared with their NAR hashes, so what is found in them is kept apart:
// a build does not rely on it.
func Inspect(ctx context.Context, c *closure.Closure, rt *Runtime, list ...inspect.Inspector) (map[closure.Path]inspect.Facts, error) {
	if rt == nil {
		rt = &Runtime{}
	}
	s := newSurvey(rt, rt.Cache, list)
	if rt.Cache != nil && rt.Cache.known != nil {
		s.Seen = inspect.KeptSeen(rt.Cache.known)
	}
	return s.Complete(ctx, c.Objects(), c.Files)
}

// facts returns what inspectors find in objects, whose files are in fsys as by [store.files].
// What has a segment was compared with its NAR hash, so what is found there is kept.
func (st *store) facts(ctx context.Context, objects []closure.Object, fsys fs.FS) (map[closure.Path]inspect.Facts, error) {
	for _, o := range objects {
		s := st.segments[o.Path]
		if s == nil || st.survey.Knows(o) {
			continue
		}
		if err := st.check(ctx, s); err != nil {
			return nil, err
		}
		if err := st.survey.Prove(o); err != nil {
			return nil, err
		}
	}
	return st.survey.Complete(ctx, objects, fsys)
}

// check compares the data of a segment with its checksums.
// If they differ it drops it, and returns errDropped.
func (st *store) check(ctx context.Context, s *segment) error {
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
	key := inspect.Key(m.narHash)
	if v.cache.known == nil || v.done[key] {
		return nil
	}
	v.done[key] = true
	kept, err := inspect.Kept(v.cache.known).Get(m.narHash)
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

func (v *factsVerifier) compare(ctx context.Context, kept inspect.Facts, s *segment, m *entryMeta) error {
	fsys, err := s.files(ctx, m.options())
	if err != nil {
		return err
	}
	return inspect.Check(ctx, kept, image.Inspectors(), fsys, treeName)
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
