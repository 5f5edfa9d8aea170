package nar

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
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
	root *node
	size int64
}

var (
	_ fs.ReadLinkFS = (*FS)(nil)
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
)

var (
	errLink      = errors.New("symbolic link leads out of the file system")
	errManyLinks = errors.New("too many symbolic links")
)

// maxLinks is how many symbolic links Open and Stat follow.
const maxLinks = 40

// node takes about 100 bytes and its name.
type node struct {
	name    string
	mode    fs.FileMode
	size    int64       // of a regular file
	off     int64       // of its contents in at
	at      io.ReaderAt // where they are
	target  string      // of a symbolic link
	entries []*node     // of a directory, sorted by name
}

// Open returns the file system of an archive of the given size in bytes,
// which it reads from start to end.
func Open(r io.ReaderAt, size int64) (*FS, error) {
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
	r := NewReader(stream)
	fsys := new(FS)
	var open []*node // directories, from the root on
	for {
		h, err := r.Next()
		if err == io.EOF {
			fsys.size = r.Offset()
			return fsys, nil
		}
		if err != nil {
			return nil, err
		}
		n := &node{name: path.Base(h.Path), mode: h.Mode, target: h.LinkTarget}
		if h.Mode.IsRegular() {
			n.size, n.off, n.at = h.Size, h.Offset, at
		}
		if h.Path == "." {
			fsys.root = n
		} else {
			open = open[:strings.Count(h.Path, "/")+1]
			parent := open[len(open)-1]
			parent.entries = append(parent.entries, n)
		}
		if h.Mode.IsDir() {
			open = append(open, n)
		}
	}
}

// Join returns a file system whose root is a directory that has the given file systems as its entries.
func Join(entries map[string]*FS) (*FS, error) {
	root := &node{name: ".", mode: fs.ModeDir | 0o555}
	for name, fsys := range entries {
		if reason := checkName(name); reason != "" {
			return nil, errors.New("nar: join: " + reason)
		}
		n := *fsys.root
		n.name = name
		root.entries = append(root.entries, &n)
	}
	slices.SortFunc(root.entries, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return &FS{root: root}, nil
}

// Size returns the archive's size in bytes, or 0 for one made by [Join].
func (f *FS) Size() int64 { return f.size }

func (f *FS) Open(name string) (fs.File, error) {
	n, err := f.find("open", name, true)
	if err != nil {
		return nil, err
	}
	info := fileInfo{path.Base(name), n}
	if n.mode.IsDir() {
		return &dirFile{fileInfo: info, left: n.entries}, nil
	}
	return &file{fileInfo: info, SectionReader: io.NewSectionReader(n.at, n.off, n.size)}, nil
}

func (f *FS) Stat(name string) (fs.FileInfo, error) {
	n, err := f.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return fileInfo{path.Base(name), n}, nil
}

func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	n, err := f.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return fileInfo{path.Base(name), n}, nil
}

func (f *FS) ReadLink(name string) (string, error) {
	n, err := f.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.mode.Type() != fs.ModeSymlink {
		return "", pathError("readlink", name, fs.ErrInvalid)
	}
	return n.target, nil
}

func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := f.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, pathError("readdir", name, syscall.ENOTDIR)
	}
	return dirEntries(n.entries), nil
}

// find returns the node with a name.
// It follows links in the name's directory, and if follow is set also a link that it finds at its end.
func (f *FS) find(op, name string, follow bool) (*node, error) {
	if !validName(name) {
		return nil, pathError(op, name, fs.ErrInvalid)
	}
	at := []*node{f.root} // the nodes from the root to where we are
	todo := name
	if todo == "." {
		todo = ""
	}
	for links := 0; ; {
		n := at[len(at)-1]
		if n.mode.Type() == fs.ModeSymlink && (follow || todo != "") {
			if links++; links > maxLinks {
				return nil, pathError(op, name, errManyLinks)
			}
			if n.target[0] == '/' || len(at) == 1 {
				return nil, pathError(op, name, errLink)
			}
			at = at[:len(at)-1]
			todo = n.target + "/" + todo
			continue
		}
		if todo == "" {
			return n, nil
		}
		if !n.mode.IsDir() {
			return nil, pathError(op, name, syscall.ENOTDIR)
		}
		var elem string
		elem, todo, _ = strings.Cut(todo, "/")
		switch elem {
		case "", ".":
		case "..":
			if len(at) == 1 {
				return nil, pathError(op, name, errLink)
			}
			at = at[:len(at)-1]
		default:
			i, ok := slices.BinarySearchFunc(n.entries, elem, func(n *node, s string) int { return strings.Compare(n.name, s) })
			if !ok {
				return nil, pathError(op, name, fs.ErrNotExist)
			}
			at = append(at, n.entries[i])
		}
	}
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// validName is fs.ValidPath without its demand for UTF-8.
func validName(name string) bool {
	if name == "." {
		return true
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
	}
	return true
}

// fileInfo describes a node, under the name by which it was found.
type fileInfo struct {
	name string
	n    *node
}

func (i fileInfo) Name() string               { return i.name }
func (i fileInfo) Mode() fs.FileMode          { return i.n.mode }
func (i fileInfo) Type() fs.FileMode          { return i.n.mode.Type() }
func (i fileInfo) ModTime() time.Time         { return modTime }
func (i fileInfo) IsDir() bool                { return i.n.mode.IsDir() }
func (i fileInfo) Sys() any                   { return nil }
func (i fileInfo) Info() (fs.FileInfo, error) { return i, nil }
func (i fileInfo) Stat() (fs.FileInfo, error) { return i, nil }
func (i fileInfo) String() string             { return fs.FormatFileInfo(i) }

func (i fileInfo) Size() int64 {
	if i.n.mode.Type() == fs.ModeSymlink {
		return int64(len(i.n.target))
	}
	return i.n.size
}

func dirEntries(nodes []*node) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(nodes))
	for i, n := range nodes {
		entries[i] = fileInfo{n.name, n}
	}
	return entries
}

// file is an open regular file.
type file struct {
	fileInfo
	*io.SectionReader
}

func (f *file) Size() int64  { return f.n.size }
func (f *file) Close() error { return nil }

// dirFile is an open directory.
type dirFile struct {
	fileInfo
	left []*node // entries not yet returned
}

func (d *dirFile) Close() error { return nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, pathError("read", d.name, syscall.EISDIR)
}

func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	taken := d.left[:n]
	d.left = d.left[n:]
	return dirEntries(taken), nil
}
