package layering

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
)

// neighbours merges clusters that follow each other, the smallest first, until there are at most limit.
// It is for closures so large that comparing all with all would take too long.
func (p *planner) neighbours(clusters []*cluster, limit int) []*cluster {
	for len(clusters) > limit {
		// Half of what is too much at a time, each at most once.
		sizes := make([]int64, 0, len(clusters))
		for i := 1; i < len(clusters); i++ {
			sizes = append(sizes, clusters[i-1].size+clusters[i].size)
		}
		slices.Sort(sizes)
		small := sizes[min(len(sizes)-1, len(clusters)-limit)]
		merged, left := clusters[:0:0], len(clusters)
		for i := 0; i < len(clusters); i++ {
			cl := clusters[i]
			if i+1 < len(clusters) && left > limit && cl.size+clusters[i+1].size <= small {
				cl = p.join(cl, clusters[i+1])
				i++
				left--
			}
			merged = append(merged, cl)
		}
		clusters = merged
	}
	return clusters
}

func (p *planner) join(a, b *cluster) *cluster {
	cl := p.cluster(append(slices.Clone(a.members), b.members...)...)
	cl.fixed = a.fixed || b.fixed
	return cl
}

// A merger is the best that can come to a cluster: its increase of size times rate when it joins the other one.
type merger struct {
	rank  int // 0: as it should be; higher: only if there is nothing else
	cost  int64
	other int
}

func (m merger) compare(o merger) int {
	return cmp.Or(cmp.Compare(m.rank, o.rank), cmp.Compare(m.cost, o.cost))
}

// judge says what it costs to merge two clusters.
func (p *planner) judge(a, b *cluster, other int) merger {
	rate := p.rate(a.events, b.events)
	m := merger{0, a.size*(rate-a.rate) + b.size*(rate-b.rate), other}
	if a.size > largeObject || b.size > largeObject {
		m.rank = 1
	}
	if a.size+b.size > maxMerged {
		m.rank = 2
	}
	if a.fixed || b.fixed {
		m.rank = 3
	}
	if a.fixed && b.fixed {
		m.rank = 4
	}
	return m
}

// merge merges clusters until there are at most limit.
// Of equal mergers, that of the first clusters comes first.
func (p *planner) merge(clusters []*cluster, limit int) []*cluster {
	if len(clusters) <= limit {
		return clusters
	}
	best := make([]merger, len(clusters)) // of a cluster with one behind it
	look := func(i int) {
		best[i] = merger{math.MaxInt, 0, -1}
		for j := i + 1; j < len(clusters); j++ {
			if clusters[j] == nil {
				continue
			}
			if m := p.judge(clusters[i], clusters[j], j); m.compare(best[i]) < 0 {
				best[i] = m
			}
		}
	}
	for i := range clusters {
		look(i)
	}
	for n := len(clusters); n > limit; n-- {
		i := -1
		for k := range clusters {
			if clusters[k] != nil && best[k].other >= 0 && (i < 0 || best[k].compare(best[i]) < 0) {
				i = k
			}
		}
		j := best[i].other
		clusters[i], clusters[j] = p.join(clusters[i], clusters[j]), nil
		for k := range j {
			switch {
			case clusters[k] == nil:
			case k == i, best[k].other == i, best[k].other == j:
				look(k)
			case k < i:
				if m := p.judge(clusters[k], clusters[i], i); m.compare(best[k]) < 0 || m.compare(best[k]) == 0 && i < best[k].other {
					best[k] = m
				}
			}
		}
	}
	return slices.DeleteFunc(clusters, func(c *cluster) bool { return c == nil })
}

// A bitset is a set of small numbers.
type bitset []uint64

func newBitset(n int) bitset { return make(bitset, (n+63)/64) }

func (s bitset) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s bitset) has(i int) bool { return s[i/64]>>(i%64)&1 != 0 }

func (s bitset) union(o bitset) {
	for i, w := range o {
		s[i] |= w
	}
}

// countUnion returns how many members of in are in a or b.
func countUnion(a, b, in bitset) (n int) {
	for i, w := range in {
		n += bits.OnesCount64((a[i] | b[i]) & w)
	}
	return n
}
