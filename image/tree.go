package image

import (
	"io/fs"

	"github.com/nix2img/nix2img/internal/vfs"
)

// A baseTree is a base tree that is being made.
type baseTree struct {
	*vfs.Tree
	err error // the first that there was
}

func newBaseTree() *baseTree { return &baseTree{Tree: &vfs.Tree{Root: vfs.NewDir(0o755)}} }

// put puts a node in a place, over what is there.
func (t *baseTree) put(name string, n *vfs.Node) {
	if err := t.Put(name, n); t.err == nil && err != nil {
		t.err = wrap(err, "image: make the base tree")
	}
}

// mkdir makes directories, and gives those that are there another mode.
func (t *baseTree) mkdir(mode fs.FileMode, names ...string) {
	for _, name := range names {
		if n := t.get(name); n != nil && n.IsDir() {
			n.Chmod(mode)
			continue
		}
		t.put(name, vfs.NewDir(mode))
	}
}

func (t *baseTree) write(name string, mode fs.FileMode, text string) {
	t.put(name, vfs.NewFile(mode, text))
}

func (t *baseTree) symlink(name, target string) { t.put(name, vfs.NewSymlink(target)) }

// get returns the node in a place, without following a link there, or nil.
func (t *baseTree) get(name string) *vfs.Node {
	n, err := t.Lookup(name, false)
	if err != nil {
		return nil
	}
	return n
}
