package squash

import (
	"context"
	"errors"
	"io"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// A Plan is an image all of whose segments have been encoded, and that has yet to be written.
type Plan struct {
	Result

	assembly *squashfs.Assembly
	segments *segments
	rebuild  func(context.Context) (*Plan, error)
}

// Prepare does all for an image but to write it:
// it takes the segments from rt.Cache and rt.From, and encodes those that are not there.
// Without a cache, they are kept in a temporary file. The plan must be closed. Options are those of [Write].
func Prepare(ctx context.Context, img *image.Image, opts *squashfs.Options, rt *image.Runtime) (*Plan, error) {
	opts, rt, err := check(img, opts, rt)
	if err != nil {
		return nil, err
	}
	shelf := rt.Shelf()
	prepare := func(ctx context.Context) (*Plan, error) {
		for {
			plan, err := newPlan(ctx, img, opts, rt, shelf)
			if err != errDropped {
				return plan, err
			}
		}
	}
	plan, err := prepare(ctx)
	if err != nil {
		shelf.Close()
		return nil, err
	}
	plan.rebuild = prepare
	return plan, nil
}

// newPlan is Prepare, but for segments that have turned out to be of no use: then it returns errDropped.
func newPlan(ctx context.Context, img *image.Image, opts *squashfs.Options, rt *image.Runtime, shelf *cache.Shelf) (*Plan, error) {
	st, err := newSegments(opts, rt, shelf, img.GPU)
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
		return nil, err
	}
	return plan, nil
}

// plan encodes what has no segment yet.
func (st *segments) plan(ctx context.Context, b *build) (*Plan, error) {
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
	trees, _ := st.trees(ctx, b, true)
	plan := &Plan{segments: st}
	plan.assembly, err = squashfs.Assemble(ctx, append(trees, last), &b.opts)
	if err != nil {
		return nil, st.blame(ctx, err)
	}
	plan.Result = *b.result(&base, &plan.assembly.Image)
	return plan, nil
}

// encodeBase encodes the base files, which are not cached.
func (st *segments) encodeBase(ctx context.Context, t squashfs.Tree, opts *squashfs.Options) (squashfs.Tree, error) {
	w := st.shelf.Temporary()
	k := &spool{Writer: w}
	t.Keep = k
	err := squashfs.Encode(ctx, []squashfs.Tree{t}, opts, &squashfs.Runtime{Workers: st.rt.Workers})
	return squashfs.SegmentTree(t.Name, k.segment, w), err
}

// A spool keeps a segment as long as it is needed.
type spool struct {
	*cache.Writer
	segment *squashfs.Segment
}

func (s *spool) Done(seg *squashfs.Segment) error {
	s.segment = seg
	return nil
}

// Close gives up what the plan holds open. It always returns nil.
func (p *Plan) Close() error {
	if p.segments == nil {
		return nil
	}
	p.segments.close()
	p.segments.shelf.Close()
	return nil
}

// ReadAt reads from the image.
func (p *Plan) ReadAt(b []byte, off int64) (int, error) {
	if p.assembly == nil {
		return 0, errNotPrepared
	}
	return p.assembly.ReadAt(b, off)
}

var errNotPrepared = errors.New("squash: not by Prepare")

// Check compares all data of the image with their checksums.
// What is damaged is dropped from the cache, and made again.
func (p *Plan) Check(ctx context.Context) error {
	if p.assembly == nil {
		return errNotPrepared
	}
	for {
		_, err := p.assembly.WriteTo(ctxio.Writer(ctx, io.Discard))
		if isDamage(err) || cache.Unreadable(err) {
			err = p.segments.blame(ctx, err)
		}
		if err != errDropped {
			return err
		}
		p.segments.close()
		again, err := p.rebuild(ctx)
		if err != nil {
			return err
		}
		again.rebuild = p.rebuild
		*p = *again
	}
}

// WriteTo writes the image from its first byte to its last.
// After an error, some of it may have been written.
func (p *Plan) WriteTo(w io.Writer) (int64, error) {
	if p.assembly == nil {
		return 0, errNotPrepared
	}
	return p.assembly.WriteTo(w)
}
