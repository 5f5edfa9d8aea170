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
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/squashfs"
)

// Options is what decides the bytes, beside the image.
type Options struct {
	// Squashfs says how to encode. Its ModTime is overridden by the time
	// at which the image's configuration says it was created.
	Squashfs squashfs.Options
}

// Runtime is what decides only speed and reporting, never bytes.
type Runtime struct {
	// Workers is how many goroutines compress. Zero means GOMAXPROCS.
	Workers int
	// SkipVerify leaves the NAR hashes of files unchecked.
	// It does not apply to what goes into a cache.
	SkipVerify bool
	// Cache keeps the segments of store objects. Nil means none.
	Cache *Cache
	// From has further places where segments are looked for, if Cache does not have them: see [OpenCache] and [OpenPrevious].
	// What is found there goes into Cache.
	From []Source
	// Inspectors are further ones that look at objects, beside those of the image: see [image.Inspectors].
	Inspectors []inspect.Inspector
	// TempDir is where spooled data go. Empty means that of the system.
	TempDir string
	// Reserve, if not nil, is called with the size of the image before the first byte of it is written,
	// if it is known by then: that is when nearly all segments are in a Cache. An error ends the build.
	Reserve func(size int64) error
	// Progress, if not nil, is called with the work done so far. Calls do not overlap.
	Progress func(Progress)
	// Note, if not nil, is told of what went another way than it should, a sentence each.
	Note func(string)
}

func (rt *Runtime) note(format string, args ...any) {
	if rt.Note != nil {
		rt.Note(fmt.Sprintf(format, args...))
	}
}

// Progress tells how far a build has come.
type Progress struct {
	Object  string // what was written last: a store path, or "base files"
	Read    int64  // bytes of file contents encoded so far
	Total   int64  // about how many there are; NAR sizes, which count a little more
	Written int64  // bytes of the squashfs written so far
}

// Result describes a finished squashfs.
type Result struct {
	ID     string        // image ID: "sha256:" and 64 hexadecimal digits
	Size   int64         // bytes, a multiple of 4096
	Record *image.Record // the build record, with segment offsets relative to the squashfs
	Notes  []string      // what the user should know of the image; see [image.Resolved]
}

// Write writes img to f, from offset 0 on.
// A nil opts or rt means the zero value.
//
// Files whose NAR hash is not the closure's are a [*closure.HashError].
// What f holds after an error is of no use.
func Write(ctx context.Context, f squashfs.File, img *image.Image, opts *Options, rt *Runtime) (*Result, error) {
	if rt == nil {
		rt = &Runtime{}
	}
	if opts == nil {
		opts = &Options{}
	}
	return writeImage(ctx, f, img, opts, rt, make(map[closure.Hash]bool))
}

// writeImage is Write, but for segments that have turned out to be damaged: those are made again.
func writeImage(ctx context.Context, f squashfs.File, img *image.Image, opts *Options, rt *Runtime, damaged map[closure.Hash]bool) (*Result, error) {
	st, err := newStore(opts, rt, rt.Cache, img.Inspectors(), damaged)
	if err != nil {
		return nil, err
	}
	defer st.close()
	b, err := st.build(ctx, img, opts)
	var res *Result
	switch {
	case err != nil:
	case st.cache == nil || b.missing > b.narSize/4:
		res, err = st.writeInPlace(ctx, f, b)
	default:
		res, err = st.writePlan(ctx, f, b)
	}
	if e, ok := errors.AsType[*squashfs.ChecksumError](err); ok {
		if err = st.blame(ctx, e); err == e {
			return nil, err
		}
	}
	if err == errDropped {
		return writeImage(ctx, f, img, opts, rt, damaged)
	}
	return res, err
}

// writeInPlace writes an image while its segments are still being made: each straight to its place.
func (st *store) writeInPlace(ctx context.Context, f squashfs.File, b *build) (*Result, error) {
	w, err := squashfs.NewWriter(f, &b.opts)
	if err != nil {
		return nil, err
	}
	defer st.fetch(ctx, b)()
	trees, skipped := st.trees(ctx, b)
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
func (st *store) writePlan(ctx context.Context, f squashfs.File, b *build) (*Result, error) {
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
	fetch    closure.Fetch    // of objects that come from far away
	view     fs.FS            // of all objects, those that have a segment as they are in there; nil: some have to be fetched first
	resolved *image.Resolved  // nil: objects have to be encoded first
	opts     squashfs.Options // complete
	encoding image.Encoding
	so       Progress // far
}

// newBuild settles all that can be said without the files.
func newBuild(img *image.Image, opts *Options) (*build, error) {
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
	b.opts, b.encoding, err = opts.complete(img.Config.Created)
	return b, err
}

// complete fills in the defaults, and describes the result.
func (o *Options) complete(created time.Time) (squashfs.Options, image.Encoding, error) {
	sq := o.Squashfs
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
func (b *build) runtime(rt *Runtime, skipped int64) *squashfs.Runtime {
	sqrt := &squashfs.Runtime{Workers: rt.Workers}
	if rt.Progress != nil {
		start := b.so
		sqrt.Progress = func(p squashfs.Progress) {
			object := "/" + p.Tree
			if p.Tree == "." {
				object = "base files"
			}
			read := start.Read + skipped + p.Read
			b.so = Progress{Object: object, Read: read, Total: max(b.narSize, read), Written: start.Written + p.Written}
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
