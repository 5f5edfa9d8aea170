package registry

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// A sourceError is one of the blob, not of the registry.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// A source is a blob that is read from its begin to its end, and again if need be.
type source struct {
	open func() (io.ReadCloser, error)
	rc   io.ReadCloser
	pos  int64
}

// at returns a reader from offset off on.
func (s *source) at(off int64) (io.Reader, error) {
	if s.rc != nil && s.pos > off {
		s.Close()
	}
	if s.rc == nil {
		rc, err := s.open()
		if err != nil {
			return nil, err
		}
		s.rc, s.pos = rc, 0
	}
	if n := off - s.pos; n > 0 {
		if seeker, ok := s.rc.(io.Seeker); ok {
			if _, err := seeker.Seek(n, io.SeekCurrent); err != nil {
				return nil, err
			}
		} else if _, err := io.CopyN(io.Discard, s.rc, n); err != nil {
			return nil, err
		}
		s.pos = off
	}
	return s.rc, nil
}

func (s *source) Close() {
	if s.rc != nil {
		s.rc.Close()
		s.rc = nil
	}
}

// A piece is the body of a request: the next bytes of a source.
// It can be ended, whatever the transport still does with it.
type piece struct {
	mu   sync.Mutex
	r    io.Reader // nil: ended
	left int64
	read int64
	err  error // of r
	sent func(n int)
}

func (p *piece) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.r == nil:
		return 0, errors.New("the request has ended")
	case p.left == 0:
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(int64(len(b)), p.left)])
	p.left -= int64(n)
	p.read += int64(n)
	if n > 0 {
		p.sent(n)
	}
	if err == io.EOF {
		if err = nil; p.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		p.err = fmt.Errorf("read the blob: %w", err)
	}
	return n, err
}

// end returns how much was read, and what went wrong with that.
func (p *piece) end() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.r = nil
	return p.read, p.err
}
