package layout

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/nix2img/nix2img/internal/vfs"
)

// Bounds of what layers have in them. Names are as Linux has them.
const (
	maxName  = 4096    // bytes of a name, and of a link's target
	maxElem  = 255     // bytes between slashes
	maxDepth = 4096    // directories in each other
	maxFiles = 2 << 20 // entries of all layers
	maxChain = 1024    // sparse files next to each other
)

// What whiteouts are called: image-spec, layer.md.
const (
	whiteout = ".wh."         // and the name of what is not there any more
	opaque   = ".wh..wh..opq" // nothing of what lower layers have in this directory is there
	aufs     = ".wh..wh."     // begins names at the top that are only there to be linked to
)

// An applier applies layers to a tree, the lowest first.
type applier struct {
	tree  *vfs.Tree
	files int           // entries so far
	own   map[slot]bool // names that the layer at hand has put somewhere: its whiteouts do not mean them

	dir    string    // of the last entry
	parent *vfs.Node // where that led to, or nil if it may lead elsewhere now
}

// A slot is a place for a file.
type slot struct {
	dir  *vfs.Node
	name string
}

// layer applies a layer. Contents of files are read from c later.
func (a *applier) layer(in *counter, c *contents) error {
	a.own, a.parent = make(map[slot]bool), nil
	t := tar.NewReader(in)
	sparse := sparseFile{in: c, skip: -1} // the last place in the archive that is known to have a header
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if a.files++; a.files > maxFiles {
			return fmt.Errorf("there are more than %d files", maxFiles)
		}
		sparse.skip++
		isSparse := h.Typeflag == tar.TypeGNUSparse || h.PAXRecords["GNU.sparse.realsize"] != "" || h.PAXRecords["GNU.sparse.size"] != ""
		var file *vfs.Node
		switch mode := h.FileInfo().Mode(); {
		case isSparse && sparse.skip > maxChain:
			return fmt.Errorf("%s: more than %d sparse files next to each other", h.Name, maxChain)
		case isSparse:
			here := sparse
			here.size = h.Size
			file = vfs.NewOpened(mode, h.Size, here.open)
		case h.Typeflag == tar.TypeReg:
			file = vfs.NewSection(mode, c, in.n, h.Size)
			fallthrough
		default:
			sparse.off, sparse.skip = nextHeader(in.n, h), -1
		}
		if err := a.entry(h, file); err != nil {
			return err
		}
	}
	a.tree.Root.RemoveFunc(func(name string, _ *vfs.Node) bool { return strings.HasPrefix(name, aufs) })
	return nil
}

// nextHeader returns where the next header is in an archive, of which n bytes have been read.
func nextHeader(n int64, h *tar.Header) int64 {
	if h.Typeflag == tar.TypeReg {
		n += h.Size
	}
	return (n + 511) / 512 * 512
}

// entry adds an entry of a layer, or does what a whiteout says. file is the node of a regular file.
func (a *applier) entry(h *tar.Header, file *vfs.Node) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name := path.Clean("/" + h.Name)[1:]
	if name == "" { // unpackers leave the root as they made it
		return nil
	}
	if err := checkName(name); err != nil {
		return err
	}
	if len(h.Linkname) > maxName {
		return fmt.Errorf("%.40s...: a link to a name of %d bytes", name, len(h.Linkname))
	}
	dir, base := path.Split(name)
	if strings.HasPrefix(base, whiteout) && !(dir == "" && base != opaque && strings.HasPrefix(base, aufs)) {
		a.hide(path.Clean(dir), base)
		return nil
	}
	parent, err := a.mkdir(path.Clean(dir))
	if err != nil {
		return err
	}
	n, err := a.node(h, file, parent.Entry(base))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if old := parent.Entry(base); old != nil && old != n && (old.IsDir() || old.Mode().Type() == fs.ModeSymlink) {
		a.parent = nil
	}
	parent.Put(base, n)
	a.own[slot{parent, base}] = true
	return nil
}

// checkName refuses names that Linux would.
func checkName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("%.40s...: a name of %d bytes", name, len(name))
	}
	for elem := range strings.SplitSeq(name, "/") {
		if len(elem) > maxElem {
			return fmt.Errorf("%.40s...: a name of %d bytes between slashes", elem, len(elem))
		}
	}
	return nil
}

// mkdir returns a directory, and makes those that are missing on the way. It follows symbolic links,
// for layers may have been made in a tree with bin as a link to usr/bin, on top of one with the link.
func (a *applier) mkdir(dir string) (*vfs.Node, error) {
	if a.parent != nil && a.dir == dir {
		return a.parent, nil
	}
	parent, err := a.tree.MakeDirs(dir, 0o755, true)
	if err != nil {
		return nil, err
	}
	a.dir, a.parent = dir, parent
	return parent, nil
}

// node makes a file, or finds it if it is a hard link. old is what has its name.
func (a *applier) node(h *tar.Header, file, old *vfs.Node) (n *vfs.Node, err error) {
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		n = file
	case tar.TypeDir:
		if n = old; old == nil || !old.IsDir() {
			n = vfs.NewDir(mode)
		}
		n.Chmod(mode)
	case tar.TypeLink:
		target := path.Clean("/" + h.Linkname)[1:]
		if target == "" {
			target = "."
		}
		n, err = a.tree.Lookup(target, false)
		if err != nil {
			return nil, &fs.PathError{Op: "link", Path: target, Err: err}
		}
		if n.IsDir() {
			return nil, errors.New("a hard link to a directory")
		}
		return n, nil
	case tar.TypeSymlink:
		n = vfs.NewSymlink(h.Linkname)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		n = vfs.NewSpecial(mode)
	default:
		return nil, fmt.Errorf("an entry of type %q", h.Typeflag)
	}
	n.SetModTime(h.ModTime)
	n.SetSys(Owner{h.Uid, h.Gid})
	return n, nil
}

// hide does what a whiteout says, of which base is the name. Where there is nothing, it makes nothing.
func (a *applier) hide(dir, base string) {
	a.parent = nil
	n, err := a.tree.Lookup(dir, true)
	switch {
	case err != nil:
	case base == opaque:
		a.prune(n)
	default:
		a.remove(n, base[len(whiteout):])
	}
}

// remove removes what lower layers have under a name.
func (a *applier) remove(dir *vfs.Node, name string) {
	n := dir.Entry(name)
	if n == nil {
		return
	}
	if n.IsDir() {
		a.prune(n)
	}
	if !a.own[slot{dir, name}] && n.Len() == 0 {
		dir.Remove(name)
	}
}

// prune removes what lower layers have in a directory.
// Directories that the layer at hand has made something in stay.
func (a *applier) prune(dir *vfs.Node) {
	for name := range dir.Entries() {
		a.remove(dir, name)
	}
}

// checkDepth refuses a tree that is too deep to be walked.
func checkDepth(root *vfs.Node) error {
	level := []*vfs.Node{root}
	for range maxDepth {
		var below []*vfs.Node
		for _, dir := range level {
			for _, n := range dir.Entries() {
				if n.IsDir() {
					below = append(below, n)
				}
			}
		}
		if level = below; len(level) == 0 {
			return nil
		}
	}
	return fmt.Errorf("there are more than %d directories in each other", maxDepth)
}
