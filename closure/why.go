package closure

import "slices"

// Why returns the shortest chain of references that leads from one object to another:
// both of them, and what lies between. Of several it is the one whose first different path is smallest.
// It is empty if no chain leads there.
func (c *Closure) Why(from, to Path) []Path {
	if _, ok := c.index[from]; !ok {
		return nil
	}
	referrer := map[Path]Path{from: ""}
	for todo := []Path{from}; len(todo) > 0; todo = todo[1:] {
		p := todo[0]
		if p == to {
			var chain []Path
			for ; p != ""; p = referrer[p] {
				chain = append(chain, p)
			}
			slices.Reverse(chain)
			return chain
		}
		for _, ref := range c.objects[c.index[p]].References {
			if _, seen := referrer[ref]; !seen {
				referrer[ref] = p
				todo = append(todo, ref)
			}
		}
	}
	return nil
}

// AddedSizes returns, for each of Objects, the NAR sizes in bytes of all that would not be in the closure
// if nothing referred to it, and it were no root: itself, and what is there only because of it.
func (c *Closure) AddedSizes() []int64 {
	// An object is there because of those through which all ways from the roots to it lead.
	// They are its ancestors in a tree, whose root, none, stands for all ways at once.
	const none = -1
	parent := make([]int, len(c.objects))
	depth := make([]int, len(c.objects))
	known := make([]bool, len(c.objects))
	common := func(a, b int) int {
		for a != b {
			switch {
			case a == none || b == none:
				return none
			case depth[a] > depth[b]:
				a = parent[a]
			default:
				b = parent[b]
			}
		}
		return a
	}
	reach := func(i, from int) {
		if known[i] {
			from = common(parent[i], from)
		}
		known[i], parent[i] = true, from
	}
	for _, p := range c.roots {
		reach(c.index[p], none)
	}
	// From the end on, all referrers of an object come before it.
	for i := len(c.objects) - 1; i >= 0; i-- {
		if depth[i] = 0; parent[i] != none {
			depth[i] = depth[parent[i]] + 1
		}
		for _, ref := range c.objects[i].References {
			if n := c.index[ref]; n != i {
				reach(n, i)
			}
		}
	}
	sizes := make([]int64, len(c.objects))
	for i, o := range c.objects {
		sizes[i] += o.NARSize
		if parent[i] != none {
			sizes[parent[i]] += sizes[i]
		}
	}
	return sizes
}
