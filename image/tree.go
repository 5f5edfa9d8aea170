package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// tree is a small file system in memory.
// Regular files either have their contents in memory or stand for a file elsewhere.
// Names are bytes: unlike [fs.ValidPath], it does not ask for UTF-8.
type tree struct {
	root *node
}

var (
	_ fs.ReadLinkFS = (*tree)(nil)
	_ fs.ReadDirFS  = (*tree)(nil)
	_ fs.StatFS     = (*tree)(nil)
)

// modTime is the modification time of everything in a tree, as it is in a store.
var modTime = time.Unix(1, 0)

// node is a file of any kind. It is its own directory entry and its own information.
type node struct {
	name     string // base name; "." for the root
	mode     fs.FileMode
	data     []byte  // contents of a regular file, or target of a symbolic link
	children []*node // of a directory, sorted by the bytes of their names
	added    bool    // by the user

	// Where the contents are, if they are not in data.
	fsys fs.FS
	path string
	size int64
}

var (
	_ fs.FileInfo = (*node)(nil)
	_ fs.DirEntry = (*node)(nil)
)

func (n *node) Name() string               { return n.name }
func (n *node) Mode() fs.FileMode          { return n.mode }
func (n *node) Type() fs.FileMode          { return n.mode.Type() }
func (n *node) IsDir() bool                { return n.mode.IsDir() }
func (n *node) ModTime() time.Time         { return modTime }
func (n *node) Sys() any                   { return nil }
func (n *node) Info() (fs.FileInfo, error) { return n, nil }

func (n *node) Size() int64 {
	if n.fsys != nil {
		return n.size
	}
	return int64(len(n.data))
}

func newTree() *tree {
	return &tree{&node{name: ".", mode: fs.ModeDir | 0o755}}
}

func (n *node) child(name string) (int, bool) {
	return slices.BinarySearchFunc(n.children, name, func(c *node, name string) int {
		return strings.Compare(c.name, name)
	})
}

// put puts a node in a place, over what is there,
// and makes the directories above it that are missing.
func (t *tree) put(name string, n *node) {
	dir := t.root
	elems := strings.Split(name, "/")
	for i, elem := range elems {
		at, ok := dir.child(elem)
		last := i == len(elems)-1
		switch {
		case last:
			n.name = elem
			if ok {
				dir.children[at] = n
			} else {
				dir.children = slices.Insert(dir.children, at, n)
			}
			return
		case !ok:
			made := &node{name: elem, mode: fs.ModeDir | 0o755, added: n.added}
			dir.children = slices.Insert(dir.children, at, made)
		}
		dir = dir.children[at]
	}
}

func (t *tree) mkdir(mode fs.FileMode, names ...string) {
	for _, name := range names {
		if n := t.get(name); n != nil {
			n.mode = fs.ModeDir | mode
			continue
		}
		t.put(name, &node{mode: fs.ModeDir | mode})
	}
}

func (t *tree) write(name string, mode fs.FileMode, text string) {
	t.put(name, &node{mode: mode, data: []byte(text)})
}

func (t *tree) symlink(name, target string) {
	t.put(name, &node{mode: fs.ModeSymlink | 0o777, data: []byte(target)})
}

// get returns the node in a place, without following links, or nil.
func (t *tree) get(name string) *node {
	n := t.root
	if name == "." {
		return n
	}
	for elem := range strings.SplitSeq(name, "/") {
		i, ok := n.child(elem)
		if !ok {
			return nil
		}
		n = n.children[i]
	}
	return n
}

// find returns the node that a name leads to.
// It follows links, those with an absolute target from the tree's root,
// and the last one only if follow says so.
func (t *tree) find(op, name string, follow bool) (*node, error) {
	fail := func(err error) (*node, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !validPath(name) {
		return fail(fs.ErrInvalid)
	}
	at := []*node{t.root} // and the directories above
	todo := strings.Split(name, "/")
	for links := 0; len(todo) > 0; {
		elem := todo[0]
		todo = todo[1:]
		n := at[len(at)-1]
		switch {
		case elem == "." || elem == "":
			continue
		case elem == "..":
			at = at[:max(1, len(at)-1)]
			continue
		case !n.IsDir():
			return fail(fs.ErrNotExist)
		}
		i, ok := n.child(elem)
		if !ok {
			return fail(fs.ErrNotExist)
		}
		n = n.children[i]
		if n.Type() != fs.ModeSymlink || len(todo) == 0 && !follow {
			at = append(at, n)
			continue
		}
		if links++; links > maxLinks {
			return fail(syscall.ELOOP)
		}
		target := string(n.data)
		if path.IsAbs(target) {
			at = at[:1]
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	n := at[len(at)-1]
	if base := path.Base(name); n.name != base && follow {
		renamed := *n
		renamed.name = base
		n = &renamed
	}
	return n, nil
}

// validPath is [fs.ValidPath] for names of any bytes.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." || strings.Contains(elem, "\x00") {
			return false
		}
	}
	return true
}

func (t *tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}
	switch {
	case n.IsDir():
		return &openDir{node: n}, nil
	case n.fsys != nil:
		f, err := n.fsys.Open(n.path)
		if err != nil {
			return nil, err
		}
		if r, ok := f.(io.ReaderAt); ok {
			return &openAddedAt{openAdded{f, n}, r}, nil
		}
		return &openAdded{f, n}, nil
	}
	return &openFile{bytes.NewReader(n.data), n}, nil
}

func (t *tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (t *tree) Lstat(name string) (fs.FileInfo, error) {
	n, err := t.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (t *tree) ReadLink(name string) (string, error) {
	n, err := t.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return string(n.data), nil
}

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	return n.entries(), nil
}

func (n *node) entries() []fs.DirEntry {
	entries := make([]fs.DirEntry, len(n.children))
	for i, c := range n.children {
		entries[i] = c
	}
	return entries
}

// openFile is an open file whose contents are in memory.
type openFile struct {
	*bytes.Reader
	node *node
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *openFile) Close() error               { return nil }

// openAdded is an open file of another file system, with its place in this one.
type openAdded struct {
	fs.File
	node *node
}

func (f *openAdded) Stat() (fs.FileInfo, error) { return f.node, nil }

type openAddedAt struct {
	openAdded
	io.ReaderAt
}

type openDir struct {
	node *node
	next int // index of the entry to read next
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.node, nil }
func (d *openDir) Close() error               { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.node.name, Err: errors.New("is a directory")}
}

func (d *openDir) ReadDir(count int) ([]fs.DirEntry, error) {
	left := d.node.entries()[d.next:]
	if count > 0 {
		if len(left) == 0 {
			return nil, io.EOF
		}
		left = left[:min(count, len(left))]
	}
	d.next += len(left)
	return left, nil
}
