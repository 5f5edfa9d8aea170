package closure

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
)

// Object is one store object as its metadata describe it.
type Object struct {
	Path       Path
	NARHash    Hash   // zero: not known
	NARSize    int64  // bytes; 0: not known
	References []Path // sorted, without duplicates; may contain Path itself
}

// Closure is a set of store objects that contains every reference of its members.
// [New] makes one.
// It does not change afterwards, and any number of goroutines may use it.
type Closure struct {
	// Files holds the objects' files: each object's tree lies under its base name.
	// See [DirFS]. Nil stands for files that are not known: what needs them says so by [ErrNoFiles].
	Files fs.FS

	storeDir string
	roots    []Path
	objects  []Object
	index    map[Path]int // into objects
	narSize  int64
}

// New returns the closure of the given roots: of the objects, those that the roots reach.
// Without roots it takes all objects,
// and the roots are those that no other object refers to, sorted.
//
// All objects must lie in one store directory.
// An object may be described several times if the descriptions agree.
// Among the errors are [*MissingError] if the objects are not closed,
// [*CycleError], [*ConflictError] and [*SyntaxError].
func New(roots []Path, objects []Object) (*Closure, error) {
	sorted, err := normalize(objects)
	if err != nil {
		return nil, err
	}
	if len(sorted) == 0 {
		return nil, errors.New("closure: no objects")
	}
	storeDir := sorted[0].Path.Dir()
	for _, o := range sorted {
		if o.Path.Dir() != storeDir {
			return nil, fmt.Errorf("closure: %s and %s are in different stores", sorted[0].Path, o.Path)
		}
	}
	g := newGraph(sorted)
	reach := roots
	if len(roots) == 0 {
		roots = g.sources()
		reach = g.paths() // more than from the sources if there are cycles, which order will find
	}
	if err := g.reach(reach); err != nil {
		return nil, err
	}
	order, err := g.order()
	if err != nil {
		return nil, err
	}
	c := &Closure{
		storeDir: storeDir,
		roots:    uniq(roots),
		objects:  make([]Object, len(order)),
		index:    make(map[Path]int, len(order)),
	}
	for i, n := range order {
		o := sorted[n]
		if o.NARSize > math.MaxInt64-c.narSize {
			return nil, fmt.Errorf("closure: %s: NAR size %d makes the sum greater than 2^63-1", o.Path, o.NARSize)
		}
		c.narSize += o.NARSize
		c.objects[i] = o
		c.index[o.Path] = i
	}
	return c, nil
}

// StoreDir returns the store directory, usually "/nix/store".
func (c *Closure) StoreDir() string { return c.storeDir }

// Roots returns the roots in the order in which they were given.
func (c *Closure) Roots() []Path { return slices.Clone(c.roots) }

// Objects returns the objects in image order:
// each after those it refers to, and otherwise as late as it can be,
// so that what changes most often, the roots, comes last.
// The order depends on nothing but the objects' paths and references.
//
// It is the reverse of this one:
// of all objects whose referrers have been listed, list the one with the smallest name,
// and among those of one name the one with the smallest digest.
func (c *Closure) Objects() []Object { return slices.Clone(c.objects) }

// Object returns the object with the given path.
func (c *Closure) Object(p Path) (Object, bool) {
	i, ok := c.index[p]
	if !ok {
		return Object{}, false
	}
	return c.objects[i], true
}

// NARSize returns the sum of the objects' NAR sizes in bytes.
// Objects whose size is not known count as zero.
func (c *Closure) NARSize() int64 { return c.narSize }

// CheckFiles reports whether each object is there in c.Files.
// It looks at their roots only.
// The error is [ErrNoFiles], or a [*MissingError] that names an object that refers to the one not found.
func (c *Closure) CheckFiles() error {
	if c.Files == nil {
		return ErrNoFiles
	}
	for _, o := range c.objects {
		if _, err := fs.Lstat(c.Files, o.Path.Base()); err != nil {
			return &MissingError{o.Path, c.referrer(o.Path), err}
		}
	}
	return nil
}

// referrer returns the first object in image order that refers to p, if there is one.
func (c *Closure) referrer(p Path) Path {
	for _, o := range c.objects {
		if _, found := slices.BinarySearch(o.References, p); found && o.Path != p {
			return o.Path
		}
	}
	return ""
}

// normalize returns the objects sorted by name and digest, checked, without duplicates.
func normalize(objects []Object) ([]Object, error) {
	sorted := slices.Clone(objects)
	for i := range sorted {
		o := &sorted[i]
		if _, err := ParsePath(string(o.Path)); err != nil {
			return nil, err
		}
		if o.NARSize < 0 {
			return nil, fmt.Errorf("closure: %s: negative NAR size %d", o.Path, o.NARSize)
		}
		o.References = slices.Clone(o.References)
		slices.Sort(o.References)
		o.References = slices.Compact(o.References)
		for _, ref := range o.References {
			if _, err := ParsePath(string(ref)); err != nil {
				return nil, inObject(o.Path, err)
			}
		}
	}
	slices.SortStableFunc(sorted, func(a, b Object) int { return comparePaths(a.Path, b.Path) })
	kept := sorted[:0]
	for _, o := range sorted {
		if n := len(kept); n > 0 && kept[n-1].Path == o.Path {
			if err := kept[n-1].merge(o); err != nil {
				return nil, err
			}
			continue
		}
		kept = append(kept, o)
	}
	return kept, nil
}

// merge adds to o what another description of the same object knows.
func (o *Object) merge(p Object) error {
	switch {
	case o.NARHash.IsZero():
		o.NARHash = p.NARHash
	case !p.NARHash.IsZero() && p.NARHash != o.NARHash:
		return &ConflictError{o.Path, "NAR hash"}
	}
	switch {
	case o.NARSize == 0:
		o.NARSize = p.NARSize
	case p.NARSize != 0 && p.NARSize != o.NARSize:
		return &ConflictError{o.Path, "NAR size"}
	}
	if !slices.Equal(o.References, p.References) {
		return &ConflictError{o.Path, "references"}
	}
	return nil
}

func comparePaths(a, b Path) int {
	return cmp.Or(
		cmp.Compare(a.Name(), b.Name()),
		cmp.Compare(a.Digest(), b.Digest()),
		cmp.Compare(a, b),
	)
}

// uniq returns the paths without those that were there before.
func uniq(paths []Path) []Path {
	seen := make(map[Path]bool, len(paths))
	var kept []Path
	for _, p := range paths {
		if !seen[p] {
			seen[p] = true
			kept = append(kept, p)
		}
	}
	return kept
}

// graph numbers objects by their name and digest,
// so that the smaller of two objects is the one with the smaller number.
type graph struct {
	objects []Object
	number  map[Path]int
	reached []bool
}

func newGraph(sorted []Object) *graph {
	g := &graph{
		objects: sorted,
		number:  make(map[Path]int, len(sorted)),
		reached: make([]bool, len(sorted)),
	}
	for i, o := range sorted {
		g.number[o.Path] = i
	}
	return g
}

// references calls f with the number of each reference of n but n itself.
// All of them must be known: see reach.
func (g *graph) references(n int, f func(ref int)) {
	for _, p := range g.objects[n].References {
		if ref := g.number[p]; ref != n {
			f(ref)
		}
	}
}

// paths returns the paths of all objects.
func (g *graph) paths() []Path {
	paths := make([]Path, len(g.objects))
	for i, o := range g.objects {
		paths[i] = o.Path
	}
	return paths
}

// sources returns the objects that no other object refers to, sorted by path.
func (g *graph) sources() []Path {
	referred := make(map[Path]bool)
	for _, o := range g.objects {
		for _, p := range o.References {
			if p != o.Path {
				referred[p] = true
			}
		}
	}
	var roots []Path
	for _, o := range g.objects {
		if !referred[o.Path] {
			roots = append(roots, o.Path)
		}
	}
	slices.Sort(roots)
	return roots
}

// reach marks what the roots reach, and finds what is missing.
func (g *graph) reach(roots []Path) error {
	var todo []int
	visit := func(p, referrer Path) error {
		n, ok := g.number[p]
		if !ok {
			return &MissingError{Path: p, Referrer: referrer}
		}
		if !g.reached[n] {
			g.reached[n] = true
			todo = append(todo, n)
		}
		return nil
	}
	for _, p := range roots {
		if err := visit(p, ""); err != nil {
			return err
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, p := range g.objects[n].References {
			if err := visit(p, g.objects[n].Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// order returns the numbers of the reached objects in image order; see [Closure.Objects].
func (g *graph) order() ([]int, error) {
	referrers := make([]int, len(g.objects)) // how many are not yet in order
	count := 0
	for n := range g.objects {
		if g.reached[n] {
			count++
			g.references(n, func(ref int) { referrers[ref]++ })
		}
	}
	var ready intHeap
	for n := range g.objects {
		if g.reached[n] && referrers[n] == 0 {
			ready = append(ready, n) // ascending, and so a heap
		}
	}
	order := make([]int, 0, count)
	for len(ready) > 0 {
		n := heap.Pop(&ready).(int)
		order = append(order, n)
		g.references(n, func(ref int) {
			if referrers[ref]--; referrers[ref] == 0 {
				heap.Push(&ready, ref)
			}
		})
	}
	if len(order) < count {
		return nil, &CycleError{g.cycle(order)}
	}
	slices.Reverse(order)
	return order, nil
}

// cycle returns a cycle among the reached objects that are not in order.
// Each of those has a referrer among them.
func (g *graph) cycle(order []int) []Path {
	left := slices.Clone(g.reached)
	for _, n := range order {
		left[n] = false
	}
	referrer := make(map[int]int)
	for n := range g.objects {
		if left[n] {
			g.references(n, func(ref int) {
				if _, ok := referrer[ref]; !ok && left[ref] {
					referrer[ref] = n
				}
			})
		}
	}
	// Going from referrer to referrer leads into a cycle, and once around it.
	start := slices.Index(left, true)
	for range len(referrer) {
		start = referrer[start]
	}
	numbers := []int{start}
	for n := referrer[start]; n != start; n = referrer[n] {
		numbers = append(numbers, n)
	}
	slices.Reverse(numbers)
	first := slices.Index(numbers, slices.Min(numbers))
	var paths []Path
	for i := range numbers {
		paths = append(paths, g.objects[numbers[(first+i)%len(numbers)]].Path)
	}
	return paths
}

type intHeap []int

func (h intHeap) Len() int           { return len(h) }
func (h intHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h intHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *intHeap) Push(x any)        { *h = append(*h, x.(int)) }
func (h *intHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// inObject adds to a syntax error in which object's metadata the text was found.
func inObject(p Path, err error) error {
	if e, ok := errors.AsType[*SyntaxError](err); ok {
		in := *e
		in.In = p
		return &in
	}
	return fmt.Errorf("closure: %s: %w", p, err)
}
