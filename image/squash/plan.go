package squash

import (
	"context"
	"errors"
	"io"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// A Plan is an image all of whose segments have been encoded, and that has yet to be written.
type Plan struct {
	Result

	assembly *squashfs.Assembly
	rt       *Runtime
	store    *store
	objects  map[string]closure.Object // by the names of their trees
	rebuild  func(context.Context) (*Plan, error)
}

// Prepare does all for an image but to write it:
// it takes the segments from rt.Cache and rt.From, and encodes those that are not there.
// Without a cache, they are kept in temporary files. The plan must be closed.
func Prepare(ctx context.Context, img *image.Image, opts *Options, rt *Runtime) (*Plan, error) {
	if opts == nil {
		opts = &Options{}
	}
	if rt == nil {
		rt = &Runtime{}
	}
	return prepare(ctx, img, opts, rt, make(map[closure.Hash]bool))
}

// prepare is Prepare, but for segments that have turned out to be damaged: those are made again.
func prepare(ctx context.Context, img *image.Image, opts *Options, rt *Runtime, damaged map[closure.Hash]bool) (*Plan, error) {
	cache := rt.Cache
	if cache == nil {
		cache = &Cache{store: cas.Temporary(rt.TempDir)}
	}
	st, err := newStore(opts, rt, cache, img.Inspectors(), damaged)
	if err != nil {
		return nil, err
	}
	b, err := st.build(ctx, img, opts)
	var plan *Plan
	if err == nil {
		plan, err = st.plan(ctx, b)
	}
	if err != nil {
		st.close()
		if err == errDropped {
			return prepare(ctx, img, opts, rt, damaged)
		}
		return nil, err
	}
	plan.rebuild = func(ctx context.Context) (*Plan, error) { return prepare(ctx, img, opts, rt, damaged) }
	return plan, nil
}

// plan encodes what has no segment yet.
func (st *store) plan(ctx context.Context, b *build) (*Plan, error) {
	if _, err := st.encode(ctx, b); err != nil {
		return nil, err
	}
	if b.resolved == nil {
		files, err := st.files(ctx, b.image.Closure)
		if err != nil {
			return nil, st.blame(ctx, err)
		}
		if err := st.resolve(ctx, b, files, false); err != nil {
			return nil, err
		}
	}
	base, err := b.base(ctx)
	if err != nil {
		return nil, err
	}
	last, err := st.encodeBase(ctx, base.tree, &b.opts)
	if err != nil {
		return nil, err
	}
	trees, _ := st.trees(ctx, b)
	plan := &Plan{rt: st.rt, store: st, objects: make(map[string]closure.Object)}
	for _, o := range b.objects {
		plan.objects[place(o.Path)] = o
	}
	plan.assembly, err = squashfs.Assemble(ctx, append(trees, last), &b.opts)
	if err != nil {
		return nil, st.blame(ctx, err)
	}
	plan.Result = *b.result(&base, &plan.assembly.Image)
	return plan, nil
}

// encodeBase encodes the base files, which are not cached.
func (st *store) encodeBase(ctx context.Context, t squashfs.Tree, opts *squashfs.Options) (squashfs.Tree, error) {
	w, err := st.cache.store.Create(cas.Key{}) // never committed
	if err != nil {
		return t, err
	}
	st.base = w
	k := &spool{Writer: w}
	t.Keep = k
	err = squashfs.Encode(ctx, []squashfs.Tree{t}, opts, &squashfs.Runtime{Workers: st.rt.Workers})
	return squashfs.SegmentTree(t.Name, k.segment, w), err
}

// A spool keeps a segment as long as it is needed.
type spool struct {
	*cas.Writer
	segment *squashfs.Segment
}

func (s *spool) Done(seg *squashfs.Segment) error {
	s.segment = seg
	return nil
}

// Close gives up what the plan holds open. It always returns nil.
func (p *Plan) Close() error {
	p.store.close()
	return nil
}

// ReadAt reads from the image.
func (p *Plan) ReadAt(b []byte, off int64) (int, error) { return p.assembly.ReadAt(b, off) }

// Check compares all data of the image with their checksums.
// What is damaged is dropped from the cache, and made again.
func (p *Plan) Check(ctx context.Context) error {
	for {
		_, err := p.assembly.WriteTo(ctxio.Writer(ctx, io.Discard))
		damaged, ok := errors.AsType[*squashfs.ChecksumError](err)
		if !ok {
			return err
		}
		o, ok := p.objects[damaged.Tree]
		if !ok {
			return err // the spooled base files
		}
		if err := p.store.giveUp(o, err); err != nil {
			return err
		}
		p.store.close()
		again, err := p.rebuild(ctx)
		if err != nil {
			return err
		}
		*p = *again
	}
}

// WriteTo writes the image from its first byte to its last.
// After an error, some of it may have been written.
func (p *Plan) WriteTo(w io.Writer) (int64, error) { return p.assembly.WriteTo(w) }
