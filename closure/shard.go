package closure

import (
	"cmp"
	"slices"
)

// Shard returns the i-th of n parts of the objects. Parts have about the same size, and the largest objects come first.
// The first is part 0, and fewer parts than one are one.
// They follow from the closure alone, so n machines can share out work without talking to each other.
func (c *Closure) Shard(i, n int) []Object {
	bySize := c.Objects()
	slices.SortFunc(bySize, func(a, b Object) int {
		return cmp.Or(cmp.Compare(b.NARSize, a.NARSize), cmp.Compare(a.Path, b.Path))
	})
	sizes := make([]int64, max(n, 1))
	var part []Object
	for _, o := range bySize {
		least := 0
		for k := range sizes {
			if sizes[k] < sizes[least] {
				least = k
			}
		}
		sizes[least] += max(o.NARSize, 1)
		if least == i {
			part = append(part, o)
		}
	}
	return part
}
