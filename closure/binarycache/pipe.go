package binarycache

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// A piece is a chunk, of which its reader takes the front of data.
type piece struct {
	buf  *chunk
	data []byte
}

// A pipe takes bytes from one goroutine to another, first in, first out.
// What the reader does not take at once waits in memory, and beyond a limit in a file, if it may.
type pipe struct {
	limit  int            // bytes in memory
	spill  bool           // whether there may be a file
	dir    string         // for it
	chunks *shelf[*chunk] // where they go

	mu      sync.Mutex
	changed sync.Cond
	queue   []piece
	size    int      // bytes in queue
	file    *os.File // follows the queue
	r, w    int64    // what of the file has been read and written
	busy    bool     // it is being written
	err     error    // what follows everything
	closed  bool     // nobody reads any more
}

var errClosed = errors.New("nobody reads it any more")

func newPipe(limit int, spill bool, dir string, chunks *shelf[*chunk]) *pipe {
	p := &pipe{limit: limit, spill: spill, dir: dir, chunks: chunks}
	p.changed.L = &p.mu
	return p
}

// put hands n bytes of a chunk over.
func (p *pipe) put(buf *chunk, n int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && p.err == nil && !p.spill && p.size >= p.limit {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return errClosed
	case p.err != nil:
		return p.err
	case p.spill && (p.size >= p.limit || p.r < p.w):
		if err := p.append(buf[:n]); err != nil {
			return err
		}
		p.chunks.put(buf)
	default:
		p.queue = append(p.queue, piece{buf, buf[:n]})
		p.size += n
	}
	p.changed.Broadcast()
	return nil
}

// append writes to the file. There is one writer, so nothing else is appended meanwhile.
func (p *pipe) append(b []byte) error {
	if p.file == nil {
		f, err := tempfile.Unnamed(p.dir)
		if err != nil {
			return &SpoolError{err}
		}
		p.file = f
	}
	p.busy = true
	file, w := p.file, p.w
	p.mu.Unlock()
	_, err := file.WriteAt(b, w)
	p.mu.Lock()
	p.busy = false
	if err != nil {
		return &SpoolError{err}
	}
	p.w = w + int64(len(b))
	return nil
}

// SpoolError reports that temporary files cannot be written or read.
type SpoolError struct{ Err error }

func (e *SpoolError) Error() string { return fmt.Sprintf("binarycache: temporary file: %v", e.Err) }
func (e *SpoolError) Unwrap() error { return e.Err }

// end says what follows everything that has been put: io.EOF or an error.
func (p *pipe) end(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	p.changed.Broadcast()
}

// close gives everything up. It may be called at any time, more than once.
func (p *pipe) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, c := range p.queue {
		p.chunks.put(c.buf)
	}
	p.queue, p.size = nil, 0
	p.changed.Broadcast()
}

// release closes the file, when neither end is used any more.
func (p *pipe) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != nil {
		p.file.Close()
		p.r, p.w = 0, 0
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && len(p.queue) == 0 && p.r == p.w && p.err == nil {
		p.changed.Wait()
	}
	switch {
	case p.closed:
		return 0, errClosed
	case len(p.queue) > 0:
		c := &p.queue[0]
		n := copy(b, c.data)
		c.data = c.data[n:]
		if p.size -= n; len(c.data) == 0 {
			p.chunks.put(c.buf)
			p.queue[0] = piece{}
			p.queue = p.queue[1:]
		}
		p.changed.Broadcast()
		return n, nil
	case p.r < p.w:
		file, r, n := p.file, p.r, int(min(int64(len(b)), p.w-p.r))
		p.mu.Unlock()
		n, err := file.ReadAt(b[:n], r)
		p.mu.Lock()
		p.r += int64(n)
		if p.r == p.w && !p.busy {
			p.r, p.w = 0, 0
		}
		if n == 0 && err != nil {
			return 0, &SpoolError{err}
		}
		return n, nil
	}
	return 0, p.err
}
