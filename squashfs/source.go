package squashfs

import (
	"io"
	"io/fs"
)

// A source is a regular file that is being read.
type source struct {
	fsys fs.FS
	name string
	size int64
	f    fs.File
	at   io.ReaderAt // f, if it can be read in any order
	left int         // pieces still to be read; guarded by encoder.mu
}

// read reads the next bytes, which are those at off.
func (s *source) read(p []byte, off int64) error {
	n, err := io.ReadFull(s.f, p)
	if err == nil && off+int64(n) == s.size {
		if m, _ := s.f.Read(make([]byte, 1)); m > 0 {
			return errChanged
		}
	}
	return short(n, len(p), err)
}

func (s *source) readAt(p []byte, off int64) error {
	n, err := s.at.ReadAt(p, off)
	if n == len(p) && off+int64(n) == s.size {
		if m, _ := s.at.ReadAt(make([]byte, 1), s.size); m > 0 {
			return errChanged
		}
	}
	return short(n, len(p), err)
}

// short judges a read of n bytes, of which there should have been want.
func short(n, want int, err error) error {
	switch {
	case n == want:
		return nil
	case err == nil, err == io.EOF, err == io.ErrUnexpectedEOF:
		return errChanged
	}
	return err
}

// open opens a source. The encoder remembers it, for the case that it gives up.
func (e *encoder) open(s *source) error {
	f, err := s.fsys.Open(s.name)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || info.Size() != s.size) {
		err = errChanged
	}
	if err != nil {
		f.Close()
		return err
	}
	s.f = f
	s.at, _ = f.(io.ReaderAt)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sources[s] = struct{}{}
	return nil
}

// done is called when a piece of s has been read. The last one closes it.
func (e *encoder) done(s *source) {
	e.mu.Lock()
	s.left--
	last := s.left == 0
	e.mu.Unlock()
	if last {
		e.close(s)
	}
}

func (e *encoder) close(s *source) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.sources, s)
	s.f.Close()
}
