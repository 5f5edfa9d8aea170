package vfs

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Tree is a file system in memory.
// The contents of its files may lie elsewhere: see [NewSection] and [NewOpened].
//
// Any number of goroutines may read a tree that nobody changes.
type Tree struct {
	// Root is usually a directory. The name "." leads to it. Nil stands for a tree in which nothing is.
	Root *Node
	// Part says that the tree is part of another one, as a store is:
	// symbolic links that are absolute or lead above its root are [ErrOutside].
	// Those of other trees end in the root.
	Part bool
}

var (
	_ fs.ReadLinkFS    = (*Tree)(nil)
	_ fs.ReadDirFS     = (*Tree)(nil)
	_ fs.StatFS        = (*Tree)(nil)
	_ Namespace[*Node] = namespace{}
)

// namespace is a tree as Walk sees it.
type namespace struct{ t *Tree }

func (ns namespace) Entry(dir *Node, name string) (*Node, fs.FileMode, error) {
	if !dir.IsDir() {
		return nil, 0, syscall.ENOTDIR
	}
	n := dir.dir.get(name)
	if n == nil {
		return nil, 0, fs.ErrNotExist
	}
	return n, n.mode, nil
}

func (ns namespace) Target(link *Node) (string, error) { return link.Target(), nil }

func (ns namespace) Above(*Node) (*Node, error) {
	if ns.t.Part {
		return nil, ErrOutside
	}
	return ns.t.Root, nil // there is nothing above
}

func (ns namespace) Absolute(_ *Node, target string) (*Node, string, error) {
	root, err := ns.Above(nil)
	return root, target, err
}

// Lookup returns the node that a name leads to.
// It follows symbolic links, one that is the name's last element only if follow is set.
// Errors have neither an operation nor the name: [fs.ErrInvalid], [fs.ErrNotExist], [ErrOutside],
// [syscall.ENOTDIR] and [syscall.ELOOP].
func (t *Tree) Lookup(name string, follow bool) (*Node, error) {
	switch {
	case !ValidName(name):
		return nil, InvalidName(name)
	case t.Root == nil:
		return nil, fs.ErrNotExist
	case t.Root.mode.Type() == fs.ModeSymlink && (follow || name != "."):
		return nil, ErrOutside
	}
	return Walk(namespace{t}, t.Root, name, follow)
}

// MakeDirs returns the directory of the given name.
// It makes those that are missing on the way, with the permissions perm.
// If follow is set, it goes through symbolic links, and else they are no directories.
func (t *Tree) MakeDirs(name string, perm fs.FileMode, follow bool) (*Node, error) {
	m := &maker{namespace: namespace{t}, perm: perm, follow: follow}
	dir, err := t.Root, fs.ErrInvalid
	if ValidName(name) {
		dir, err = Walk(m, t.Root, name, follow)
	}
	if err != nil {
		if m.failed != "" && !follow {
			name = m.failed
		}
		return nil, &fs.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return dir, nil
}

// A maker is a namespace in which every name leads to a directory.
type maker struct {
	namespace
	perm   fs.FileMode
	follow bool
	done   []string // elements of the name
	failed string
}

func (m *maker) Entry(dir *Node, name string) (*Node, fs.FileMode, error) {
	m.done = append(m.done, name)
	n, _, err := m.namespace.Entry(dir, name)
	if err == fs.ErrNotExist {
		n, err = NewDir(m.perm), nil
		dir.Put(name, n)
	}
	if err == nil && !n.IsDir() && !(m.follow && n.mode.Type() == fs.ModeSymlink) {
		err = syscall.ENOTDIR
	}
	if err != nil {
		m.failed = strings.Join(m.done, "/")
		return nil, 0, err
	}
	return n, n.mode, nil
}

// Put puts a node in a place, over what is there.
// It makes the directories that are missing above, with permissions 0755; symbolic links are no directories.
func (t *Tree) Put(name string, n *Node) error {
	if name == "." || !ValidName(name) {
		return &fs.PathError{Op: "put", Path: name, Err: fs.ErrInvalid}
	}
	dir, err := t.MakeDirs(path.Dir(name), 0o755, false)
	if err != nil {
		return err
	}
	dir.Put(path.Base(name), n)
	return nil
}

func (t *Tree) find(op, name string, follow bool) (*Node, error) {
	n, err := t.Lookup(name, follow)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return n, nil
}

// Open opens a file of any kind but a symbolic link, which it follows.
// Regular files implement [io.ReaderAt] and [io.Seeker], unless their contents are opened and do not have the former.
func (t *Tree) Open(name string) (fs.File, error) {
	n, err := t.find("open", name, true)
	if err != nil {
		return nil, err
	}
	at := info{path.Base(name), n}
	switch from := n.from.(type) {
	case string:
		return &section{at, io.NewSectionReader(strings.NewReader(from), 0, n.size)}, nil
	case opener:
		return at.opened(from)
	case io.ReaderAt:
		return &section{at, io.NewSectionReader(from, n.off, n.size)}, nil
	}
	if n.IsDir() {
		return &openDir{info: at, left: n.dir.sorted()}, nil
	}
	return special{at}, nil
}

// Stat describes a file, and what it leads to if it is a symbolic link.
func (t *Tree) Stat(name string) (fs.FileInfo, error) {
	n, err := t.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return n.Info(path.Base(name)), nil
}

// Lstat describes a file, and the link itself if it is a symbolic link.
func (t *Tree) Lstat(name string) (fs.FileInfo, error) {
	n, err := t.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return n.Info(path.Base(name)), nil
}

// ReadLink returns the target of a symbolic link, as it is.
func (t *Tree) ReadLink(name string) (string, error) {
	n, err := t.find("readlink", name, false)
	if err == nil && n.mode.Type() != fs.ModeSymlink {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return n.Target(), nil
}

// ReadDir returns the entries of a directory in the order of the bytes of their names.
func (t *Tree) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := t.find("readdir", name, true)
	if err == nil && !n.IsDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, err
	}
	return dirEntries(n.dir.sorted()), nil
}

// info describes a node under a name, and is its entry in a directory.
type info struct {
	name string
	node *Node
}

func (i info) Name() string               { return i.name }
func (i info) Size() int64                { return i.node.size }
func (i info) Mode() fs.FileMode          { return i.node.mode }
func (i info) Type() fs.FileMode          { return i.node.mode.Type() }
func (i info) ModTime() time.Time         { return time.Unix(i.node.sec, int64(i.node.nsec)) }
func (i info) IsDir() bool                { return i.node.IsDir() }
func (i info) Sys() any                   { return i.node.sys }
func (i info) Info() (fs.FileInfo, error) { return i, nil }
func (i info) Stat() (fs.FileInfo, error) { return i, nil }
func (i info) String() string             { return fs.FormatFileInfo(i) }

func dirEntries(list []info) []fs.DirEntry {
	list = slices.Clone(list) // because the directory may change later
	entries := make([]fs.DirEntry, len(list))
	for i := range list {
		entries[i] = &list[i]
	}
	return entries
}

func (i info) opened(open opener) (fs.File, error) {
	f, err := open()
	if err != nil {
		return nil, err
	}
	if r, ok := f.(io.ReaderAt); ok {
		return &openedAt{opened{i, f}, r}, nil
	}
	return &opened{i, f}, nil
}

// opened is an open file of elsewhere, under its name in the tree.
type opened struct {
	info
	io.ReadCloser
}

type openedAt struct {
	opened
	io.ReaderAt
}

// section is an open regular file whose contents are part of something.
type section struct {
	info
	*io.SectionReader
}

func (f *section) Size() int64  { return f.node.size }
func (f *section) Close() error { return nil }

// special is an open file that is neither regular nor a directory.
type special struct{ info }

func (f special) Close() error { return nil }

func (f special) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
}

// openDir is an open directory.
type openDir struct {
	info
	left []info // not yet returned
}

func (d *openDir) Close() error { return nil }

func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: syscall.EISDIR}
}

func (d *openDir) ReadDir(count int) ([]fs.DirEntry, error) {
	if count <= 0 {
		count = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	count = min(count, len(d.left))
	taken := d.left[:count]
	d.left = d.left[count:]
	return dirEntries(taken), nil
}
