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

// kinds are the changes that are told of: of objects with some name and weight.
var kinds = []struct {
	name string
	of   func(name string, weight int64) bool
}{
	{"the application", func(_ string, weight int64) bool { return weight == appWeight }},
	{"one Python module", func(name string, _ int64) bool { return isModule(name) }},
	{"python", func(name string, _ int64) bool { return isPython(name) && !strings.HasSuffix(name, "-env") }},
	{"glibc", func(name string, _ int64) bool { return strings.HasPrefix(name, "glibc-") }},
	{"CUDA", func(name string, _ int64) bool { return isCUDA(name) }},
}

// Changes tells what is to be pulled again after changes of some kinds, if layers are as a Plan has them.
// Kinds of which the closure has nothing are left out.
func Changes(c *closure.Closure, layers [][]closure.Object) []Change {
	p := newPlanner(c)
	clusters := p.clusters(layers)
	var changes []Change
	for _, kind := range kinds {
		ch := Change{Name: kind.name}
		for i, o := range p.objects {
			if !kind.of(o.Path.Name(), p.weights[i]) {
				continue
			}
			ch.Paths++
			for _, cl := range clusters {
				if cl.events.has(i) {
					ch.Bytes += cl.size
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

// clusters makes clusters of layers. What is not in the closure is left out.
func (p *planner) clusters(layers [][]closure.Object) (list []*cluster) {
	at := make(map[closure.Path]int)
	for i, o := range p.objects {
		at[o.Path] = i
	}
	for _, layer := range layers {
		var members []int
		for _, o := range layer {
			if i, ok := at[o.Path]; ok {
				members = append(members, i)
			}
		}
		if len(members) > 0 {
			list = append(list, p.cluster(members...))
		}
	}
	return list
}
