package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// userFiles is the file system that --file describes.
//
// Its modes follow from a rule and never from the umask of whoever made the files:
// directories have 0755, regular files 0755 if their owner may execute them, else 0644.
// All modification times are one second after the epoch.
type userFiles struct {
	root *userNode
}

type userNode struct {
	name     string
	mode     fs.FileMode
	size     int64
	source   string // file on this machine; empty: there is none
	target   string // of a symbolic link
	children map[string]*userNode
}

var (
	_ fs.ReadLinkFS = (*userFiles)(nil)
	_ fs.ReadDirFS  = (*userFiles)(nil)
	_ fs.StatFS     = (*userFiles)(nil)
)

func newDir(name string) *userNode {
	return &userNode{name: name, mode: fs.ModeDir | 0o755, children: make(map[string]*userNode)}
}

// newUserFiles reads values of --file, "[SRC:]DST" each.
// It looks at the sources but does not read them.
func newUserFiles(specs []string) (*userFiles, error) {
	u := &userFiles{newDir(".")}
	for _, spec := range specs {
		if err := u.add(spec); err != nil {
			return nil, fmt.Errorf("--file %s: %w", spec, err)
		}
	}
	return u, nil
}

func (u *userFiles) add(spec string) error {
	src, dst, ok := cutFile(spec)
	if !ok {
		return withHint(usagef("the destination is not an absolute path"), "write SRC:/DST, or /DST/ for an empty directory")
	}
	isDir := strings.HasSuffix(dst, "/")
	name := strings.TrimPrefix(path.Clean(dst), "/")
	if src == "" {
		if name == "" {
			return usagef("the destination is the root directory")
		}
		node := &userNode{mode: 0o644}
		if isDir {
			node = newDir("")
		}
		return u.insert(name, node)
	}
	if isDir && name != "" {
		name += "/"
	}
	if isDir {
		abs, err := filepath.Abs(src)
		if err != nil {
			return err
		}
		name += filepath.Base(abs)
	}
	if name == "" {
		return usagef("the destination is the root directory")
	}
	// A link that is named is what it points to; those found below a directory stay links.
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	node, err := scan(src, info)
	if err != nil {
		return err
	}
	return u.insert(name, node)
}

// cutFile takes [SRC:]DST apart. The destination begins after the last ":/".
func cutFile(spec string) (src, dst string, ok bool) {
	if i := strings.LastIndex(spec, ":/"); i > 0 {
		return spec[:i], spec[i+1:], true
	}
	return "", spec, strings.HasPrefix(spec, "/")
}

// scan returns the node of a file on this machine, with all that lies below it.
func scan(file string, info fs.FileInfo) (*userNode, error) {
	switch info.Mode().Type() {
	case 0:
		// That it cannot be read should be known before the work begins.
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		f.Close()
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return &userNode{mode: mode, size: info.Size(), source: file}, nil
	case fs.ModeSymlink:
		target, err := os.Readlink(file)
		if err != nil {
			return nil, err
		}
		return &userNode{mode: fs.ModeSymlink | 0o777, size: int64(len(target)), target: target}, nil
	case fs.ModeDir:
		dir := newDir("")
		entries, err := os.ReadDir(file)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			child, err := scan(file+"/"+e.Name(), info)
			if err != nil {
				return nil, err
			}
			child.name = e.Name()
			dir.children[e.Name()] = child
		}
		return dir, nil
	}
	return nil, fmt.Errorf("%s: neither a regular file, a directory nor a symbolic link", file)
}

// insert puts a node in its place. Directories are merged.
func (u *userFiles) insert(name string, node *userNode) error {
	dir := u.root
	elems := strings.Split(name, "/")
	for i, elem := range elems[:len(elems)-1] {
		next := dir.children[elem]
		if next == nil {
			next = newDir(elem)
			dir.children[elem] = next
		} else if !next.mode.IsDir() {
			return fmt.Errorf("/%s is not a directory", strings.Join(elems[:i+1], "/"))
		}
		dir = next
	}
	node.name = elems[len(elems)-1]
	return dir.merge(node, "/"+name)
}

func (n *userNode) merge(child *userNode, where string) error {
	old := n.children[child.name]
	if old == nil {
		n.children[child.name] = child
		return nil
	}
	if !old.mode.IsDir() || !child.mode.IsDir() {
		return fmt.Errorf("%s is given twice", where)
	}
	for _, c := range child.sorted() {
		if err := old.merge(c, where+"/"+c.name); err != nil {
			return err
		}
	}
	return nil
}

func (n *userNode) sorted() []*userNode {
	nodes := make([]*userNode, 0, len(n.children))
	for _, c := range n.children {
		nodes = append(nodes, c)
	}
	slices.SortFunc(nodes, func(a, b *userNode) int { return strings.Compare(a.name, b.name) })
	return nodes
}

var errLoop = errors.New("too many symbolic links")

// find returns the node with the given name. Links below the last element are followed,
// and a link that is the last element if follow is set.
func (u *userFiles) find(op, name string, follow bool) (*userNode, error) {
	fail := func(err error) (*userNode, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	if !validName(name) {
		return fail(fs.ErrInvalid)
	}
	stack := []*userNode{u.root}
	todo := name
	for links := 0; todo != "" && todo != "."; {
		var elem string
		elem, todo, _ = strings.Cut(todo, "/")
		dir := stack[len(stack)-1]
		switch elem {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		node := dir.children[elem]
		if node == nil {
			return fail(fs.ErrNotExist)
		}
		if node.mode.Type() == fs.ModeSymlink && (follow || todo != "") {
			if links++; links > 40 {
				return fail(errLoop)
			}
			if strings.HasPrefix(node.target, "/") {
				stack = stack[:1]
			}
			todo = node.target + "/" + todo
			continue
		}
		stack = append(stack, node)
	}
	return stack[len(stack)-1], nil
}

// validName is [fs.ValidPath] without its demand for UTF-8.
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

func (u *userFiles) Open(name string) (fs.File, error) {
	n, err := u.find("open", name, true)
	if err != nil {
		return nil, err
	}
	if n.source != "" {
		f, err := os.Open(n.source)
		if err != nil {
			return nil, err
		}
		return sourceFile{f, n}, nil
	}
	return &emptyFile{node: n, path: name, r: bytes.NewReader(nil), left: n.sorted()}, nil
}

func (u *userFiles) Stat(name string) (fs.FileInfo, error) {
	n, err := u.find("stat", name, true)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (u *userFiles) Lstat(name string) (fs.FileInfo, error) {
	n, err := u.find("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return n, nil
}

func (u *userFiles) ReadLink(name string) (string, error) {
	n, err := u.find("readlink", name, false)
	if err != nil {
		return "", err
	}
	if n.mode.Type() != fs.ModeSymlink {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return n.target, nil
}

func (u *userFiles) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := u.find("readdir", name, true)
	if err != nil {
		return nil, err
	}
	if !n.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	return entriesOf(n.sorted()), nil
}

func entriesOf(nodes []*userNode) []fs.DirEntry {
	entries := make([]fs.DirEntry, len(nodes))
	for i, n := range nodes {
		entries[i] = fs.FileInfoToDirEntry(n)
	}
	return entries
}

// A userNode is its own fs.FileInfo.
func (n *userNode) Name() string       { return n.name }
func (n *userNode) Size() int64        { return n.size }
func (n *userNode) Mode() fs.FileMode  { return n.mode }
func (n *userNode) ModTime() time.Time { return time.Unix(1, 0) }
func (n *userNode) IsDir() bool        { return n.mode.IsDir() }
func (n *userNode) Sys() any           { return nil }

// sourceFile is a regular file on this machine that goes by its node's metadata.
type sourceFile struct {
	*os.File
	node *userNode
}

func (f sourceFile) Stat() (fs.FileInfo, error) { return f.node, nil }

// emptyFile is a directory, or an empty file.
type emptyFile struct {
	node *userNode
	path string
	r    *bytes.Reader
	left []*userNode
}

func (f *emptyFile) Stat() (fs.FileInfo, error) { return f.node, nil }
func (f *emptyFile) Close() error               { return nil }

func (f *emptyFile) Read(p []byte) (int, error) {
	if f.node.mode.IsDir() {
		return 0, &fs.PathError{Op: "read", Path: f.path, Err: errors.New("is a directory")}
	}
	return f.r.Read(p)
}

func (f *emptyFile) ReadAt(p []byte, off int64) (int, error) { return f.r.ReadAt(p, off) }

func (f *emptyFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if !f.node.mode.IsDir() {
		return nil, &fs.PathError{Op: "readdir", Path: f.path, Err: errors.New("not a directory")}
	}
	if n <= 0 {
		n = len(f.left)
	} else if len(f.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(f.left))
	entries := entriesOf(f.left[:n])
	f.left = f.left[n:]
	return entries, nil
}
