package oci

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/nix2img/nix2img/closure"
)

// A node is a file of a store object, as the metadata of its blob have it.
// So the files of objects that have a blob can be looked at without the store.
type node struct {
	Name []byte `json:"n"` // within the object; empty for its root
	Kind string `json:"k"` // "d", "f", "x" if executable, "l"
	Size int64  `json:"s,omitzero"`
	Off  int64  `json:"o,omitzero"` // where in the tar entries the contents are
	Link []byte `json:"l,omitempty"`
}

// newNode describes the file that the tar entry of a tree's root or of something below it has.
func newNode(root, name string, info fs.FileInfo, link string, off int64) node {
	n := node{Name: []byte(strings.TrimPrefix(strings.TrimPrefix(name, root), "/")), Off: off}
	switch info.Mode().Type() {
	case fs.ModeDir:
		n.Kind = "d"
	case fs.ModeSymlink:
		n.Kind, n.Link = "l", []byte(link)
	default:
		n.Kind, n.Size = "f", info.Size()
		if info.Mode()&0o111 != 0 {
			n.Kind = "x"
		}
	}
	return n
}

var errNodes = errors.New("its files are not a tree")

// checkNodes finds out whether nodes are a tree in the order of a NAR, with all contents in so many bytes of tar.
func checkNodes(nodes []node, size int64) error {
	type dir struct{ name, last string } // last is the name in it that came last
	var dirs []dir                       // that the node lies in
	for i, n := range nodes {
		name := string(n.Name)
		parent, base := "", name
		if k := strings.LastIndexByte(name, '/'); k >= 0 {
			parent, base = name[:k], name[k+1:]
		}
		for len(dirs) > 0 && dirs[len(dirs)-1].name != parent {
			dirs = dirs[:len(dirs)-1]
		}
		switch {
		case n.Off < 0 || n.Size < 0 || n.Size > size-n.Off || n.Mode() == fs.ModeIrregular:
			return errNodes
		case i == 0 && name == "": // the root
		case base == "." || base == ".." || len(dirs) == 0 || base <= dirs[len(dirs)-1].last:
			return errNodes
		default:
			dirs[len(dirs)-1].last = base
		}
		if n.Kind == "d" {
			dirs = append(dirs, dir{name: name})
		}
	}
	if len(nodes) == 0 {
		return errNodes
	}
	return nil
}

// errDropped says that a blob was damaged, and is there no more.
var errDropped = errors.New("oci: an entry of the cache has been dropped")

// An overlay is a store of which those objects come from blobs that have one.
type overlay struct {
	ctx   context.Context // of looking for blobs: methods of an fs.FS get none
	s     *blobs
	files fs.FS

	mu    sync.Mutex
	units map[string]*unit // by base name
	trees map[string]*tree // that have been looked for; nil: there is no blob
}

var (
	_ fs.ReadDirFS  = (*overlay)(nil)
	_ fs.StatFS     = (*overlay)(nil)
	_ fs.ReadLinkFS = (*overlay)(nil)
)

// A tree is the files of one object.
type tree struct {
	nodes   map[string]*node
	entries map[string][]string // names in directories
	data    *blobReader
}

func (s *blobs) overlay(ctx context.Context, c *closure.Closure, units map[string]*unit) *overlay {
	return &overlay{ctx: ctx, s: s, files: c.Files, units: units, trees: make(map[string]*tree)}
}

// of returns the tree in which a file is, or nil if it is to be looked for in the store.
func (o *overlay) of(name string) (t *tree, rel string, err error) {
	base, rel, _ := strings.Cut(name, "/")
	o.mu.Lock()
	defer o.mu.Unlock()
	t, ok := o.trees[base]
	u := o.units[base]
	if ok || u == nil {
		return t, rel, nil
	}
	b, err := o.s.lookup(o.ctx, u)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, rel, err
	}
	if err == nil {
		t = newTree(o.s, u, b)
	}
	o.trees[base] = t
	return t, rel, nil
}

func newTree(s *blobs, u *unit, b *blob) *tree {
	t := &tree{make(map[string]*node), make(map[string][]string), &blobReader{s: s, u: u, b: b, at: -1}}
	for i := range b.Nodes {
		n := &b.Nodes[i]
		name := string(n.Name)
		t.nodes[name] = n
		if name != "" {
			dir := strings.TrimSuffix(path.Dir(name), ".")
			t.entries[dir] = append(t.entries[dir], name)
		}
	}
	return t
}

func (o *overlay) Lstat(name string) (fs.FileInfo, error) {
	t, rel, err := o.of(name)
	if err == nil && t == nil {
		return fs.Lstat(o.files, name)
	}
	if err == nil && t.nodes[rel] == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return &nodeInfo{path.Base(name), t.nodes[rel]}, nil
}

// Stat does not follow symbolic links in objects that come from blobs: nobody needs it.
func (o *overlay) Stat(name string) (fs.FileInfo, error) { return o.Lstat(name) }

func (o *overlay) ReadLink(name string) (string, error) {
	t, rel, err := o.of(name)
	if err == nil && t == nil {
		return fs.ReadLink(o.files, name)
	}
	if err == nil && (t.nodes[rel] == nil || t.nodes[rel].Kind != "l") {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return string(t.nodes[rel].Link), nil
}

func (o *overlay) ReadDir(name string) ([]fs.DirEntry, error) {
	t, rel, err := o.of(name)
	if err == nil && t == nil {
		return fs.ReadDir(o.files, name)
	}
	if err == nil && (t.nodes[rel] == nil || t.nodes[rel].Kind != "d") {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
	}
	list := make([]fs.DirEntry, len(t.entries[rel]))
	for i, entry := range t.entries[rel] {
		list[i] = fs.FileInfoToDirEntry(&nodeInfo{path.Base(entry), t.nodes[entry]})
	}
	return list, nil
}

// Open opens a regular file, or a directory of the store itself.
func (o *overlay) Open(name string) (fs.File, error) {
	t, rel, err := o.of(name)
	if err == nil && t == nil {
		return o.files.Open(name)
	}
	if err == nil && t.nodes[rel] == nil {
		err = fs.ErrNotExist
	}
	if err == nil && !t.nodes[rel].Mode().IsRegular() {
		err = fs.ErrInvalid
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	n := t.nodes[rel]
	return &nodeFile{io.NewSectionReader(t.data, n.Off, n.Size), nodeInfo{path.Base(name), n}}, nil
}

// Mode is that of a store.
func (n *node) Mode() fs.FileMode {
	switch n.Kind {
	case "d":
		return fs.ModeDir | 0o555
	case "f":
		return 0o444
	case "x":
		return 0o555
	case "l":
		return fs.ModeSymlink | 0o777
	}
	return fs.ModeIrregular
}

// nodeInfo is a node as an fs.FileInfo.
type nodeInfo struct {
	name string
	node *node
}

func (i *nodeInfo) Name() string       { return i.name }
func (i *nodeInfo) Size() int64        { return i.node.Size }
func (i *nodeInfo) Mode() fs.FileMode  { return i.node.Mode() }
func (i *nodeInfo) ModTime() time.Time { return modTime }
func (i *nodeInfo) IsDir() bool        { return i.node.Kind == "d" }
func (i *nodeInfo) Sys() any           { return nil }

// nodeFile is a regular file that has been opened.
type nodeFile struct {
	*io.SectionReader
	info nodeInfo
}

func (f *nodeFile) Stat() (fs.FileInfo, error) { return &f.info, nil }
func (f *nodeFile) Close() error               { return nil }

// A blobReader reads a blob as it is uncompressed, at any offset.
type blobReader struct {
	s *blobs
	u *unit // nil: a damaged blob stays where it is
	b *blob

	mu          sync.Mutex
	offsets     []int64 // of members in the blob
	at          int     // index of the member in raw
	packed, raw []byte
}

func (r *blobReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 { // as metadata may have it
		return 0, fs.ErrInvalid
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) {
		if off >= r.b.RawSize {
			return n, io.EOF
		}
		if err := r.load(int(off / int64(r.s.piece))); err != nil {
			return n, err
		}
		m := copy(p[n:], r.raw[min(off%int64(r.s.piece), int64(len(r.raw))):])
		if m == 0 {
			return n, io.ErrUnexpectedEOF
		}
		n += m
		off += int64(m)
	}
	return n, nil
}

// load expands a member.
func (r *blobReader) load(i int) (err error) {
	if r.at == i {
		return nil
	}
	if r.offsets == nil {
		off := int64(0)
		for _, m := range r.b.Members {
			r.offsets = append(r.offsets, off)
			off += int64(m.Size)
		}
		r.raw = make([]byte, 0, r.s.piece)
	}
	if i >= len(r.offsets) {
		return io.ErrUnexpectedEOF
	}
	r.at = -1
	if r.packed, err = r.b.member(r.packed, r.b.Members[i], r.offsets[i]); err != nil && r.u != nil {
		err = cmp.Or(r.s.giveUp(r.u, err), errDropped)
	}
	if err != nil {
		return err
	}
	st, err := r.s.stream()
	if err != nil {
		return err
	}
	defer r.s.streams.Put(st)
	if r.raw, err = st.Expand(r.raw[:0], r.packed); err != nil {
		return err
	}
	if int64(len(r.raw)) != min(int64(r.s.piece), r.b.RawSize-int64(i)*int64(r.s.piece)) {
		return errLength
	}
	r.at = i
	return nil
}

// errLength reports a member of another length than its place gives it.
var errLength = errors.New("a piece has another length than it should")
