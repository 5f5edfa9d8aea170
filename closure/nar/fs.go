package nar

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/vfs"
)

// FS is a file system with the nodes of an archive,
// whose contents it reads from where the archive lies.
// Its root, ".", is the root of the archive, which need not be a directory.
//
// Open and Stat follow symbolic links that are relative and stay within the file system;
// all others are an error.
// Regular files implement [io.ReaderAt] and [io.Seeker].
// An FS may be used by any number of goroutines if its [io.ReaderAt] may.
type FS struct {
	tree vfs.Tree
	size int64
}

var (
	_ fs.ReadLinkFS = (*FS)(nil)
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)

// Open returns the file system of an archive of the given size in bytes,
// which it reads from start to end.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	if r == nil {
		return nil, errNoReader
	}
	stream := bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 64<<10)
	fsys, err := Index(stream, r)
	if err != nil {
		return nil, err
	}
	if fsys.size != size {
		return nil, &FormatError{Offset: fsys.size, Reason: "bytes follow the end of the archive"}
	}
	return fsys, nil
}

// Index returns the file system of an archive that it reads from a stream.
// Contents are read later, from at, in which the archive must start at offset 0.
// As a [Reader] does, Index reads small pieces and nothing that follows the archive.
func Index(stream io.Reader, at io.ReaderAt) (*FS, error) {
	if at == nil {
		return nil, errNoReader
	}
	r := NewReader(stream)
	fsys := &FS{tree: vfs.Tree{Part: true}}
	var open []*vfs.Node // directories, from the root on
	for {
		h, err := r.Next()
		if err == io.EOF {
			fsys.size = r.Offset()
			return fsys, nil
		}
		if err != nil {
			return nil, err
		}
		n := newNode(h, at)
		if h.Path == "." {
			fsys.tree.Root = n
		} else {
			open = open[:strings.Count(h.Path, "/")+1]
			open[len(open)-1].Put(path.Base(h.Path), n)
		}
		if n.IsDir() {
			open = append(open, n)
		}
	}
}

func newNode(h *Header, at io.ReaderAt) *vfs.Node {
	switch h.Mode.Type() {
	case fs.ModeDir:
		return vfs.NewDir(h.Mode)
	case fs.ModeSymlink:
		return vfs.NewSymlink(h.LinkTarget)
	}
	return vfs.NewSection(h.Mode, at, h.Offset, h.Size)
}

// Join returns a file system whose root is a directory that has the given file systems as its entries.
func Join(entries map[string]*FS) (*FS, error) {
	root := vfs.NewDir(0o555)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if reason := checkName(name); reason != "" {
			return nil, errors.New("nar: join: " + reason)
		}
		f := entries[name]
		if f == nil || f.tree.Root == nil {
			return nil, fmt.Errorf("nar: join: there is nothing in entry %q", name)
		}
		root.Put(name, f.tree.Root)
	}
	return &FS{tree: vfs.Tree{Root: root, Part: true}}, nil
}

// Size returns the archive's size in bytes, or 0 for one made by [Join].
func (f *FS) Size() int64 { return f.size }

func (f *FS) Open(name string) (fs.File, error)          { return f.tree.Open(name) }
func (f *FS) Stat(name string) (fs.FileInfo, error)      { return f.tree.Stat(name) }
func (f *FS) Lstat(name string) (fs.FileInfo, error)     { return f.tree.Lstat(name) }
func (f *FS) ReadLink(name string) (string, error)       { return f.tree.ReadLink(name) }
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) { return f.tree.ReadDir(name) }
