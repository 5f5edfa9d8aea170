package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/nix2img/nix2img/closure"
)

// closureLister is one run of "nix2img closure".
type closureLister struct {
	*app
	source source
	tree   bool
	top    int
	asJSON bool
}

func newClosure(a *app) *cobra.Command {
	l := &closureLister{app: a}
	cmd := &cobra.Command{
		Use:   "closure [--tree|--top [N]|--json] [flags] ROOT...",
		Short: "List the store paths that an image would have",
		Long: `List the store paths that an image of the given roots would have, in the order of the image:
the size of each, where it comes from, and its name. Nothing is downloaded but metadata.

With --tree, paths are listed below what refers to them, each with what is below it only once.
With --top, those come first that add most: what a path adds is its own size
and that of all that would not be there without it.`,
		Example: `  nix2img closure ./result
  nix2img closure --top ./result
  nix2img closure --from https://cache.example.org --json /nix/store/...-python3-env`,
		RunE: func(cmd *cobra.Command, args []string) error {
			l.source.roots = args
			return l.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&l.tree, "tree", false, "list as a tree of references")
	f.IntVar(&l.top, "top", 0, "list the `N` paths that add most")
	f.Lookup("top").NoOptDefVal = "20"
	f.BoolVar(&l.asJSON, "json", false, "print all that is known, as JSON")
	l.source.addFlags(f)
	return cmd
}

// listedObject is a store path in the output of --json.
type listedObject struct {
	Path       closure.Path   `json:"path"`
	NARHash    closure.Hash   `json:"narHash"`
	NARSize    int64          `json:"narSize"`
	AddedSize  int64          `json:"addedSize"`
	References []closure.Path `json:"references"`
	Source     string         `json:"source"` // "store", "stream", or the URL of a binary cache
	URL        string         `json:"url,omitempty"`
	FileSize   int64          `json:"fileSize,omitempty"`
}

func (l *closureLister) run(ctx context.Context) error {
	if l.top < 0 {
		return usagef("--top %d: want 1 or more", l.top)
	}
	c, err := l.source.load(ctx, l.app)
	defer l.source.Close()
	if err != nil {
		return err
	}
	w := bufio.NewWriter(l.ui.stdout)
	switch {
	case l.asJSON:
		err = l.printJSON(c)
	case l.tree:
		printTree(w, c)
	default:
		l.printList(w, c)
	}
	if err := cmp.Or(err, w.Flush()); err != nil {
		return err
	}
	l.ui.infof("%s, %s", plural(len(c.Objects()), "store path"), formatSize(c.NARSize()))
	return nil
}

// load opens the closure for commands that do not look into its files.
func (s *source) load(ctx context.Context, a *app) (*closure.Closure, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	a.ui.busyf("reading the closure")
	c, err := s.open(ctx, a.ui)
	a.ui.status("")
	return c, err
}

func (l *closureLister) list(c *closure.Closure) []listedObject {
	added := c.AddedSizes()
	list := make([]listedObject, len(added))
	for i, o := range c.Objects() {
		list[i] = listedObject{
			Path: o.Path, NARHash: o.NARHash, NARSize: o.NARSize, AddedSize: added[i], Source: "store",
			References: append([]closure.Path{}, o.References...), // an empty list, and not null
		}
		if l.source.stream() != "" {
			list[i].Source = "stream"
		}
		if l.source.remote.files != nil {
			if n, cache := l.source.remote.files.Info(o.Path); n != nil {
				list[i].Source, list[i].URL, list[i].FileSize = cache.URL, l.source.remote.files.Address(o.Path), n.FileSize
			}
		}
	}
	return list
}

func (l *closureLister) printList(w io.Writer, c *closure.Closure) {
	list := l.list(c)
	size := func(o listedObject) int64 { return o.NARSize }
	if l.top > 0 {
		size = func(o listedObject) int64 { return o.AddedSize }
		slices.SortStableFunc(list, func(a, b listedObject) int { return cmp.Compare(b.AddedSize, a.AddedSize) })
		list = list[:min(l.top, len(list))]
	}
	for _, o := range list {
		fmt.Fprintf(w, "%8s  %s  %s\n", formatSize(size(o)), printable(o.Source), o.Path)
	}
}

// closureResult is what "closure --json" prints.
type closureResult struct {
	StoreDir string         `json:"storeDir"`
	Roots    []closure.Path `json:"roots"`
	NARSize  int64          `json:"narSize"` // bytes, of all store paths
	Objects  []listedObject `json:"objects"` // in the order of the image
}

func (l *closureLister) printJSON(c *closure.Closure) error {
	return printEnvelope(l.ui, "closure", &closureResult{c.StoreDir(), c.Roots(), c.NARSize(), l.list(c)})
}

// printTree prints the references as nix-store -q --tree does.
func printTree(w io.Writer, c *closure.Closure) {
	seen := make(map[closure.Path]bool)
	var print func(p closure.Path, first, rest string)
	print = func(p closure.Path, first, rest string) {
		o, _ := c.Object(p)
		refs := slices.DeleteFunc(slices.Clone(o.References), func(ref closure.Path) bool { return ref == p })
		more := ""
		if seen[p] && len(refs) > 0 {
			more, refs = " [...]", nil
		}
		seen[p] = true
		fmt.Fprintf(w, "%s%s%s\n", first, p, more)
		for i, ref := range refs {
			if i < len(refs)-1 {
				print(ref, rest+"├───", rest+"│   ")
			} else {
				print(ref, rest+"└───", rest+"    ")
			}
		}
	}
	for _, root := range c.Roots() {
		print(root, "", "")
	}
}

// whyResult is what "why --json" prints.
type whyResult struct {
	Root  closure.Path   `json:"root"`
	Path  closure.Path   `json:"path"`
	Chain []closure.Path `json:"chain"` // from root to path, each referring to the next
}

func newWhy(a *app) *cobra.Command {
	s, asJSON := &source{}, false
	cmd := &cobra.Command{
		Use:   "why [flags] ROOT PATH",
		Short: "Say why a store path is in the closure of another",
		Long: `Print the shortest chain of references from ROOT to PATH, one path on each line.
PATH is a store path, or the name of one without its digest.`,
		Example: `  nix2img why ./result /nix/store/...-gcc-13.2.0
  nix2img why --from https://cache.example.org /nix/store/...-python3-env perl-5.38`,
		Args: exactArgs(2, "a root and a path in its closure"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.roots = args[:1]
			c, err := s.load(cmd.Context(), a)
			defer s.Close()
			if err != nil {
				return err
			}
			to, err := s.choose(c, args[1])
			if err != nil {
				return err
			}
			chain := c.Why(c.Roots()[0], to)
			if asJSON {
				return printEnvelope(a.ui, "why", &whyResult{c.Roots()[0], to, chain})
			}
			for i, p := range chain {
				if err := a.ui.resultf("%s%s\n", strings.Repeat("  ", i), p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	s.addFlags(cmd.Flags())
	return cmd
}

// choose returns the object of a closure that an argument means.
func (s *source) choose(c *closure.Closure, arg string) (closure.Path, error) {
	var found []closure.Path
	for _, o := range c.Objects() {
		if o.Path.Name() == arg || o.Path.Base() == arg {
			found = append(found, o.Path)
		}
	}
	if len(found) > 1 {
		return "", withHint(usagef("why: %s is the name of %d paths", arg, len(found)), "one of them is %s", found[0])
	}
	if len(found) == 1 {
		return found[0], nil
	}
	p, err := closure.ResolveRoot(arg, c.StoreDir(), s.store)
	if err != nil {
		return "", &sourceError{err}
	}
	if _, ok := c.Object(p); !ok {
		return "", &sourceError{fmt.Errorf("why: %s does not need %s", c.Roots()[0], p)}
	}
	return p, nil
}
