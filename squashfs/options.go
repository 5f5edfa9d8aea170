package squashfs

import (
	"fmt"
	"io"
	"io/fs"
	"math"
	"time"

	"github.com/nix2img/nix2img/internal/codec"
)

// DefaultModTime is the time that stands wherever none is given:
// one second after the epoch, as in a Nix store.
// Python takes byte code that was compiled there for stale if its source has another time.
var DefaultModTime = time.Unix(1, 0).UTC()

// Limits and defaults of [Options.BlockSize], in bytes.
// Programs start from zstd as fast with the larger blocks, and the image is smaller;
// with the other codecs larger blocks cost time to start, and save nearly nothing.
const (
	MinBlockSize         = 4 << 10
	DefaultBlockSize     = 128 << 10
	DefaultZstdBlockSize = 256 << 10
	MaxBlockSize         = 1 << 20
)

// Options is what decides an image's bytes, apart from the files themselves.
// The zero value is ready to use.
type Options struct {
	// Compression is the codec and its level, "gzip:7" for instance; see [ParseCompression].
	// The zero value means gzip at its default level.
	Compression Compression
	// BlockSize is the size of data blocks in bytes: a power of two
	// from [MinBlockSize] to [MaxBlockSize].
	// Zero means [DefaultBlockSize], or [DefaultZstdBlockSize] with zstd and zstd-go.
	BlockSize int
	// ModTime is the image's time of creation, and the modification time
	// of directories that no tree describes. Zero means one second after the epoch.
	ModTime time.Time
}

// Complete returns the options with the defaults filled in,
// or an error if they are not legal.
func (o Options) Complete() (Options, error) {
	if o.Compression.Codec == "" {
		o.Compression.Codec = "gzip"
	}
	c, err := codec.Lookup(o.Compression.Codec)
	if err != nil {
		return o, fmt.Errorf("squashfs: options: %w", err)
	}
	if o.Compression.Level == 0 {
		o.Compression.Level = c.Default
	}
	if o.BlockSize == 0 {
		o.BlockSize = DefaultBlockSize
		if c.ID == codec.ZSTD {
			o.BlockSize = DefaultZstdBlockSize
		}
	}
	if err := checkBlockSize(o.BlockSize); err != nil {
		return o, fmt.Errorf("squashfs: options: %w", err)
	}
	if o.ModTime.IsZero() {
		o.ModTime = DefaultModTime
	}
	if sec := o.ModTime.Unix(); sec < 0 || sec > math.MaxUint32 {
		return o, fmt.Errorf("squashfs: options: time %s does not fit the format, which counts seconds from 1970 in 32 bits", o.ModTime)
	}
	// Some codecs are there by name only, and say so when they are to be used.
	if _, err := c.NewCompressor(o.Compression.Level, o.BlockSize); err != nil {
		return o, fmt.Errorf("squashfs: options: %w", err)
	}
	return o, nil
}

// Compression names a codec and a level.
type Compression struct {
	// Codec is "gzip", "zstd", "zstd-go", "lz4", "xz" or "none". Empty means gzip.
	Codec string
	// Level is the codec's level. Zero means its default.
	Level int
}

// ParseCompression reads "NAME" or "NAME:LEVEL".
func ParseCompression(s string) (Compression, error) {
	name, level, err := codec.Parse(s)
	if err != nil {
		return Compression{}, fmt.Errorf("squashfs: compression %q: %w", s, err)
	}
	return Compression{name, level}, nil
}

// Library returns the path of the Go module that compresses, and its version.
// Another version of it may give other bytes.
// Both are empty for a codec that needs none.
func (c Compression) Library() (module, version string) {
	found, err := codec.Lookup(c.Codec)
	if err != nil {
		return "", ""
	}
	return found.Module, found.Version()
}

// Runtime is what decides only speed and reporting, never bytes.
type Runtime struct {
	// Workers is how many goroutines compress. Zero means GOMAXPROCS.
	Workers int
	// Progress, if not nil, is called with the work done so far.
	// Calls do not overlap.
	Progress func(Progress)
}

// Progress tells how far a build has come.
type Progress struct {
	Tree    string // name of the tree whose data was written last
	Read    int64  // bytes of file contents encoded so far
	Written int64  // bytes of the image written so far
}

// Tree is one file tree of an image: a segment to be, or one that has been encoded before.
// [FileTree], [NodeTree] and [SegmentTree] make one.
type Tree struct {
	// Name is the slash-separated path in the image at which the tree's root lies.
	// "." merges the root, a directory, with the image's own.
	Name string
	// Observer, if not nil, is shown everything that is encoded.
	Observer Observer
	// Keep, if not nil, is given the segment when it has been encoded.
	Keep Keeper

	// One of these is not nil.
	fsys    fs.FS
	nodes   Nodes
	segment *Segment

	root string      // of fsys; with nodes, what stands for it in errors
	data io.ReaderAt // of segment
}

// FileTree returns a tree with the files of fsys that lie at or below root:
// a directory, a regular file or a symbolic link.
// fsys must implement [fs.ReadLinkFS] if the tree has symbolic links.
// Names are bytes: unlike io/fs itself, they need not be UTF-8.
func FileTree(name string, fsys fs.FS, root string) Tree {
	return Tree{Name: name, fsys: fsys, root: root}
}

// NodeTree returns a tree whose nodes can be read only once, and that can be encoded only once.
func NodeTree(name string, nodes Nodes) Tree { return Tree{Name: name, nodes: nodes, root: name} }

// SegmentTree returns a tree that has been encoded before, with the options of the image that it is for.
// data has the segment's data, from offset 0 on. Nobody observes or keeps it again.
func SegmentTree(name string, segment *Segment, data io.ReaderAt) Tree {
	return Tree{Name: name, segment: segment, data: data}
}

// Segment returns what [SegmentTree] was given, or nil.
func (t *Tree) Segment() *Segment { return t.segment }

// checkFiles judges whether trees have files at all.
func checkFiles(trees []Tree) error {
	for i := range trees {
		if t := &trees[i]; t.fsys == nil && t.nodes == nil && t.segment == nil {
			return fmt.Errorf("squashfs: encode tree %q: it has no files: make it with FileTree", t.Name)
		}
	}
	return nil
}

// Nodes is a tree that can be read only once, from beginning to end, as from a network.
type Nodes interface {
	// Next goes to the next node, in the order of an [Observer], skipping what is left of the last one's contents.
	// After the last node, the error is [io.EOF].
	Next() (Node, error)
	// Read reads the contents of the node, a regular file.
	io.Reader
	// Close makes calls fail, also those that are going on. It is called when the encoding has failed.
	Close() error
}

// A Node is a file of a tree.
type Node struct {
	Path   string // relative to the tree's root, which is "."
	Info   fs.FileInfo
	Target string // of a symbolic link
}

// A Keeper keeps the segment of a tree, for images to come.
type Keeper interface {
	// Write is given the segment's data. An error fails the build.
	io.Writer
	// Done is called when all data have been written, and the tree's observer has agreed.
	// The segment is not changed any more.
	Done(*Segment) error
}

// An Observer is shown a tree in the order in which it is read:
// each directory before its entries, entries sorted by the bytes of their names.
// This is the order of a NAR.
// Calls come from one goroutine at a time, and an error fails the build.
type Observer interface {
	// Node announces a node. Its name is relative to the tree's root, which is ".".
	// target is where a symbolic link points to.
	Node(name string, info fs.FileInfo, target string) error
	// Write is given the contents of the regular file that was announced last.
	io.Writer
	// Close is called after the last node.
	Close() error
}

// File is what an image is written to: an [os.File], or a part of one.
// Bytes are read again only where they were written before.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Truncate makes the image end at size bytes.
	Truncate(size int64) error
}
