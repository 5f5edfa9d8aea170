package layering

import (
	"strings"

	"github.com/nix2img/nix2img/closure"
)

// A Change is something that happens to a closure from one build to the next.
type Change struct {
	Name  string `json:"name"`  // what changes
	Paths int    `json:"paths"` // how many store paths that could be; Bytes is the mean over them
	Bytes int64  `json:"bytes"` // of layers that change, before compression
}

// Changes tells what is to be pulled again after changes of some kinds, if layers are as a Plan has them.
// Kinds of which the closure has nothing are left out.
func Changes(c *closure.Closure, layers [][]closure.Object) []Change {
	p := newPlanner(c)
	at := make(map[closure.Path]int)
	for i, o := range p.objects {
		at[o.Path] = i
	}
	events := make([]bitset, len(layers))
	sizes := make([]int64, len(layers))
	for i, layer := range layers {
		var members []int
		for _, o := range layer {
			members = append(members, at[o.Path])
		}
		cl := p.cluster(members...)
		events[i], sizes[i] = cl.events, cl.size
	}
	kinds := []struct {
		name string
		of   func(i int, name string) bool
	}{
		{"the application", func(i int, _ string) bool { return p.weights[i] == appWeight }},
		{"one Python module", func(_ int, name string) bool { return isModule(name) }},
		{"python", func(_ int, name string) bool { return isPython(name) && !strings.HasSuffix(name, "-env") }},
		{"glibc", func(_ int, name string) bool { return strings.HasPrefix(name, "glibc-") }},
		{"CUDA", func(_ int, name string) bool { return isCUDA(name) }},
	}
	var changes []Change
	for _, kind := range kinds {
		ch := Change{Name: kind.name}
		for i, o := range p.objects {
			if !kind.of(i, o.Path.Name()) {
				continue
			}
			ch.Paths++
			for j := range layers {
				if events[j].has(i) {
					ch.Bytes += sizes[j]
				}
			}
		}
		if ch.Paths > 0 {
			ch.Bytes /= int64(ch.Paths)
			changes = append(changes, ch)
		}
	}
	return changes
}
