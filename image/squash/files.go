package squash

import (
	"context"
	"io/fs"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/squashfs"
)

// build finds the segments that exist, and settles what the image leaves open,
// but for what depends on files that have yet to be fetched.
func (st *segments) build(ctx context.Context, img *image.Image, opts *squashfs.Options) (*build, error) {
	missing, err := st.find(ctx, img.Closure.Objects())
	if err != nil {
		return nil, err
	}
	b, err := newBuild(img, opts)
	if err != nil {
		return nil, err
	}
	for _, o := range missing {
		b.missing += o.NARSize
	}
	st.observe = len(missing) > 0 && len(st.survey.Inspectors) > 0
	if b.remote(missing) {
		return b, nil
	}
	// Objects that have been encoded are not looked at in the store any more.
	if b.view, err = st.files(ctx, img.Closure); err != nil {
		return nil, st.blame(ctx, err)
	}
	if st.observe && !st.rt.AcceptFirst {
		return b, st.rehearse(ctx, b)
	}
	st.observe = false
	return b, st.resolve(ctx, b, b.view, false)
}

// rehearse settles all but what depends on facts, for the errors: better now than when everything has been encoded.
func (st *segments) rehearse(ctx context.Context, b *build) error {
	if err := st.resolve(ctx, b, b.view, true); err != nil {
		return err
	}
	_, err := b.base(ctx)
	b.resolved = nil
	return err
}

// resolve settles what depends on the closure's files, in a rehearsal without facts.
func (st *segments) resolve(ctx context.Context, b *build, files fs.FS, rehearsal bool) (err error) {
	c := *b.image.Closure
	c.Files = files
	settled := *b.image
	settled.Closure = &c
	rt := *st.rt
	if rehearsal {
		settled.GPU, rt.Accept = image.GPU{NV: image.No, ROCm: image.No}, nil
		settled.MPI = image.No
	} else if rt.Facts == nil && len(st.survey.Inspectors) > 0 {
		if rt.Facts, err = st.facts(ctx, b.objects, files); err != nil {
			return st.blame(ctx, err)
		}
	}
	refused := false
	if accept := rt.Accept; accept != nil {
		rt.Accept = func(r *gpu.Report) error {
			err := accept(r)
			refused = err != nil
			return err
		}
	}
	b.resolved, err = settled.Resolve(ctx, &rt)
	if err != nil && !refused {
		err = st.blame(ctx, err)
	}
	return err
}

// files presents the files of a closure: those of objects that have a segment as they are in there,
// so that the store need not be asked.
func (st *segments) files(ctx context.Context, c *closure.Closure) (fs.FS, error) {
	if len(st.found) == 0 {
		return c.Files, nil
	}
	var trees []squashfs.Tree
	known := make(map[string]bool)
	for _, o := range c.Objects() {
		if s := st.found[o.Path]; s != nil {
			trees = append(trees, squashfs.SegmentTree(o.Path.Base(), s.Segment, s.data))
			known[o.Path.Base()] = true
		}
	}
	a, err := squashfs.Assemble(ctx, trees, &st.opts)
	if err != nil {
		return nil, err
	}
	encoded, err := squashfs.Open(a)
	if err != nil {
		return nil, err
	}
	return &overlay{encoded, c.Files, known}, nil
}

// An overlay is a store of which some objects come from segments.
type overlay struct {
	encoded *squashfs.FS
	store   fs.FS
	known   map[string]bool // base names of what is in encoded
}

var (
	_ fs.ReadDirFS  = (*overlay)(nil)
	_ fs.StatFS     = (*overlay)(nil)
	_ fs.ReadLinkFS = (*overlay)(nil)
)

// of returns where the file of the given name is.
func (o *overlay) of(name string) fs.FS {
	object, _, _ := strings.Cut(name, "/")
	if o.known[object] {
		return o.encoded
	}
	return o.store
}

func (o *overlay) Open(name string) (fs.File, error)          { return o.of(name).Open(name) }
func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(o.of(name), name) }
func (o *overlay) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(o.of(name), name) }
func (o *overlay) Lstat(name string) (fs.FileInfo, error)     { return fs.Lstat(o.of(name), name) }
func (o *overlay) ReadLink(name string) (string, error)       { return fs.ReadLink(o.of(name), name) }
