package inspect

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// MaxSpooled is how many bytes a file has, at most, of which a [Spool] has a copy.
const MaxSpooled = 1 << 30

// heldSize is how many bytes a file has, at most, whose copy is in memory.
const heldSize = 8 << 20

// A Spool has the copies of files that an Observer wants to go back in:
// in memory, those of more than 8 MiB in temporary files.
// Observers may share one, for its memory, whether they are at work at the same time or not.
type Spool struct {
	Dir string // for temporary files. Empty means that of the system.

	mu   sync.Mutex
	free []*[heldSize]byte
}

// begin returns a copy for size bytes to be written to.
func (s *Spool) begin(size int64) (*spooled, error) {
	if size > MaxSpooled {
		return nil, fmt.Errorf("%d bytes are more than %d", size, MaxSpooled)
	}
	if size > heldSize {
		f, err := tempfile.Unnamed(s.Dir)
		if err != nil {
			return nil, err
		}
		return &spooled{file: f}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free) - 1; n >= 0 {
		mem := s.free[n]
		s.free = s.free[:n]
		return &spooled{spool: s, mem: mem}, nil
	}
	return &spooled{spool: s, mem: new([heldSize]byte)}, nil
}

// spooled is the copy of a file.
type spooled struct {
	file *os.File // nil: it is in memory

	spool *Spool
	mem   *[heldSize]byte
	n     int // bytes of it
}

func (c *spooled) Write(p []byte) (int, error) {
	if c.file != nil {
		return c.file.Write(p)
	}
	n := copy(c.mem[c.n:], p)
	c.n += n
	if n < len(p) {
		return n, io.ErrShortWrite
	}
	return n, nil
}

func (c *spooled) ReadAt(p []byte, off int64) (int, error) {
	if c.file != nil {
		return c.file.ReadAt(p, off)
	}
	return bytes.NewReader(c.mem[:c.n]).ReadAt(p, off)
}

func (c *spooled) Close() error {
	if c.file != nil {
		return c.file.Close()
	}
	c.spool.mu.Lock()
	defer c.spool.mu.Unlock()
	c.spool.free = append(c.spool.free, c.mem)
	return nil
}
