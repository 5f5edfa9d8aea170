package binarycache

import (
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/nix2img/nix2img/internal/ctxio"
)

// chunkSize is how much goes through a pipe at a time, in bytes.
const chunkSize = 128 << 10

type chunk = [chunkSize]byte

// buffers are what unpacking needs and is dear to make: one NAR leaves them to the next.
type buffers struct {
	chunks shelf[*chunk]
	xz     shelf[*xz.Reader]
	zstd   shelf[*zstd.Decoder]
}

// A shelf gives back first what was put there last: the processor still has it in its caches.
// Unlike a [sync.Pool] it isn't emptied by every other garbage collection.
type shelf[T any] struct {
	mu    sync.Mutex
	items []T
}

func (s *shelf[T]) put(x T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, x)
}

// take returns what was put there last, if there is anything.
func (s *shelf[T]) take() (x T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.items)
	if n == 0 {
		return x, false
	}
	x, s.items = s.items[n-1], s.items[:n-1]
	return x, true
}

// chunk returns a chunk whose contents are anything.
func (b *buffers) chunk() *chunk {
	if c, ok := b.chunks.take(); ok {
		return c
	}
	return new(chunk)
}

// pump puts everything that r has into a pipe, and ends it.
func (b *buffers) pump(p *pipe, r io.Reader) {
	for {
		buf := b.chunk()
		n, err := ctxio.Fill(buf[:], r)
		if failed := p.put(buf, n); failed != nil {
			err = failed
		}
		if err != nil {
			p.end(err)
			return
		}
	}
}
