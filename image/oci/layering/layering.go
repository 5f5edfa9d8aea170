package layering

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/closure"
)

// How many layers an image has at most: without being told, and at all.
// Docker takes no more than 125; one is left for an image on top of this one.
const (
	DefaultLayers = 100
	MaxLayers     = 124
)

// Options says which store objects share a layer. It decides the bytes of an image.
type Options struct {
	// Max is how many layers there are at most, that of the base files among them: from 2 to MaxLayers.
	// Zero means DefaultLayers.
	Max int
	// Groups are layers that somebody has asked for: patterns, as package path has them,
	// for the names of store objects, or for their base names. The first group that matches counts.
	Groups [][]string
	// Previous has the base names of the objects in the layers of an earlier image.
	// What was together stays together. An object with the name of one that has gone takes its place.
	Previous [][]string
}

// largeObject is the size in bytes from which on an object has a layer for itself if it can,
// and maxMerged that which layers do not exceed by being merged, if they can.
const (
	largeObject = 200 << 20
	maxMerged   = 1 << 30
)

// maxClusters is how many clusters are compared each with each.
const maxClusters = 1000

// appWeight is the weight of the application in [weights].
const appWeight = 1200

// A cluster is a layer on its way: some objects, and the events by which it changes.
//
// The event q, "object q changes", gives another path to q and to all that refer to it, however remotely.
// So the events that change an object are the objects that it needs.
type cluster struct {
	members []int // indices of objects, sorted
	size    int64 // bytes of NARs
	events  bitset
	rate    int64 // sum of the events' weights
	fixed   bool  // others are merged first
}

// Plan distributes the objects of a closure: each list is a layer, the one that changes least often first.
// In a layer, objects come in the closure's order.
//
// What is to be pulled again is kept small: the sum over all layers of size times rate of change.
// Beginning with a layer for each object, those two are merged which make it grow least.
func (o *Options) Plan(c *closure.Closure) ([][]closure.Object, error) {
	if o == nil {
		o = new(Options)
	}
	limit := cmp.Or(o.Max, DefaultLayers)
	if limit < 2 || limit > MaxLayers {
		return nil, fmt.Errorf("layering: %d layers: there can be 2 to %d", limit, MaxLayers)
	}
	p := newPlanner(c)
	clusters, err := p.begin(o)
	if err != nil {
		return nil, err
	}
	clusters = p.neighbours(clusters, max(limit, maxClusters))
	clusters = p.merge(clusters, limit-1)
	slices.SortFunc(clusters, func(a, b *cluster) int {
		return cmp.Or(cmp.Compare(a.rate, b.rate), cmp.Compare(a.members[0], b.members[0]))
	})
	var layers [][]closure.Object
	for _, cl := range clusters {
		var layer []closure.Object
		for _, i := range cl.members {
			layer = append(layer, p.objects[i])
		}
		layers = append(layers, layer)
	}
	return layers, nil
}

// A planner knows what the objects of a closure need, and how often they change.
type planner struct {
	objects []closure.Object
	needs   []bitset // of an object: itself, and all it refers to
	weights []int64
	classes []class
}

// A class has the objects of one weight.
type class struct {
	weight int64
	in     bitset
}

func newPlanner(c *closure.Closure) *planner {
	if c == nil {
		c = new(closure.Closure)
	}
	p := &planner{objects: c.Objects()}
	index := make(map[closure.Path]int)
	for i, o := range p.objects {
		index[o.Path] = i
		set := newBitset(len(p.objects))
		set.add(i)
		for _, ref := range o.References {
			if ref != o.Path {
				set.union(p.needs[index[ref]]) // they come first
			}
		}
		p.needs = append(p.needs, set)
	}
	p.weights = weights(c, p.objects)
	for i, w := range p.weights {
		at := slices.IndexFunc(p.classes, func(c class) bool { return c.weight == w })
		if at < 0 {
			at = len(p.classes)
			p.classes = append(p.classes, class{w, newBitset(len(p.objects))})
		}
		p.classes[at].in.add(i)
	}
	return p
}

// rate is the weight of all events in either set.
func (p *planner) rate(a, b bitset) (sum int64) {
	for i := range p.classes {
		sum += p.classes[i].weight * int64(countUnion(a, b, p.classes[i].in))
	}
	return sum
}

func (p *planner) cluster(members ...int) *cluster {
	slices.Sort(members)
	cl := &cluster{members: members, events: newBitset(len(p.objects))}
	for _, i := range members {
		cl.size += p.objects[i].NARSize
		cl.events.union(p.needs[i])
	}
	cl.rate = p.rate(cl.events, cl.events)
	return cl
}

// begin makes the groups that are asked for, those of before, and a cluster for each object else.
func (p *planner) begin(o *Options) (clusters []*cluster, err error) {
	placed := make([]bool, len(p.objects))
	groups, err := p.grouped(o.Groups, placed)
	if err != nil {
		return nil, err
	}
	for _, members := range append(groups, p.previous(o.Previous, placed)...) {
		if len(members) > 0 {
			cl := p.cluster(members...)
			cl.fixed = true
			clusters = append(clusters, cl)
		}
	}
	for i := range p.objects {
		if !placed[i] {
			clusters = append(clusters, p.cluster(i))
		}
	}
	return clusters, nil
}

// grouped finds the members of the groups that are asked for.
func (p *planner) grouped(list [][]string, placed []bool) (groups [][]int, err error) {
	for _, patterns := range list {
		var members []int
		for i, object := range p.objects {
			if placed[i] {
				continue
			}
			if placed[i], err = matches(patterns, object.Path); err != nil {
				return nil, err
			}
			if placed[i] {
				members = append(members, i)
			}
		}
		groups = append(groups, members)
	}
	return groups, nil
}

// matches reports whether one of the patterns matches a path's name, or its base name.
func matches(patterns []string, p closure.Path) (bool, error) {
	for _, pattern := range patterns {
		byName, err := path.Match(pattern, p.Name())
		if err != nil {
			return false, fmt.Errorf("layering: pattern %q: %w", pattern, err)
		}
		if byBase, _ := path.Match(pattern, p.Base()); byName || byBase {
			return true, nil
		}
	}
	return false, nil
}

// previous finds the members of earlier layers again, or what has come in their place.
func (p *planner) previous(layers [][]string, placed []bool) (groups [][]int) {
	byBase := make(map[string]int)
	old := make(map[string]bool)
	for _, names := range layers {
		for _, base := range names {
			old[base] = true
		}
	}
	fresh := make(map[string][]int) // objects that were not there, by name
	for i, o := range p.objects {
		switch {
		case placed[i]:
		case old[o.Path.Base()]:
			byBase[o.Path.Base()] = i
		default:
			fresh[o.Path.Name()] = append(fresh[o.Path.Name()], i)
		}
	}
	for _, names := range layers {
		var members []int
		for _, base := range names {
			i, ok := byBase[base]
			if !ok {
				_, name, _ := strings.Cut(base, "-")
				list := fresh[name]
				if len(list) == 0 {
					continue
				}
				i, fresh[name] = list[0], list[1:]
			}
			if !placed[i] {
				placed[i] = true
				members = append(members, i)
			}
		}
		groups = append(groups, members)
	}
	return groups
}

// referred has what objects that are no roots refer to.
func referred(objects []closure.Object, roots []closure.Path) map[closure.Path]bool {
	used := make(map[closure.Path]bool)
	for _, o := range objects {
		if slices.Contains(roots, o.Path) {
			continue
		}
		for _, ref := range o.References {
			if ref != o.Path {
				used[ref] = true
			}
		}
	}
	return used
}

// weights says how often objects change, each other than by what it needs:
// 20 is as often as a Python module does.
func weights(c *closure.Closure, objects []closure.Object) []int64 {
	const module, interpreter, library, large = 20, 14, 5, 3
	// The application is the roots, and what nothing but roots refers to.
	roots := c.Roots()
	used := referred(objects, roots)
	list := make([]int64, len(objects))
	for i, o := range objects {
		switch name := o.Path.Name(); {
		case slices.Contains(roots, o.Path):
			list[i] = appWeight
		case isCUDA(name), o.NARSize > largeObject:
			list[i] = large
		case !used[o.Path]:
			list[i] = appWeight
		case isModule(name):
			list[i] = module
		case isPython(name):
			list[i] = interpreter
		default:
			list[i] = library
		}
	}
	return list
}

// isModule reports whether a name is that of a Python module: nixpkgs begins it with python3.12-.
func isModule(name string) bool {
	rest, ok := strings.CutPrefix(name, "python3.")
	return ok && strings.Contains(rest, "-")
}

// isPython reports whether a name is that of an interpreter: python3-3.12.4.
func isPython(name string) bool { return strings.HasPrefix(name, "python3-") }

// isCUDA reports whether a name is that of one of NVIDIA's libraries for CUDA.
func isCUDA(name string) bool {
	for _, s := range []string{"cuda", "cudnn", "libcublas", "libcufft", "libcurand", "libcusolver", "libcusparse", "nccl", "libnv", "libnpp", "tensorrt"} {
		if strings.Contains(name, s) {
			return !isModule(name)
		}
	}
	return false
}
