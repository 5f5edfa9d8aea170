package squashfs

import "sync"

// A buffer holds one block of a file's contents while several parties use it.
type buffer struct {
	data []byte
	mu   sync.Mutex
	refs int
}

// buffers is a bounded set of buffers.
// It is what bounds the contents in memory.
type buffers struct {
	free chan *buffer
	stop chan struct{} // closed when nothing will be given back any more
	once sync.Once
	size int
}

func newBuffers(n, size int) *buffers {
	b := &buffers{free: make(chan *buffer, n), stop: make(chan struct{}), size: size}
	for range n {
		b.free <- nil // to be allocated when it is needed
	}
	return b
}

// get waits for a buffer, which is referred to once. It returns nil after close.
func (b *buffers) get() *buffer {
	select {
	case buf := <-b.free:
		if buf == nil {
			buf = &buffer{data: make([]byte, 0, b.size)}
		}
		buf.refs = 1
		return buf
	case <-b.stop:
		return nil
	}
}

func (b *buffers) retain(buf *buffer) {
	buf.mu.Lock()
	buf.refs++
	buf.mu.Unlock()
}

func (b *buffers) release(buf *buffer) {
	buf.mu.Lock()
	buf.refs--
	last := buf.refs == 0
	buf.mu.Unlock()
	if last {
		b.free <- buf
	}
}

func (b *buffers) close() { b.once.Do(func() { close(b.stop) }) }
