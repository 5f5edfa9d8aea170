package squashfs

import (
	"fmt"
	"io"
	"path"
	"strings"
)

// nodeDir is a directory of Nodes whose entries are being read.
type nodeDir struct {
	path string
	last string // name of the last entry
}

// nodes reads a tree that gives itself.
// Nobody else can read its contents, so they are read here.
func (w *walker) nodes() bool {
	t := w.enc.tree
	var open []nodeDir // from the root on
	for first := true; ; first = false {
		if err := w.ctx.Err(); err != nil {
			return w.yield(piece{}, err) && false
		}
		n, err := t.nodes.Next()
		if err == io.EOF && !first {
			return true
		}
		if err != nil {
			return w.failNode(n.Path, err)
		}
		depth := 0 // how many directories the node lies in
		if !first {
			depth = strings.Count(n.Path, "/") + 1
		}
		if err := enter(open, depth, n.Path); err != nil {
			return w.failNode(n.Path, err)
		}
		p := piece{enc: w.enc, path: n.Path, info: n.Info, link: n.Target, up: len(open) - depth}
		open = open[:depth]
		if n.Info.IsDir() {
			open = append(open, nodeDir{path: n.Path})
		}
		if !w.stream(p) {
			return false
		}
	}
}

func (w *walker) failNode(name string, err error) bool {
	return w.fail("read", path.Join(w.enc.tree.Name, name), err)
}

// enter judges the place of a node, and makes it the last entry of its directory.
func enter(open []nodeDir, depth int, name string) error {
	if depth == 0 {
		if name != "." {
			return fmt.Errorf("the first node is %q", name)
		}
		return nil
	}
	dir, base := path.Split(name)
	if depth > len(open) || join(open[depth-1].path, base) != name {
		return fmt.Errorf("its directory %q is not being read", dir)
	}
	if !validName(base) {
		return errName
	}
	parent := &open[depth-1]
	if base <= parent.last {
		return fmt.Errorf("it does not come after %q", parent.last)
	}
	parent.last = base
	return nil
}

// stream gives the pieces of a node, of which p is the first.
func (w *walker) stream(p piece) bool {
	t := w.enc.tree
	size := p.info.Size()
	if !p.info.Mode().IsRegular() || size == 0 {
		return w.yield(p, nil)
	}
	name, blockSize := p.path, int64(w.e.blockSize)
	for off := int64(0); off < size; off += blockSize {
		p.buf = w.e.buffers.get()
		if p.buf == nil {
			return false
		}
		p.buf.data = p.buf.data[:min(blockSize, size-off)]
		n, err := io.ReadFull(t.nodes, p.buf.data)
		if err := short(n, len(p.buf.data), err); err != nil {
			return w.failNode(name, err)
		}
		p.off = off
		if !w.yield(p, nil) {
			return false
		}
		p = piece{enc: w.enc}
	}
	return true
}
