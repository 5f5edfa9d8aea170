package cas

import (
	"fmt"
	"io"
	"os"
	"sort"
	"sync"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// A Spool has entries that nobody finds by a key, and that are gone with it. They share one file without a name.
type Spool struct {
	dir string

	mu   sync.Mutex
	f    *os.File // nil: there is nothing yet
	size int64
}

// NewSpool returns a spool whose file is in dir, or in the system's directory for temporary files if that is empty.
func NewSpool(dir string) *Spool { return &Spool{dir: dir} }

// SpoolError is an error of the file system in which temporary files lie.
type SpoolError struct{ Err error }

func (e *SpoolError) Error() string { return fmt.Sprintf("temporary file: %v", e.Err) }
func (e *SpoolError) Unwrap() error { return e.Err }

// Close gives up all entries.
func (s *Spool) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		s.f.Close()
	}
}

// reserve returns the file, and where n more bytes have room in it.
func (s *Spool) reserve(n int) (f *os.File, off int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		if s.f, err = tempfile.Unnamed(s.dir); err != nil {
			return nil, 0, &SpoolError{err}
		}
	}
	off = s.size
	s.size += int64(n)
	return s.f, off, nil
}

// Create begins an entry.
func (s *Spool) Create() *SpoolWriter { return &SpoolWriter{s: s} }

// A SpoolWriter makes an entry of a spool. Several may be written at a time.
type SpoolWriter struct {
	s *Spool
	spooled
}

// spooled are the data of an entry: pieces of the file.
type spooled struct {
	f      *os.File
	pieces []spoolPiece
	size   int64
}

type spoolPiece struct{ at, off, size int64 } // at in the data, off in the file

// Write adds to the entry's data.
func (w *SpoolWriter) Write(p []byte) (int, error) {
	f, off, err := w.s.reserve(len(p))
	if err != nil {
		return 0, err
	}
	w.f = f
	if _, err := f.WriteAt(p, off); err != nil {
		return 0, &SpoolError{err}
	}
	n := int64(len(p))
	if k := len(w.pieces) - 1; k >= 0 && w.pieces[k].off+w.pieces[k].size == off {
		w.pieces[k].size += n
	} else {
		w.pieces = append(w.pieces, spoolPiece{w.size, off, n})
	}
	w.size += n
	return len(p), nil
}

// Size returns how many bytes of data have been written.
func (w *SpoolWriter) Size() int64 { return w.size }

// Commit ends the entry. The writer must not be used any more.
func (w *SpoolWriter) Commit(meta []byte) *Entry {
	return &Entry{Meta: meta, size: w.size, spool: &w.spooled}
}

// ReadAt reads from the data written so far.
func (d *spooled) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		if off >= d.size {
			return n, io.EOF
		}
		x := d.pieces[sort.Search(len(d.pieces), func(i int) bool { return d.pieces[i].at > off })-1]
		part := p[n:]
		if left := x.at + x.size - off; int64(len(part)) > left {
			part = part[:left]
		}
		m, err := d.f.ReadAt(part, x.off+off-x.at)
		n, off = n+m, off+int64(m)
		if m < len(part) {
			return n, &SpoolError{err}
		}
	}
	return n, nil
}
