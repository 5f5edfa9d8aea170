package squashfs

import "sync"

// A cache keeps what was used last. What is being loaded is loaded once,
// however many goroutines ask for it. Its zero value needs a limit.
type cache[K comparable, V any] struct {
	limit int64 // of the sum of costs

	mu    sync.Mutex
	cost  int64
	slots map[K]*slot[K, V]
	ring  slot[K, V] // next is the slot used last, prev the one to go first
}

type slot[K comparable, V any] struct {
	key        K
	cost       int64
	ready      chan struct{} // closed when value and err are set
	value      V
	err        error
	prev, next *slot[K, V]
}

func (s *slot[K, V]) unlink() {
	s.prev.next, s.next.prev = s.next, s.prev
}

func (s *slot[K, V]) linkAfter(t *slot[K, V]) {
	s.prev, s.next = t, t.next
	s.prev.next, s.next.prev = s, s
}

// peek returns a value if it is there and ready.
func (c *cache[K, V]) peek(key K) (value V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[key]
	if s == nil {
		return value, false
	}
	select {
	case <-s.ready:
	default:
		return value, false
	}
	s.unlink()
	s.linkAfter(&c.ring)
	return s.value, s.err == nil
}

// get returns the value for key, loading it if need be.
// load also tells what the value costs. Errors are not kept.
func (c *cache[K, V]) get(key K, load func() (V, int64, error)) (V, error) {
	c.mu.Lock()
	if c.slots == nil {
		c.slots = make(map[K]*slot[K, V])
		c.ring.prev, c.ring.next = &c.ring, &c.ring
	}
	s := c.slots[key]
	if s != nil {
		s.unlink()
		s.linkAfter(&c.ring)
		c.mu.Unlock()
		<-s.ready
		return s.value, s.err
	}
	s = &slot[K, V]{key: key, ready: make(chan struct{})}
	c.slots[key] = s
	s.linkAfter(&c.ring)
	c.mu.Unlock()

	var cost int64
	s.value, cost, s.err = load()
	close(s.ready)

	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.slots[key] != s: // driven out while it was loaded
	case s.err != nil:
		c.remove(s)
	default:
		s.cost = cost
		c.cost += cost
		for c.cost > c.limit && c.ring.prev != s {
			c.remove(c.ring.prev)
		}
	}
	return s.value, s.err
}

func (c *cache[K, V]) remove(s *slot[K, V]) {
	c.cost -= s.cost
	delete(c.slots, s.key)
	s.unlink()
}
