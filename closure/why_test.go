package closure_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
)

// graphOf makes the closure of root a of a graph such as "a:bc b:c c:".
func graphOf(t *testing.T, roots, text string) *closure.Closure {
	t.Helper()
	path := func(name string) closure.Path {
		return closure.Path("/nix/store/" + strings.Repeat("0", 32) + "-" + name)
	}
	var objects []closure.Object
	for i, word := range strings.Fields(text) {
		name, refs, _ := strings.Cut(word, ":")
		o := closure.Object{Path: path(name), NARSize: 1 << i, References: []closure.Path{path(name)}}
		for _, r := range refs {
			o.References = append(o.References, path(string(r)))
		}
		objects = append(objects, o)
	}
	var rootPaths []closure.Path
	for _, r := range roots {
		rootPaths = append(rootPaths, path(string(r)))
	}
	c, err := closure.New(rootPaths, objects)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhy(t *testing.T) {
	c := graphOf(t, "a", "a:bcd b:e c:e d: e:f f:")
	at := func(name string) closure.Path {
		return closure.Path("/nix/store/" + strings.Repeat("0", 32) + "-" + name)
	}
	for _, test := range []struct{ from, to, want string }{
		{"a", "f", "abef"}, {"a", "a", "a"}, {"c", "f", "cef"}, {"a", "d", "ad"},
		{"d", "f", ""}, {"f", "a", ""}, {"x", "x", ""}, {"a", "x", ""},
	} {
		got := ""
		for _, p := range c.Why(at(test.from), at(test.to)) {
			got += p.Name()
		}
		if got != test.want {
			t.Errorf("from %s to %s: %q, want %q", test.from, test.to, got, test.want)
		}
	}
}

func TestAddedSizes(t *testing.T) {
	for range 300 {
		// A graph of which each object refers to some of those after it.
		const names = "abcdefghij"
		var words []string
		for i := range names {
			word := names[i:i+1] + ":"
			for j := i + 1; j < len(names); j++ {
				if rand.IntN(4) == 0 {
					word += names[j : j+1]
				}
			}
			words = append(words, word)
		}
		text, roots := strings.Join(words, " "), "abc"
		c := graphOf(t, roots, text)
		sizes := c.AddedSizes()
		for i, o := range c.Objects() {
			// Without o, nothing refers to it.
			rest := make(map[closure.Path]bool)
			var visit func(p closure.Path)
			visit = func(p closure.Path) {
				if p != o.Path && !rest[p] {
					rest[p] = true
					r, _ := c.Object(p)
					for _, ref := range r.References {
						visit(ref)
					}
				}
			}
			for _, root := range c.Roots() {
				visit(root)
			}
			want := c.NARSize()
			for p := range rest {
				r, _ := c.Object(p)
				want -= r.NARSize
			}
			if sizes[i] != want {
				t.Fatalf("%s: %s adds %b, want %b", text, o.Path.Name(), sizes[i], want)
			}
		}
	}
	if got := fmt.Sprint(slices.Max(graphOf(t, "a", "a:b b:").AddedSizes())); got != "3" {
		t.Error("a lone root adds everything, not", got)
	}
}
