package squash

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/squashfs"
)

// segments are those of a closure, as far as they have been found or made.
type segments struct {
	rt       *image.Runtime
	shelf    *cache.Shelf
	opts     squashfs.Options
	encoding image.Encoding
	found    map[closure.Path]*segment
	keepers  []*keeper

	// Objects that have no segment are looked at before they are encoded, or while they are.
	observe bool // while
	survey  *inspect.Survey
}

func newSegments(opts *squashfs.Options, rt *image.Runtime, shelf *cache.Shelf, use image.GPU) (st *segments, err error) {
	st = &segments{rt: rt, shelf: shelf, found: make(map[closure.Path]*segment), survey: rt.Survey(shelf, use)}
	st.opts, st.encoding, err = complete(opts, squashfs.DefaultModTime)
	return st, err
}

func (st *segments) close() {
	st.survey.Close()
	for _, k := range st.keepers {
		if k.w != nil {
			k.w.Discard()
		}
	}
}

// find looks for the segments of objects, and returns the objects that have none.
func (st *segments) find(ctx context.Context, objects []closure.Object) (missing []closure.Object, err error) {
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := cache.Get(ctx, st.shelf, st.want(o))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, o)
		case err != nil:
			return nil, err
		default:
			st.found[o.Path] = s
		}
	}
	return missing, nil
}

func (st *segments) meta(o closure.Object) *entryMeta { return &entryMeta{o.NARHash, st.encoding} }

// segmentName is what messages call the segment of an object.
func segmentName(o closure.Object) string { return "segment of " + string(o.Path) }

// want says which segment is looked for.
func (st *segments) want(o closure.Object) *cache.Want[*segment] {
	return &cache.Want[*segment]{
		Key:  st.meta(o).key(),
		Name: segmentName(o),
		Decode: func(e *cache.Entry) (*segment, error) {
			s, meta, err := readEntry(e)
			if err != nil {
				return nil, err
			}
			if meta.key() != st.meta(o).key() {
				return nil, errors.New("it is of something else")
			}
			s.object = o
			return s, nil
		},
		Prove: func(ctx context.Context, s *segment) error { return s.verify(ctx, o, &st.opts) },
	}
}

// errDropped says that there were segments of no use, and that they are there no more.
var errDropped = errors.New("segments have been dropped")

// isDamage reports whether an error is about data that are not what they were.
func isDamage(err error) bool {
	_, ok := errors.AsType[*squashfs.ChecksumError](err)
	return ok || errors.Is(err, cache.ErrDamaged)
}

// blame looks for the reason of an error where segments were read.
// If their data are not what they were, or cannot be read, it drops them and returns errDropped, else the error.
func (st *segments) blame(ctx context.Context, err error) error {
	if err == errDropped || ctx.Err() != nil {
		return err
	}
	for _, s := range st.found {
		reason := s.check(ctx)
		if reason == nil {
			continue
		}
		if err = st.giveUp(ctx, s, reason); err != errDropped {
			return err
		}
	}
	return err
}

// giveUp drops a segment for a reason, and returns errDropped.
func (st *segments) giveUp(ctx context.Context, s *segment, reason error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := st.shelf.GiveUp(st.meta(s.object).key(), segmentName(s.object), reason, isDamage(reason)); err != nil {
		return err
	}
	return errDropped
}

// encode makes the segments that are missing, and returns how many these were.
func (st *segments) encode(ctx context.Context, b *build) (int, error) {
	defer st.fetch(ctx, b)()
	trees, skipped := st.trees(ctx, b, true)
	missing := slices.DeleteFunc(trees, func(t squashfs.Tree) bool { return t.Segment() != nil })
	return len(missing), squashfs.Encode(ctx, missing, &st.opts, b.runtime(st.rt, skipped))
}

// trees returns the trees of all objects, and how many bytes of them need not be read.
// Those that have no segment are to be encoded, and kept if the build needs them so, or if the cache takes them.
func (st *segments) trees(ctx context.Context, b *build, need bool) (trees []squashfs.Tree, skipped int64) {
	for _, o := range b.objects {
		if s := st.found[o.Path]; s != nil {
			trees = append(trees, squashfs.SegmentTree(place(o.Path), s.Segment, s.data))
			skipped += o.NARSize
			continue
		}
		t := squashfs.FileTree(place(o.Path), b.files, o.Path.Base())
		remote := b.remote([]closure.Object{o})
		if remote {
			t = squashfs.NodeTree(place(o.Path), fetched{b.fetch.Tree(o.Path)})
		}
		if need || st.shelf.Keeps() {
			k := &keeper{st: st, o: o, need: need}
			st.keepers = append(st.keepers, k)
			t.Keep = k
		}
		var watching closure.Observers
		if st.rt.Cache != nil || remote || !st.rt.SkipVerify {
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

// A keeper keeps the segment of an object.
type keeper struct {
	st   *segments
	o    closure.Object
	need bool // by the build itself
	w    *cache.Writer
}

// begin begins the entry, if it has not been begun.
func (k *keeper) begin() {
	if k.w == nil {
		k.w = k.st.shelf.Create(k.st.meta(k.o).key(), k.need)
	}
}

func (k *keeper) Write(p []byte) (int, error) {
	k.begin()
	return k.w.Write(p)
}

func (k *keeper) Done(s *squashfs.Segment) error {
	k.begin()
	meta, err := k.st.meta(k.o).marshal(s)
	if err != nil {
		return err
	}
	e, err := k.w.Commit(meta)
	if err != nil {
		return err
	}
	if e != nil {
		k.st.found[k.o.Path] = &segment{s, k.o, e.Data}
	}
	// Now it is certain that what has been found is about the object.
	return k.st.survey.Prove(k.o)
}
