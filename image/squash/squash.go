package squash

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// Result describes a finished squashfs.
type Result struct {
	ID     string        // image ID: "sha256:" and 64 hexadecimal digits
	Size   int64         // bytes, a multiple of 4096
	Record *image.Record // the build record, with segment offsets relative to the squashfs
	Notes  []string      // what the user should know of the image; see [image.Resolved]
	Shell  bool          // there is a /bin/sh
}

// Write writes img to f, from offset 0 on. A nil opts or rt means the zero value.
// opts must not have a ModTime: that is the time at which the image's configuration says it was created.
//
// Files whose NAR hash is not the closure's are a [*closure.HashError].
// What f holds after an error is of no use.
func Write(ctx context.Context, f squashfs.File, img *image.Image, opts *squashfs.Options, rt *image.Runtime) (*Result, error) {
	opts, rt, err := check(img, opts, rt)
	if err != nil {
		return nil, err
	}
	shelf := rt.Shelf()
	defer shelf.Close()
	for {
		res, err := writeImage(ctx, f, img, opts, rt, shelf)
		if err != errDropped {
			return res, err
		}
	}
}

// check fills in what is nil, and finds out early what is no image.
func check(img *image.Image, opts *squashfs.Options, rt *image.Runtime) (*squashfs.Options, *image.Runtime, error) {
	if opts == nil {
		opts = new(squashfs.Options)
	}
	if rt == nil {
		rt = new(image.Runtime)
	}
	switch {
	case img == nil || img.Closure == nil || img.Closure.Files == nil:
		return nil, nil, fmt.Errorf("squash: %w", closure.ErrNoFiles)
	case !opts.ModTime.IsZero():
		return nil, nil, errors.New("squash: options: ModTime is that of the image's configuration, and must not be set")
	}
	return opts, rt, nil
}

// writeImage is Write, but for segments that have turned out to be of no use: then it returns errDropped.
func writeImage(ctx context.Context, f squashfs.File, img *image.Image, opts *squashfs.Options, rt *image.Runtime, shelf *cache.Shelf) (*Result, error) {
	st, err := newSegments(opts, rt, shelf, img.GPU)
	if err != nil {
		return nil, err
	}
	defer st.close()
	b, err := st.build(ctx, img, opts)
	var res *Result
	switch {
	case err != nil:
	case rt.Cache == nil || b.missing > b.narSize/4:
		res, err = st.writeInPlace(ctx, f, b)
	default:
		res, err = st.writePlan(ctx, f, b)
	}
	if isDamage(err) || cache.Unreadable(err) {
		err = st.blame(ctx, err)
	}
	return res, err
}

// writeInPlace writes an image while its segments are still being made: each straight to its place.
func (st *segments) writeInPlace(ctx context.Context, f squashfs.File, b *build) (*Result, error) {
	w, err := squashfs.NewWriter(f, &b.opts)
	if err != nil {
		return nil, err
	}
	defer st.fetch(ctx, b)()
	trees, skipped := st.trees(ctx, b, false)
	if err := w.Add(ctx, trees, b.runtime(st.rt, skipped)); err != nil {
		return nil, err
	}
	if b.resolved == nil {
		if b.view == nil {
			fsys, err := w.Open()
			if err != nil {
				return nil, err
			}
			b.view = below{fsys, b.image.Closure.StoreDir()[1:]}
		}
		if err := st.resolve(ctx, b, b.view, false); err != nil {
			return nil, err
		}
	}
	base, err := b.base(ctx)
	if err != nil {
		return nil, err
	}
	if err := w.Add(ctx, []squashfs.Tree{base.tree}, b.runtime(st.rt, 0)); err != nil {
		return nil, err
	}
	img, err := w.Finish()
	if err != nil {
		return nil, err
	}
	return b.result(&base, img), nil
}

// writePlan writes an image all of whose segments are in the cache, or are put there before anything is written.
// So its size is known, and blocks may be shared with the cache.
func (st *segments) writePlan(ctx context.Context, f squashfs.File, b *build) (*Result, error) {
	plan, err := st.plan(ctx, b)
	if err != nil {
		return nil, err
	}
	if st.rt.Reserve != nil {
		if err := st.rt.Reserve(plan.Size); err != nil {
			return nil, err
		}
	}
	return &plan.Result, plan.assembly.WriteFile(ctx, f)
}

// A build is an image on its way to become a squashfs.
type build struct {
	image    *image.Image
	objects  []closure.Object
	files    fs.FS // of the objects
	narSize  int64
	missing  int64            // NAR size of the objects that have no segment
	fetch    closure.Fetch    // of objects that come over a network
	view     fs.FS            // of all objects, those that have a segment as they are in there; nil: some have to be fetched first
	resolved *image.Resolved  // nil: objects have to be encoded first
	opts     squashfs.Options // complete
	encoding image.Encoding
	so       image.Progress // far
}

// newBuild settles all that can be said without the files.
func newBuild(img *image.Image, opts *squashfs.Options) (*build, error) {
	b := &build{
		image:   img,
		objects: img.Closure.Objects(),
		files:   img.Closure.Files,
		narSize: img.Closure.NARSize(),
	}
	if err := img.Config.Validate(); err != nil {
		return nil, err
	}
	var err error
	b.opts, b.encoding, err = complete(opts, img.Config.Created)
	return b, err
}

// complete fills in the defaults, and describes the result.
func complete(opts *squashfs.Options, created time.Time) (squashfs.Options, image.Encoding, error) {
	sq := *opts
	sq.ModTime = created
	sq, err := sq.Complete()
	module, version := sq.Compression.Library()
	return sq, image.Encoding{
		Compression: sq.Compression.Codec,
		Level:       sq.Compression.Level,
		BlockSize:   sq.BlockSize,
		Library:     module,
		Version:     version,
		Format:      squashfs.SegmentVersion,
		ModTime:     sq.ModTime.Unix(),
	}, err
}

// place is where in an image a store object lies.
func place(p closure.Path) string { return strings.TrimPrefix(string(p), "/") }

// baseTree is the tree that is not from the store.
type baseTree struct {
	tree   squashfs.Tree
	record *image.Record
	hash   *narhash.Hasher // of the tree, once it is encoded
}

func (b *build) base(ctx context.Context) (baseTree, error) {
	record, err := b.resolved.Record()
	if err != nil {
		return baseTree{}, err
	}
	record.Squashfs = &b.encoding
	files, err := b.resolved.Base(ctx, record)
	hash := narhash.New()
	tree := squashfs.FileTree(".", files, ".")
	tree.Observer = hash
	return baseTree{tree, record, hash}, err
}

// runtime translates what is to be reported, when so many bytes need not be read.
func (b *build) runtime(rt *image.Runtime, skipped int64) *squashfs.Runtime {
	sqrt := &squashfs.Runtime{Workers: rt.Workers}
	if rt.Progress != nil {
		start := b.so
		sqrt.Progress = func(p squashfs.Progress) {
			object := "/" + p.Tree
			if p.Tree == "." {
				object = "base files"
			}
			read := start.Read + skipped + p.Read
			b.so = image.Progress{Object: object, Read: read, Total: max(b.narSize, read), Written: start.Written + p.Written}
			rt.Progress(b.so)
		}
	}
	return sqrt
}

// result describes the image when it is complete.
func (b *build) result(base *baseTree, img *squashfs.Image) *Result {
	hashes := make([]closure.Hash, 0, len(img.Parts))
	for _, o := range b.objects {
		hashes = append(hashes, o.NARHash)
	}
	hashes = append(hashes, base.hash.Sum())
	id := imageID(&b.encoding, img.Parts, hashes)
	segments := make([]image.Segment, len(img.Parts))
	for i, p := range img.Parts {
		segments[i] = image.Segment{Name: p.Name, Offset: p.Offset, Size: p.Size, Digest: fmt.Sprintf("sha256:%x", p.Digest)}
	}
	return &Result{
		ID:     id,
		Size:   img.Size,
		Record: base.record.Placed(id, segments),
		Notes:  b.resolved.Notes,
		Shell:  b.resolved.HasShell(),
	}
}

// imageID computes the image ID as the package comment describes it.
func imageID(e *image.Encoding, parts []squashfs.Part, hashes []closure.Hash) string {
	h := sha256.New()
	fmt.Fprintln(h, "nix2img squashfs 1")
	fmt.Fprintln(h, e.Compression, e.Level, e.BlockSize, e.ModTime, e.Format, e.Library, e.Version)
	for i, p := range parts {
		fmt.Fprintf(h, "%q %x %x\n", p.Name, hashes[i], p.Digest)
	}
	return fmt.Sprintf("sha256:%x", h.Sum(nil))
}
