package layering_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci/layering"
)

// storePath makes a path of a name, with a digest that says which version it is of.
func storePath(name string, version int) closure.Path {
	return closure.Path(fmt.Sprintf("/nix/store/%032d-%s", version, name))
}

// randomClosure has n objects, of which some are Python modules, an interpreter and an application.
// Those in changed have another path, and so have all that refer to them.
func randomClosure(t *testing.T, n int, changed ...string) *closure.Closure {
	t.Helper()
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var objects []closure.Object
	version := make(map[closure.Path]int)
	for i := range n {
		name := fmt.Sprintf("lib%d-1.%d", i, i)
		switch {
		case i == 0:
			name = "glibc-2.40"
		case i == n/4:
			name = "python3-3.12.4"
		case i == n-1:
			name = "app-1"
		case i > n/4 && i%2 == 0:
			name = fmt.Sprintf("python3.12-module%d-1", i)
		}
		o := closure.Object{NARHash: closure.Hash{byte(i), byte(i >> 8), 1}, NARSize: 1000 + r.Int64N(1<<(10+r.IntN(16)))}
		needs := map[int]bool{}
		if i > 0 {
			needs[0] = true
		}
		for range min(i, 4) {
			needs[r.IntN(i)] = true
		}
		v := 0
		if slices.Contains(changed, name) {
			v = 1
		}
		if i == n-1 {
			for j := range i {
				needs[j] = true
			}
		}
		for j := range i {
			if needs[j] {
				o.References = append(o.References, objects[j].Path)
				v = max(v, version[objects[j].Path])
			}
		}
		o.Path = storePath(name, v)
		version[o.Path] = v
		objects = append(objects, o)
	}
	c, err := closure.New([]closure.Path{objects[n-1].Path}, objects)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func plan(t *testing.T, l layering.Options, c *closure.Closure) [][]string {
	t.Helper()
	layers, err := l.Plan(c)
	if err != nil {
		t.Fatal(err)
	}
	var names [][]string
	for _, layer := range layers {
		var list []string
		for _, o := range layer {
			list = append(list, o.Path.Base())
		}
		names = append(names, list)
	}
	return names
}

func TestPlan(t *testing.T) {
	for _, n := range []int{2, 30, 200, 1100} {
		c := randomClosure(t, n)
		for _, limit := range []int{2, 3, 20, 124} {
			if n > 1000 && limit != 20 {
				continue // it takes a while
			}
			layers := plan(t, layering.Options{Max: limit}, c)
			if want := min(n, limit-1); len(layers) != want {
				t.Errorf("%d objects, %d layers at most: %d, not %d", n, limit, len(layers), want)
			}
			all := slices.Sorted(slices.Values(slices.Concat(layers...)))
			var want []string
			for _, o := range c.Objects() {
				want = append(want, o.Path.Base())
			}
			slices.Sort(want)
			if !slices.Equal(all, want) {
				t.Errorf("%d objects, %d layers: not every object is in one layer", n, limit)
			}
			if !reflect.DeepEqual(layers, plan(t, layering.Options{Max: limit}, c)) {
				t.Errorf("%d objects, %d layers: the next time it is another plan", n, limit)
			}
		}
	}
}

func TestPlanLimits(t *testing.T) {
	for _, n := range []int{-1, 1, 125} {
		if _, err := (&layering.Options{Max: n}).Plan(randomClosure(t, 5)); err == nil {
			t.Errorf("%d layers are taken", n)
		}
	}
}

// When the application changes, little is to be pulled again, and the more layers, the less.
func TestPlanKeepsChangesSmall(t *testing.T) {
	c := randomClosure(t, 300)
	last := map[string]int64{}
	for _, limit := range []int{2, 20, 60, 124} {
		layers, err := (&layering.Options{Max: limit}).Plan(c)
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range layering.Changes(c, layers) {
			if before, ok := last[ch.Name]; ok && ch.Bytes > before {
				t.Errorf("%s: %d bytes with %d layers, more than %d", ch.Name, ch.Bytes, limit, before)
			}
			last[ch.Name] = ch.Bytes
		}
	}
	if app := last["the application"]; app > c.NARSize()/20 {
		t.Errorf("%d of %d bytes when the application changes", app, c.NARSize())
	}
	if glibc := last["glibc"]; glibc != c.NARSize() {
		t.Errorf("%d of %d bytes when glibc changes", glibc, c.NARSize())
	}
}

// With the layers of the previous image, all but those with a changed object stay.
func TestPrevious(t *testing.T) {
	old := plan(t, layering.Options{Max: 20}, randomClosure(t, 300))
	next := plan(t, layering.Options{Max: 20, Previous: old}, randomClosure(t, 300, "python3.12-module200-1"))
	same := 0
	for _, layer := range old {
		changed := slices.ContainsFunc(layer, func(base string) bool {
			return !slices.Contains(slices.Concat(next...), base)
		})
		found := slices.ContainsFunc(next, func(l []string) bool { return slices.Equal(l, layer) })
		if found == changed {
			t.Errorf("a layer of %d objects, changed: %v, is there again: %v", len(layer), changed, found)
		}
		if found {
			same++
		}
	}
	if len(next) != len(old) || same < 5 || same == len(old) {
		t.Errorf("%d of %d layers are the same, of %d", same, len(old), len(next))
	}
}

func TestGroups(t *testing.T) {
	c := randomClosure(t, 100)
	layers := plan(t, layering.Options{Max: 10, Groups: [][]string{{"glibc-*", "python3-*"}, {"python3.12-module5*"}, {"nothing"}}}, c)
	for _, want := range []string{"glibc-2.40 python3-3.12.4", "module50 module52 module54 module56 module58"} {
		found := slices.ContainsFunc(layers, func(l []string) bool {
			var names []string
			for _, base := range l {
				_, name, _ := strings.Cut(base, "-")
				name = strings.TrimSuffix(strings.TrimPrefix(name, "python3.12-"), "-1")
				names = append(names, name)
			}
			slices.Sort(names)
			return strings.Join(names, " ") == want
		})
		if !found {
			t.Errorf("no layer has %s", want)
		}
	}
	if _, err := (&layering.Options{Groups: [][]string{{"["}}}).Plan(c); err == nil {
		t.Error("a pattern that is none is taken")
	}
}
