package nar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
)

// Reader reads an archive node by node, each directory before its entries.
// It is used like the one of package archive/tar.
type Reader struct {
	r    io.Reader
	off  int64       // how much of the archive has been read
	dirs []directory // that are open, from the root on
	path string      // of the current node
	left int64       // unread contents of the current node, a regular file
	pad  int         // bytes after them
	open bool        // the current node is a regular file whose end has not been read
	err  error       // of the last Next, once there is one

	buf [maxTarget + 8]byte
}

type directory struct {
	path string
	last string // name of the last entry
}

var errNoReader = errors.New("nar: read: nothing to read from")

// NewReader returns a Reader that reads an archive from r.
// It reads small pieces and nothing that follows the archive,
// so r should be a [bufio.Reader] unless it is in memory.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// Next goes to the next node, skipping what is left of the contents of the last.
// The first node is the root. After the last node, the error is [io.EOF];
// then the Reader has read the archive to its end.
// An archive that breaks the rules gives a [*FormatError],
// one that ends too early an error that wraps [io.ErrUnexpectedEOF].
func (r *Reader) Next() (*Header, error) {
	if r.err != nil {
		return nil, r.err
	}
	h, err := r.next()
	r.err = err
	return h, err
}

// Read reads the contents of the current node, if it is a regular file.
// At their end, and for all other nodes, the error is [io.EOF].
func (r *Reader) Read(p []byte) (int, error) {
	if r.left == 0 || r.err != nil {
		return 0, io.EOF
	}
	if int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.r.Read(p)
	r.off += int64(n)
	r.left -= int64(n)
	if err == io.EOF {
		err = nil
		if r.left > 0 {
			err = r.wrap(io.ErrUnexpectedEOF)
		}
	}
	return n, err
}

// Offset returns how many bytes of the archive have been read.
func (r *Reader) Offset() int64 { return r.off }

func (r *Reader) next() (*Header, error) {
	if r.off == 0 {
		if err := r.expect(magic); err != nil {
			return nil, err
		}
		return r.node(".")
	}
	if r.open {
		if err := r.finish(); err != nil {
			return nil, err
		}
	}
	// Here the last node has ended, unless it is the directory on top of the stack.
	for len(r.dirs) > 0 {
		dir := &r.dirs[len(r.dirs)-1]
		r.path = dir.path
		token, err := r.token()
		if err != nil {
			return nil, err
		}
		switch token {
		case "entry":
			return r.entry(dir)
		case ")":
			r.dirs = r.dirs[:len(r.dirs)-1]
			if err := r.endEntry(); err != nil {
				return nil, err
			}
		default:
			return nil, r.errorf("%q where an entry or the end of a directory should be", token)
		}
	}
	return nil, io.EOF
}

func (r *Reader) entry(dir *directory) (*Header, error) {
	if err := r.expect("(", "name"); err != nil {
		return nil, err
	}
	name, err := r.string(maxName)
	if err != nil {
		return nil, err
	}
	if reason := checkName(name); reason != "" {
		return nil, r.errorf("%s", reason)
	}
	if dir.last >= name {
		return nil, r.errorf("entry %q comes after %q", name, dir.last)
	}
	dir.last = name
	path := join(dir.path, name)
	if len(path) > maxPath {
		return nil, r.errorf("the path of entry %q is longer than 4095 bytes", name)
	}
	if err := r.expect("node"); err != nil {
		return nil, err
	}
	return r.node(path)
}

func (r *Reader) node(path string) (*Header, error) {
	r.path = path
	if err := r.expect("(", "type"); err != nil {
		return nil, err
	}
	kind, err := r.token()
	if err != nil {
		return nil, err
	}
	switch kind {
	case "directory":
		r.dirs = append(r.dirs, directory{path: path})
		return &Header{Path: path, Mode: fs.ModeDir | 0o555}, nil
	case "symlink":
		return r.symlink(path)
	case "regular":
		return r.regular(path)
	}
	return nil, r.errorf("unknown type %q", kind)
}

func (r *Reader) symlink(path string) (*Header, error) {
	if err := r.expect("target"); err != nil {
		return nil, err
	}
	target, err := r.string(maxTarget)
	if err != nil {
		return nil, err
	}
	if reason := checkTarget(target); reason != "" {
		return nil, r.errorf("%s", reason)
	}
	if err := r.expect(")"); err != nil {
		return nil, err
	}
	if err := r.endEntry(); err != nil {
		return nil, err
	}
	return &Header{Path: path, Mode: fs.ModeSymlink | 0o777, LinkTarget: target}, nil
}

func (r *Reader) regular(path string) (*Header, error) {
	mode := fs.FileMode(0o444)
	token, err := r.token()
	if err == nil && token == "executable" {
		mode = 0o555
		if err := r.expect(""); err != nil {
			return nil, err
		}
		token, err = r.token()
	}
	if err != nil {
		return nil, err
	}
	if token != "contents" {
		return nil, r.errorf("%q where the contents of a file should be", token)
	}
	size, err := r.length(math.MaxInt64 / 2)
	if err != nil {
		return nil, err
	}
	r.left, r.pad, r.open = size, padding(size), true
	return &Header{Path: path, Mode: mode, Size: size, Offset: r.off}, nil
}

// finish skips to the end of the current node, a regular file.
func (r *Reader) finish() error {
	for r.left > 0 {
		if _, err := r.Read(r.buf[:]); err != nil {
			return err
		}
	}
	r.open = false
	if err := r.full(r.buf[:r.pad]); err != nil {
		return err
	}
	if !zero(r.buf[:r.pad]) {
		return r.errorf("contents are not padded with zeros")
	}
	if err := r.expect(")"); err != nil {
		return err
	}
	return r.endEntry()
}

// endEntry reads what ends the entry of a node that has ended; the root is none.
func (r *Reader) endEntry() error {
	if len(r.dirs) == 0 {
		return nil
	}
	return r.expect(")")
}

// expect reads strings that must be there.
func (r *Reader) expect(tokens ...string) error {
	for _, want := range tokens {
		got, err := r.token()
		if err != nil {
			return err
		}
		if got != want {
			return r.errorf("%q where %q should be", got, want)
		}
	}
	return nil
}

// token reads a word of the grammar.
func (r *Reader) token() (string, error) { return r.string(len(magic)) }

func (r *Reader) string(limit int) (string, error) {
	n, err := r.length(int64(limit))
	if err != nil {
		return "", err
	}
	b := r.buf[:int(n)+padding(n)]
	if err := r.full(b); err != nil {
		return "", err
	}
	if !zero(b[n:]) {
		return "", r.errorf("a string is not padded with zeros")
	}
	return string(b[:n]), nil
}

func (r *Reader) length(limit int64) (int64, error) {
	if err := r.full(r.buf[:8]); err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(r.buf[:])
	if n > uint64(limit) {
		return 0, r.errorf("a string of %d bytes where at most %d are allowed", n, limit)
	}
	return int64(n), nil
}

func (r *Reader) full(b []byte) error {
	if r.r == nil {
		return errNoReader
	}
	n, err := io.ReadFull(r.r, b)
	r.off += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return r.wrap(err)
	}
	return nil
}

func (r *Reader) errorf(format string, args ...any) error {
	return &FormatError{Offset: r.off, Path: r.path, Reason: fmt.Sprintf(format, args...)}
}

func (r *Reader) wrap(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("nar: read %q: archive ends at byte %d: %w", r.path, r.off, err)
	}
	return fmt.Errorf("nar: read %q at byte %d: %w", r.path, r.off, err)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
