//go:build foreign && acceptance

package foreign

import (
	"cmp"
	"fmt"
	"math/big"
	"os"
	"slices"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci/layering"
)

// popularity is how nixpkgs' dockerTools divide a closure: objects to which the most paths of references lead
// have a layer each, and the last layer has all others.
func popularity(c *closure.Closure, layers int) (plan [][]closure.Object) {
	objects := c.Objects()
	ways := make(map[closure.Path]*big.Int)
	for _, o := range objects {
		ways[o.Path] = big.NewInt(1)
	}
	for _, o := range slices.Backward(objects) {
		for _, ref := range o.References {
			if ref != o.Path {
				ways[ref].Add(ways[ref], ways[o.Path])
			}
		}
	}
	slices.SortFunc(objects, func(a, b closure.Object) int {
		return cmp.Or(ways[b.Path].Cmp(ways[a.Path]), cmp.Compare(a.Path, b.Path))
	})
	n := min(layers-1, len(objects))
	for _, o := range objects[:n] {
		plan = append(plan, []closure.Object{o})
	}
	return append(plan, objects[n:])
}

// layerName identifies a layer by what is in it.
func layerName(layer []closure.Object) string { return fmt.Sprint(bases(layer)) }

func bases(layer []closure.Object) (names []string) {
	for _, o := range layer {
		names = append(names, o.Path.Base())
	}
	slices.Sort(names)
	return names
}

// pulled is how many bytes, before compression, are in layers of next that before does not have.
func pulled(before, next [][]closure.Object) (n int64) {
	known := make(map[string]bool)
	for _, layer := range before {
		known[layerName(layer)] = true
	}
	for _, layer := range next {
		if known[layerName(layer)] {
			continue
		}
		for _, o := range layer {
			n += o.NARSize
		}
	}
	return n
}

// readClosure reads what Nix says of a closure.
func readClosure(t *testing.T, key string) *closure.Closure {
	t.Helper()
	f, err := os.Open(os.Getenv(key + "_PATH_INFO"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	objects, err := closure.ReadObjects(f)
	if err != nil {
		t.Fatal(err)
	}
	c, err := closure.New([]closure.Path{closure.Path(os.Getenv(key))}, objects)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// After a change of the application, less is to be pulled than with the layers that nixpkgs makes.
func TestPulledBytes(t *testing.T) {
	before, next := readClosure(t, "MEDIUM"), readClosure(t, "MEDIUM2")
	all := pulled(nil, [][]closure.Object{next.Objects()})
	for _, n := range []int{20, 67, 100} {
		plan := func(c *closure.Closure, previous [][]string) [][]closure.Object {
			// nixpkgs does not count what has the base files.
			layers, err := (&layering.Options{Max: n + 1, Previous: previous}).Plan(c)
			if err != nil {
				t.Fatal(err)
			}
			return layers
		}
		old := plan(before, nil)
		var previous [][]string
		for _, layer := range old {
			previous = append(previous, bases(layer))
		}
		theirs := pulled(popularity(before, n), popularity(next, n))
		ours, kept := pulled(old, plan(next, nil)), pulled(old, plan(next, previous))
		t.Logf("%d layers: %d bytes, with the previous plan %d; popularity %d; one layer %d", n, ours, kept, theirs, all)
		if ours > theirs/10 || kept > ours {
			t.Errorf("%d layers: too much", n)
		}
	}
}
