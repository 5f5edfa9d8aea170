package cas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// footer is what an entry ends with: magic, key, sizes of data and metadata (64 bits),
// checksum of the metadata, and checksum of the footer up to there.
const (
	footerSize = 64
	magic      = "n2icas\x00\x01"
)

// MaxMeta is how many bytes the metadata of an entry have at most.
const MaxMeta = 256 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func footer(k Key, dataSize int64, meta []byte) []byte {
	b := append(make([]byte, 0, footerSize), magic...)
	b = append(b, k.Sum[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(dataSize))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(meta)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(meta, castagnoli))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// An Entry is data that can be read as often as need be, and metadata. It need not be closed.
type Entry struct {
	Meta []byte

	size   int64
	s      *Store // nil: data are in spool
	k      Key
	footer [footerSize]byte
	spool  *spooled
}

// Size returns how many bytes of data there are.
func (e *Entry) Size() int64 { return e.size }

// ErrDamaged is the reason for errors about entries that are not what they were.
var ErrDamaged = errors.New("the entry is damaged")

// ErrGone is the reason for errors about entries that somebody has removed since they were found.
var ErrGone = errors.New("the entry has been removed")

// ReadAt reads data. The error wraps [ErrDamaged] or [ErrGone] if they are not what they were.
func (e *Entry) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= e.size {
		return 0, io.EOF
	}
	short := int64(len(p)) > e.size-off
	if short {
		p = p[:e.size-off]
	}
	err = e.With(func(r io.ReaderAt) (err error) {
		n, err = r.ReadAt(p, off)
		return err
	})
	switch {
	case n == len(p) && short:
		return n, io.EOF
	case n == len(p):
		return n, nil
	case err == io.EOF && e.s != nil:
		err = fmt.Errorf("read %s: %w", e.k, ErrDamaged)
	}
	if _, ok := errors.AsType[*Error](err); err != nil && !ok && e.s != nil {
		err = e.s.fail(err)
	}
	return n, err
}

// With calls f with what the data are read from: the file, if they lie in one, with the offsets of the data.
func (e *Entry) With(f func(io.ReaderAt) error) error {
	if e.s == nil {
		return f(e.spool)
	}
	o, err := e.s.files.use(e.k, e.reopen)
	if err != nil {
		return err
	}
	defer e.s.files.done(o)
	return f(o.f)
}

// reopen opens the file, which must be as it was when the entry was found.
func (e *Entry) reopen() (*os.File, error) {
	f, size, err := e.s.open(e.k)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, e.s.fail(fmt.Errorf("read %s: %w", e.k, ErrGone))
	}
	if err != nil {
		return nil, err
	}
	b := make([]byte, footerSize)
	if size < footerSize {
		err = ErrDamaged
	} else if _, err = f.ReadAt(b, size-footerSize); err == nil && string(b) != string(e.footer[:]) {
		err = ErrDamaged
	}
	if err != nil {
		f.Close()
		return nil, e.s.fail(fmt.Errorf("read %s: %w", e.k, err))
	}
	return f, nil
}

// Get finds an entry, and marks it as used.
// The error wraps [fs.ErrNotExist] if there is none, and [ErrDamaged] if what is there is of no use.
// An entry that others can have written is a [*TrustError]. All other errors say nothing about the entry.
func (s *Store) Get(k Key) (*Entry, error) {
	f, size, err := s.open(k)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	e, err := s.read(f, size, k)
	if err != nil {
		return nil, s.fail(fmt.Errorf("read %s: %w", k, err))
	}
	if s.mode&ReadOnly == 0 {
		unix.Utimes(f.Name(), nil) // now
	}
	return e, nil
}

// open opens the file of an entry, and returns its size. Its owner and mode, and those of its folder, are asked of what has been opened.
func (s *Store) open(k Key) (f *os.File, size int64, err error) {
	dir, err := os.OpenFile(s.folder(k), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, s.fail(err)
	}
	defer dir.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(dir.Fd()), &st); err != nil {
		return nil, 0, s.fail(err)
	}
	if reason := s.distrust(&st); reason != "" {
		return nil, 0, &TrustError{dir.Name(), reason}
	}
	name := k.String()
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, 0, s.fail(&fs.PathError{Op: "open", Path: s.path(k), Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG { // a pipe would be waited for
		return nil, 0, s.fail(fmt.Errorf("read %s: %w", k, ErrDamaged))
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, s.fail(&fs.PathError{Op: "open", Path: s.path(k), Err: err})
	}
	f = os.NewFile(uintptr(fd), s.path(k))
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = ErrDamaged
	}
	if err != nil {
		f.Close()
		return nil, 0, s.fail(fmt.Errorf("read %s: %w", k, err))
	}
	if reason := s.distrust(&st); reason != "" {
		f.Close()
		return nil, 0, &TrustError{f.Name(), reason}
	}
	return f, st.Size, nil
}

// read reads footer and metadata. Nothing that the footer says counts before its checksum and key are right.
func (s *Store) read(f io.ReaderAt, size int64, k Key) (*Entry, error) {
	e := &Entry{s: s, k: k}
	b := e.footer[:]
	if size < footerSize {
		return nil, ErrDamaged
	}
	if _, err := f.ReadAt(b, size-footerSize); err != nil {
		return nil, damagedAtEnd(err)
	}
	sum := binary.LittleEndian.Uint32(b[60:])
	if string(b[:8]) != magic || string(b[8:40]) != string(k.Sum[:]) || sum != crc32.Checksum(b[:60], castagnoli) {
		return nil, ErrDamaged
	}
	dataSize := int64(binary.LittleEndian.Uint64(b[40:]))
	metaSize := int64(binary.LittleEndian.Uint64(b[48:]))
	if dataSize < 0 || metaSize < 0 || metaSize > MaxMeta || dataSize > size || dataSize+metaSize+footerSize != size {
		return nil, ErrDamaged
	}
	e.size = dataSize
	e.Meta = make([]byte, metaSize)
	if _, err := f.ReadAt(e.Meta, dataSize); err != nil {
		return nil, damagedAtEnd(err)
	}
	if crc32.Checksum(e.Meta, castagnoli) != binary.LittleEndian.Uint32(b[56:]) {
		return nil, ErrDamaged
	}
	return e, nil
}

// damagedAtEnd makes damage of the end of a file that has become shorter.
func damagedAtEnd(err error) error {
	if err == io.EOF {
		return ErrDamaged
	}
	return err
}
