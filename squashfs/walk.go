package squashfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

var (
	errXattrs   = errors.New("extended attributes are not supported")
	errTarget   = fmt.Errorf("target of a symbolic link is empty or longer than %d bytes", maxTarget)
	errDevice   = errors.New("device without a number: FileInfo.Sys is no *squashfs.Inode")
	errKind     = errors.New("neither a regular file, a directory, a symbolic link, a device, a pipe nor a socket")
	errName     = fmt.Errorf("name is empty, \".\", \"..\", longer than %d bytes or holds a slash or NUL", maxName)
	errTooLarge = errors.New("the tree has too many files, or too long names")
	errChanged  = errors.New("the file changed while it was read")
)

// A SourceError reports a file of a tree that cannot be read, or that the format cannot hold.
type SourceError struct {
	Op   string // what was tried: "open", "read", "encode", ...
	Tree string // name of the tree
	File string // name of the file in the tree's file system
	Err  error
}

func (e *SourceError) Error() string {
	if pe, ok := e.Err.(*fs.PathError); ok {
		// It knows better where the file lies, and has the operation, too.
		return "squashfs: " + pe.Error()
	}
	return fmt.Sprintf("squashfs: %s %q: %v", e.Op, e.File, e.Err)
}

func (e *SourceError) Unwrap() error { return e.Err }

// A piece is one step of reading a tree:
// a node, at most one block of a file's contents, or both.
type piece struct {
	enc  *encoding
	path string      // of the node, relative to the tree's root
	info fs.FileInfo // announces the node if not nil
	link string      // target of a symbolic link
	up   int         // how many directories end before the node
	end  bool        // the tree is complete

	buf  *buffer // for the contents; nil: there are none
	file *source // where they come from; nil: buf holds them
	off  int64
}

// A walker reads trees sequentially, in the order of a NAR.
// Contents it leaves to others wherever it can.
type walker struct {
	ctx   context.Context
	e     *encoder
	enc   *encoding
	yield func(piece, error) bool
	up    int
}

// walk gives the pieces of all trees.
// It has acquired, in order, the buffers for their contents.
func (e *encoder) walk(ctx context.Context, trees []Tree) func(func(piece, error) bool) {
	return func(yield func(piece, error) bool) {
		for i := range trees {
			w := walker{ctx: ctx, e: e, enc: e.newEncoding(&trees[i]), yield: yield}
			if !w.tree() {
				return
			}
		}
	}
}

func (w *walker) fail(op, name string, err error) bool {
	w.yield(piece{}, &SourceError{op, w.enc.tree.Name, name, err})
	return false
}

func (w *walker) tree() bool {
	t := w.enc.tree
	if t.segment != nil {
		return w.yield(piece{enc: w.enc, end: true}, nil)
	}
	if t.nodes != nil {
		return w.nodes() && w.yield(piece{enc: w.enc, end: true}, nil)
	}
	info, err := fs.Lstat(t.fsys, t.root)
	if err != nil {
		return w.fail("read", t.root, err)
	}
	return w.node(t.root, ".", info) && w.yield(piece{enc: w.enc, end: true}, nil)
}

// node reads the file that is name in the file system and path in the tree.
func (w *walker) node(name, path string, info fs.FileInfo) bool {
	if err := w.ctx.Err(); err != nil {
		return w.yield(piece{}, err) && false
	}
	p := piece{enc: w.enc, path: path, info: info, up: w.up}
	w.up = 0
	switch info.Mode().Type() {
	case 0:
		return w.contents(p, name)
	case fs.ModeSymlink:
		target, err := fs.ReadLink(w.enc.tree.fsys, name)
		if err != nil {
			return w.fail("read link", name, err)
		}
		p.link = target
		return w.yield(p, nil)
	case fs.ModeDir:
		return w.yield(p, nil) && w.entries(name, path)
	}
	return w.yield(p, nil)
}

func (w *walker) entries(name, path string) bool {
	list, err := fs.ReadDir(w.enc.tree.fsys, name)
	if err != nil {
		return w.fail("read directory", name, err)
	}
	last := ""
	for _, entry := range list {
		base := entry.Name()
		if !validName(base) {
			return w.fail("encode", join(name, base), errName)
		}
		if base <= last {
			return w.fail("read directory", name, fmt.Errorf("entry %q does not come after %q", base, last))
		}
		last = base
		info, err := entry.Info()
		if err != nil {
			return w.fail("read", join(name, base), err)
		}
		if !w.node(join(name, base), join(path, base), info) {
			return false
		}
	}
	w.up++
	return true
}

func validName(s string) bool {
	return 0 < len(s) && len(s) <= maxName && s != "." && s != ".." && !strings.ContainsAny(s, "/\x00")
}

func join(dir, base string) string {
	if dir == "." {
		return base
	}
	return dir + "/" + base
}

// contents gives the pieces of a regular file, of which p is the first.
func (w *walker) contents(p piece, name string) bool {
	size := p.info.Size()
	if size == 0 {
		return w.yield(p, nil)
	}
	src := &source{fsys: w.enc.tree.fsys, name: name, size: size}
	blockSize := int64(w.e.blockSize)
	if size > blockSize {
		// The file is opened here, once, for its pieces to share.
		if err := w.e.open(src); err != nil {
			return w.fail("open", name, err)
		}
		src.left = int((size + blockSize - 1) / blockSize)
	}
	for off := int64(0); off < size; off += blockSize {
		p.buf = w.e.buffers.get()
		if p.buf == nil {
			return false
		}
		p.buf.data = p.buf.data[:min(blockSize, size-off)]
		p.file, p.off = src, off
		if size > blockSize && src.at == nil {
			// Such a file can only be read from beginning to end.
			if err := src.read(p.buf.data, off); err != nil {
				return w.fail("read", name, err)
			}
			if p.file = nil; off+blockSize >= size {
				w.e.close(src)
			}
		}
		if !w.yield(p, nil) {
			return false
		}
		p = piece{enc: w.enc}
	}
	return true
}

// load reads a piece's contents. Calls run in parallel.
func (e *encoder) load(_ context.Context, p piece) (piece, error) {
	if p.file == nil {
		return p, nil
	}
	src := p.file
	fail := func(op string, err error) (piece, error) {
		return p, &SourceError{op, p.enc.tree.Name, src.name, err}
	}
	if src.f == nil {
		if err := e.open(src); err != nil {
			return fail("open", err)
		}
		src.left = 1
	}
	read := src.read
	if src.at != nil {
		read = src.readAt
	}
	if err := read(p.buf.data, p.off); err != nil {
		return fail("read", err)
	}
	e.done(src)
	p.file = nil
	return p, nil
}
