package gpu

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/image/inspect"
)

// Runtime says how fast to work. Nothing in it changes what is found.
type Runtime struct {
	Workers int // files that are read at once; 0: as many as there are cores
}

// Inspect finds the facts of the tree at root, a name in fsys, which may be a file. See [inspect.Find].
func Inspect(ctx context.Context, fsys fs.FS, root string, rt *Runtime) (*Facts, error) {
	facts, err := InspectAll(ctx, fsys, []string{root}, rt)
	if err != nil {
		return nil, err
	}
	return facts[0], nil
}

// InspectAll finds the facts of several trees at once. The result has one element for each root.
func InspectAll(ctx context.Context, fsys fs.FS, roots []string, rt *Runtime) ([]*Facts, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	trees := make([]inspect.Tree, len(roots))
	for i, root := range roots {
		trees[i] = inspect.Tree{Root: root, Inspectors: []inspect.Inspector{Inspector}}
	}
	found, err := inspect.Find(ctx, fsys, trees, rt.Workers)
	if err != nil {
		return nil, fmt.Errorf("gpu: %w", err)
	}
	facts := make([]*Facts, len(roots))
	for i, f := range found {
		if facts[i], err = FactsOf(f); err != nil {
			return nil, err
		}
	}
	return facts, nil
}

// FactsOf returns what [Inspector] has found, out of all that inspectors have.
func FactsOf(all inspect.Facts) (*Facts, error) {
	f := new(Facts)
	if err := all.Decode(Inspector, f); err != nil {
		return nil, err
	}
	return f, nil
}

// An Observer finds the facts of a tree that somebody else reads. See [inspect.Observer].
type Observer struct{ *inspect.Observer }

// Spool has copies of files. See [inspect.Spool].
type Spool = inspect.Spool

// Observe returns an Observer of the tree at root, a name in fsys.
func Observe(ctx context.Context, fsys fs.FS, root string) *Observer {
	return &Observer{inspect.Observe(ctx, []inspect.Inspector{Inspector}, fsys, root)}
}

// ObserveStream returns an Observer of a tree of which nothing can be read again.
func ObserveStream(ctx context.Context, spool *Spool, _ string) *Observer {
	return &Observer{inspect.ObserveStream(ctx, []inspect.Inspector{Inspector}, spool)}
}

// Facts returns what [Inspect] would find, or nil if the Observer has given up. It is to be called after Close.
func (o *Observer) Facts() *Facts {
	f, err := FactsOf(o.Observer.Facts())
	if err != nil {
		return nil
	}
	return f
}
