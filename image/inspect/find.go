package inspect

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/par"
)

// A Tree is to be looked at by inspectors alone.
type Tree struct {
	Root       string // name in a file system; what is there may be a file
	Inspectors []Inspector
}

// ahead is how many nodes may be ahead of the slowest.
const ahead = 1024

// Find has inspectors look at trees that nobody else reads. The result has an element for each tree.
//
// It opens every file for its first bytes, on many goroutines. What more is read is for the inspectors to say;
// small files are read once for all of them. Files that are not [io.ReaderAt] are opened again to go back in them.
// Symbolic links are not followed, so fsys should be an [fs.ReadLinkFS].
// workers is how many files are read at a time; if it is not positive, GOMAXPROCS.
func Find(ctx context.Context, fsys fs.FS, trees []Tree, workers int) ([]Facts, error) {
	if fsys == nil && len(trees) > 0 {
		return nil, fmt.Errorf("inspect: %w", closure.ErrNoFiles)
	}
	results := make([][]result, len(trees))
	for i, t := range trees {
		results[i] = newResults(t.Inspectors)
	}
	finder := finder{fsys, trees}
	for n, err := range par.Map(ctx, par.Workers(workers), ahead, finder.nodes(), finder.look) {
		if err != nil {
			return nil, fmt.Errorf("inspect: %w", err)
		}
		for i, finding := range n.findings {
			results[n.tree][i].add(finding)
		}
	}
	found := make([]Facts, len(trees))
	for i := range results {
		var err error
		if found[i], err = facts(results[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// visited is a node of one of the trees, and later what has been found in it.
type visited struct {
	Node
	tree     int
	name     string // in the file system
	findings []any  // by inspector, or nil if there are none
}

type finder struct {
	fsys  fs.FS
	trees []Tree
}

// nodes yields the nodes of all trees, in the order of a NAR.
func (f *finder) nodes() iter.Seq2[visited, error] {
	return func(yield func(visited, error) bool) {
		for i, t := range f.trees {
			info, err := fs.Lstat(f.fsys, t.Root)
			if err != nil {
				yield(visited{}, err)
				return
			}
			if !f.walk(visited{Node: newNode(".", info.Mode()), tree: i, name: t.Root}, yield) {
				return
			}
		}
	}
}

func (f *finder) walk(n visited, yield func(visited, error) bool) bool {
	if !yield(n, nil) {
		return false
	}
	if !n.Mode.IsDir() {
		return true
	}
	entries, err := fs.ReadDir(f.fsys, n.name)
	if err != nil {
		return yield(visited{}, err)
	}
	for _, e := range entries {
		child := visited{Node: newNode(path.Join(n.Path, e.Name()), e.Type()), tree: n.tree, name: path.Join(n.name, e.Name())}
		if !f.walk(child, yield) {
			return false
		}
	}
	return true
}

// look has the inspectors of its tree look at a node.
func (f *finder) look(ctx context.Context, n visited) (visited, error) {
	r := reading{contents: contents{fsys: f.fsys, name: n.name}}
	defer r.end()
	if err := r.begin(&n.Node); err != nil {
		return n, err
	}
	list := f.trees[n.tree].Inspectors
	for i, in := range list {
		finding, err := r.show(ctx, &n.Node, in)
		if err != nil {
			return n, fmt.Errorf("%s: %w", in.Name(), err)
		}
		if finding == nil {
			continue
		}
		if n.findings == nil {
			n.findings = make([]any, len(list))
		}
		n.findings[i] = finding
	}
	n.Head = nil
	return n, nil
}

// reading is that of a node by one inspector after another.
type reading struct {
	contents
	memory *[smallSize]byte // of a file
	all    io.ReaderAt      // its contents, once somebody wants them
}

// begin completes what is known of a node.
func (r *reading) begin(n *Node) (err error) {
	switch n.Mode.Type() {
	case fs.ModeSymlink:
		n.Target, err = fs.ReadLink(r.fsys, r.name)
		return err
	case 0:
		r.memory = smallFiles.Get().(*[smallSize]byte)
		k, err := r.ReadAt(r.memory[:HeadSize], 0)
		if err != nil && err != io.EOF {
			return err
		}
		info, err := r.file.Stat()
		if err != nil {
			return err
		}
		*n = newNode(n.Path, info.Mode())
		n.Head = r.memory[:k]
		return n.setSize(info.Size())
	}
	return nil
}

func (r *reading) end() {
	r.Close()
	if r.memory != nil {
		smallFiles.Put(r.memory)
	}
}

// show has an inspector look at a node, if it wants to.
func (r *reading) show(ctx context.Context, n *Node, in Inspector) (finding any, err error) {
	want := in.Wants(n)
	if want == Nothing {
		return nil, nil
	}
	if want > Itself && n.Size > 0 && r.all == nil {
		if err := r.load(n); err != nil {
			return nil, err
		}
	}
	return in.Look(ctx, &File{Node: *n, want: want, all: r.all})
}

// load makes the contents of a file readable. A small one is read into the memory that has its first bytes already.
// If it has become shorter, so has the node.
func (r *reading) load(n *Node) error {
	if n.Size > smallSize {
		r.all = &r.contents
		return nil
	}
	k := len(n.Head)
	if int64(k) < n.Size {
		more, err := r.ReadAt(r.memory[k:n.Size], int64(k))
		if err != nil && err != io.EOF {
			return err
		}
		k += more
	}
	n.Size = min(n.Size, int64(k))
	r.all = bytes.NewReader(r.memory[:n.Size])
	return nil
}
