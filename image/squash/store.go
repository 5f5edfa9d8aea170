package squash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// A store has the segments of a closure, as far as they have been found or made.
type store struct {
	rt       *Runtime
	cache    *Cache // where segments are kept, or nil
	opts     squashfs.Options
	encoding image.Encoding
	segments map[closure.Path]*segment
	damaged  map[closure.Hash]bool // what no source is asked for any more
	keepers  []*keeper
	base     *cas.Writer // data of the base files

	// Objects that have no segment are looked at before they are encoded, or while they are.
	observe bool // while
	survey  *inspect.Survey
}

func newStore(opts *Options, rt *Runtime, cache *Cache, list []inspect.Inspector, damaged map[closure.Hash]bool) (st *store, err error) {
	st = &store{rt: rt, cache: cache, damaged: damaged, segments: make(map[closure.Path]*segment), survey: newSurvey(rt, cache, list)}
	st.opts, st.encoding, err = opts.complete(squashfs.DefaultModTime)
	return st, err
}

func (st *store) close() {
	st.survey.Close()
	for _, s := range st.segments {
		s.close()
	}
	for _, k := range st.keepers {
		if k.w != nil {
			k.w.Discard()
		}
	}
	if st.base != nil {
		st.base.Discard()
	}
}

// find opens the segments of objects that exist, and returns the objects that have none.
func (st *store) find(ctx context.Context, objects []closure.Object) (missing []closure.Object, err error) {
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := st.lookup(ctx, o)
		if err != nil {
			return nil, err
		}
		if s == nil {
			missing = append(missing, o)
		} else {
			st.segments[o.Path] = s
		}
	}
	return missing, nil
}

// lookup looks for the segment of an object everywhere. Nil means that there is none.
// What the cache has was checked when it came in, so it is asked first.
func (st *store) lookup(ctx context.Context, o closure.Object) (*segment, error) {
	if st.cache != nil && !st.damaged[o.NARHash] {
		s, err := st.cache.segment(ctx, o, &st.encoding)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			st.rt.note("%v; it is made again", err)
			if err := st.drop(o); err != nil {
				return nil, err
			}
		}
	}
	if st.damaged[o.NARHash] {
		return nil, nil
	}
	for _, from := range st.rt.From {
		s, err := from.segment(ctx, o, &st.encoding)
		if err == nil {
			s, err = st.adopt(ctx, s)
			if _, full := errors.AsType[*CacheError](err); err == nil || full {
				return s, err
			}
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, fs.ErrNotExist):
			st.rt.note("%v; it is not used", err)
		}
	}
	return nil, nil
}

// drop removes the segment of an object from the cache.
func (st *store) drop(o closure.Object) error {
	if st.cache == nil {
		return nil
	}
	m := entryMeta{o.NARHash, st.encoding}
	err := st.cache.store.Remove(m.key())
	if errors.Is(err, fs.ErrPermission) {
		err = nil // it is of another user, and will be overwritten or left
	}
	return err
}

// errDropped says that the cache had damaged segments, and has them no more.
var errDropped = errors.New("damaged segments have been dropped")

// blame looks for the reason of an error where segments were read.
// If their data are not what they were, it drops them and returns errDropped, else the error.
func (st *store) blame(ctx context.Context, err error) error {
	if err == errDropped {
		return err
	}
	for _, s := range st.segments {
		found := s.Check(ctxio.Reader(ctx, io.NewSectionReader(s.data, 0, s.Size())))
		if _, ok := errors.AsType[*squashfs.ChecksumError](found); !ok {
			continue
		}
		if err := st.giveUp(s.object, found); err != nil {
			return err
		}
		err = errDropped
	}
	return err
}

// giveUp drops a segment whose data are damaged, wherever they come from, and says so.
func (st *store) giveUp(o closure.Object, reason error) error {
	if st.damaged[o.NARHash] {
		return reason // it has been made again, and again it is damaged
	}
	st.damaged[o.NARHash] = true
	st.rt.note("segment of %s: %v; it is made again", o.Path, reason)
	return st.drop(o)
}

// adopt copies the segment of an object, from elsewhere, to where nobody else can change it,
// and checks it there. Without a cache, what can be relied on is not copied.
func (st *store) adopt(ctx context.Context, s *segment) (*segment, error) {
	to := cas.Temporary(st.rt.TempDir)
	if st.rt.Cache != nil {
		to = st.rt.Cache.store
	} else if !s.foreign {
		return s, nil
	}
	defer s.close()
	m := entryMeta{s.object.NARHash, st.encoding}
	w, err := to.Create(m.key())
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(w, ctxio.Reader(ctx, io.NewSectionReader(s.data, 0, s.Size())))
	if err == nil && s.foreign {
		err = (&segment{Segment: s.Segment, data: w}).verify(ctx, m.narHash, m.options())
	}
	if err != nil {
		w.Discard()
		return nil, fmt.Errorf("segment of %s from elsewhere: %w", s.object.Path, err)
	}
	return m.commit(w, s.Segment, s.object)
}

// encode makes the segments that are missing, and returns how many these were.
func (st *store) encode(ctx context.Context, b *build) (int, error) {
	defer st.fetch(ctx, b)()
	trees, skipped := st.trees(ctx, b)
	missing := slices.DeleteFunc(trees, func(t squashfs.Tree) bool { return t.Segment() != nil })
	return len(missing), squashfs.Encode(ctx, missing, &st.opts, b.runtime(st.rt, skipped))
}

// trees returns the trees of all objects, and how many bytes of them need not be read.
// Those that have no segment are to be encoded, and kept if there is a cache.
func (st *store) trees(ctx context.Context, b *build) (trees []squashfs.Tree, skipped int64) {
	for _, o := range b.objects {
		if s := st.segments[o.Path]; s != nil {
			trees = append(trees, squashfs.SegmentTree(place(o.Path), s.Segment, s.data))
			skipped += o.NARSize
			continue
		}
		t := squashfs.FileTree(place(o.Path), b.files, o.Path.Base())
		remote := b.remote([]closure.Object{o})
		if remote {
			t = squashfs.NodeTree(place(o.Path), fetched{b.fetch.Tree(o.Path)})
		}
		if st.cache != nil {
			k := &keeper{st: st, o: o}
			st.keepers = append(st.keepers, k)
			t.Keep = k
		}
		var watching closure.Observers
		if st.cache != nil || remote || !st.rt.SkipVerify {
			watching = append(watching, narhash.NewVerifier(o))
		}
		if st.observe {
			again := b.files
			if remote {
				again = nil
			}
			if observer := st.survey.Observe(ctx, o, again); observer != nil {
				watching = append(watching, observer)
			}
		}
		if len(watching) > 0 {
			t.Observer = watching
		}
		trees = append(trees, t)
	}
	return trees, skipped
}

// A keeper puts the segment of an object into the cache.
type keeper struct {
	st *store
	o  closure.Object
	w  *cas.Writer
}

func (k *keeper) meta() *entryMeta { return &entryMeta{k.o.NARHash, k.st.encoding} }

// begin begins the entry, if it has not been begun.
func (k *keeper) begin() (err error) {
	if k.w == nil {
		k.w, err = k.st.cache.store.Create(k.meta().key())
	}
	return err
}

func (k *keeper) Write(p []byte) (int, error) {
	if err := k.begin(); err != nil {
		return 0, err
	}
	return k.w.Write(p)
}

func (k *keeper) Done(s *squashfs.Segment) error {
	if err := k.begin(); err != nil {
		return err
	}
	w := k.w
	k.w = nil
	seg, err := k.meta().commit(w, s, k.o)
	if err != nil {
		return err
	}
	k.st.segments[k.o.Path] = seg
	return k.st.survey.Prove(k.o)
}
