package export

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
)

const (
	another = 1          // before an object
	magic   = 0x4558494e // "NIXE", after its NAR
	end     = 0
)

// Limits of strings in a stream, in bytes.
const (
	maxPath      = 4095
	maxSignature = 64 << 10
)

// FormatError reports that a stream is not what it should be.
type FormatError struct {
	Offset int64 // in the stream, in bytes, near which the error lies
	Reason string
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("export: read at byte %d: %s", e.Offset, e.Reason)
}

// Open reads an export stream of the given size in bytes,
// and returns the closure of roots, or of all objects if there are none; see [closure.New].
// All of the stream is read, for the NAR hashes, but none of the files is kept in memory:
// the closure's Files read from r, which must stay as it is.
//
// Errors are a [*FormatError], a [*nar.FormatError], or those of [closure.New],
// or wrap [io.ErrUnexpectedEOF] if the stream ends too early.
func Open(ctx context.Context, r io.ReaderAt, size int64, roots ...closure.Path) (*closure.Closure, error) {
	if r == nil {
		return nil, errNothing
	}
	return read(ctx, io.NewSectionReader(r, 0, size), r, roots)
}

// Spooler is where a stream is kept: an empty file.
type Spooler interface {
	io.Writer
	io.ReaderAt
}

// Spool is Open for a stream that can be read only once, such as a pipe.
// It copies the stream to spool, from which the closure's Files will read.
func Spool(ctx context.Context, r io.Reader, spool Spooler, roots ...closure.Path) (*closure.Closure, error) {
	if r == nil || spool == nil {
		return nil, errNothing
	}
	return read(ctx, io.TeeReader(r, spool), spool, roots)
}

var errNothing = errors.New("export: nothing to read from")

func read(ctx context.Context, stream io.Reader, at io.ReaderAt, roots []closure.Path) (*closure.Closure, error) {
	s := &source{ctx: ctx, r: bufio.NewReaderSize(stream, 256<<10)}
	var objects []closure.Object
	files := make(map[string]*nar.FS)
	for {
		more, err := s.number()
		if err != nil {
			return nil, err
		}
		if more == end {
			break
		}
		if more != another {
			if len(objects) == 0 {
				return nil, &FormatError{0, "this is not what nix-store --export prints"}
			}
			return nil, s.errorf("%#x where an object or the end should be", more)
		}
		o, fsys, err := s.object(at)
		if err != nil {
			return nil, err
		}
		objects = append(objects, o)
		files[o.Path.Base()] = fsys
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		if err != nil {
			return nil, s.wrap(err)
		}
		return nil, s.errorf("something follows the end of the stream")
	}
	c, err := closure.New(roots, objects)
	if err != nil {
		return nil, err
	}
	if c.Files, err = nar.Join(files); err != nil {
		return nil, err
	}
	return c, nil
}

// source reads the parts of a stream.
type source struct {
	ctx  context.Context
	r    *bufio.Reader
	off  int64
	hash hash.Hash // of what is read, if not nil
}

func (s *source) object(at io.ReaderAt) (o closure.Object, fsys *nar.FS, err error) {
	start := s.off
	s.hash = sha256.New()
	fsys, err = nar.Index(s, io.NewSectionReader(at, start, math.MaxInt64-start))
	if err != nil {
		return o, nil, fmt.Errorf("export: object at byte %d: %w", start, err)
	}
	s.hash.Sum(o.NARHash[:0])
	o.NARSize = fsys.Size()
	s.hash = nil

	if n, err := s.number(); err != nil {
		return o, nil, err
	} else if n != magic {
		return o, nil, s.errorf("%#x where %#x should be", n, magic)
	}
	if o.Path, err = s.path(); err != nil {
		return o, nil, err
	}
	count, err := s.number()
	if err != nil {
		return o, nil, err
	}
	for range count {
		ref, err := s.path()
		if e, ok := errors.AsType[*closure.SyntaxError](err); ok {
			e.In = o.Path
		}
		if err != nil {
			return o, nil, err
		}
		o.References = append(o.References, ref)
	}
	if _, err := s.string(maxPath); err != nil { // deriver
		return o, nil, err
	}
	signed, err := s.number()
	switch {
	case err != nil:
		return o, nil, err
	case signed == 1:
		if _, err := s.string(maxSignature); err != nil {
			return o, nil, err
		}
	case signed != 0:
		return o, nil, s.errorf("%#x where the end of an object should be", signed)
	}
	return o, fsys, nil
}

// Read is for what reads a NAR.
func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.off += int64(n)
	if s.hash != nil {
		s.hash.Write(p[:n])
	}
	return n, err
}

func (s *source) number() (uint64, error) {
	var b [8]byte
	if err := s.full(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]), nil
}

func (s *source) path() (closure.Path, error) {
	text, err := s.string(maxPath)
	if err != nil {
		return "", err
	}
	return closure.ParsePath(text)
}

func (s *source) string(limit uint64) (string, error) {
	n, err := s.number()
	if err != nil {
		return "", err
	}
	if n > limit {
		return "", s.errorf("a string of %d bytes where at most %d are allowed", n, limit)
	}
	b := make([]byte, (n+7)&^7)
	if err := s.full(b); err != nil {
		return "", err
	}
	for _, c := range b[n:] {
		if c != 0 {
			return "", s.errorf("a string is not padded with zeros")
		}
	}
	return string(b[:n]), nil
}

func (s *source) full(b []byte) error {
	_, err := io.ReadFull(s, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return s.wrap(err)
	}
	return nil
}

func (s *source) errorf(format string, args ...any) error {
	return &FormatError{s.off, fmt.Sprintf(format, args...)}
}

func (s *source) wrap(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("export: the stream ends at byte %d: %w", s.off, err)
	}
	return fmt.Errorf("export: read at byte %d: %w", s.off, err)
}
