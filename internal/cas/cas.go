package cas

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// tempPrefix begins the names of temporary files.
const tempPrefix = "nix2img-"

// Key names an entry. It should be a hash of all that decides the entry's bytes.
type Key [sha256.Size]byte

func (k Key) String() string { return hex.EncodeToString(k[:]) }

// A Store is a directory of entries.
type Store struct {
	dir      string
	readOnly bool
	unnamed  bool // entries are files without a name
	dirMode  fs.FileMode
	fileMode fs.FileMode
}

// A TrustError reports a store whose files others can change.
type TrustError struct {
	Dir    string
	Reason string
}

func (e *TrustError) Error() string {
	return fmt.Sprintf("cache %s: %s, so its contents cannot be relied on", e.Dir, e.Reason)
}

// Error is an error of the file system in which a store lies.
type Error struct {
	Dir string // of the store
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("cache %s: %v", e.Dir, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

func (s *Store) fail(err error) error { return &Error{s.dir, err} }

// Mode says how a store is opened.
type Mode int

const (
	Trusted  Mode = 1 << iota // do not ask who else can write to the store
	ReadOnly                  // the store must exist, and nothing in it is changed
)

// Open opens the store in dir, which is created unless the mode is ReadOnly.
// A store that others than the user and root can write to is a [*TrustError], unless the mode is Trusted.
// Others can read what is created, and in the mode Trusted write to it, as far as the umask allows.
func Open(dir string, mode Mode) (*Store, error) {
	s := &Store{dir: dir, readOnly: mode&ReadOnly != 0, dirMode: 0o755, fileMode: 0o644}
	if mode&Trusted != 0 {
		s.dirMode, s.fileMode = 0o777, 0o666 // for others to write to
	}
	if !s.readOnly {
		if err := os.MkdirAll(s.temp(), s.dirMode); err != nil {
			return nil, s.fail(err)
		}
	}
	for _, d := range []string{dir, s.entries()} {
		err := trusted(d)
		if errors.Is(err, fs.ErrNotExist) && d != dir {
			continue
		}
		if _, ok := errors.AsType[*TrustError](err); ok && mode&Trusted != 0 {
			continue
		}
		if err != nil {
			return nil, err
		}
	}
	if !s.readOnly {
		if err := os.MkdirAll(s.entries(), s.dirMode); err != nil {
			return nil, s.fail(err)
		}
		tempfile.Sweep(s.temp(), tempPrefix, os.Geteuid())
	}
	return s, nil
}

// Temporary returns a store of entries that vanish when they are closed.
// They are files in dir, or in the system's directory for temporary files if that is empty.
// Get finds nothing in it.
func Temporary(dir string) *Store {
	if dir == "" {
		dir = os.TempDir()
	}
	return &Store{dir: dir, unnamed: true, fileMode: 0o600}
}

func trusted(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return &Error{dir, err}
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return &Error{dir, unix.ENOTDIR}
	case st.Mode&0o022 != 0:
		return &TrustError{dir, fmt.Sprintf("its mode is %#o and lets others write to it", st.Mode&0o7777)}
	case int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return &TrustError{dir, fmt.Sprintf("it belongs to the user %d", st.Uid)}
	}
	return nil
}

func (s *Store) temp() string    { return filepath.Join(s.dir, "tmp") }
func (s *Store) entries() string { return filepath.Join(s.dir, "v1") }

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// path returns where an entry lies: by the first byte of its key, as directories should not be too large.
func (s *Store) path(k Key) string {
	name := k.String()
	return filepath.Join(s.entries(), name[:2], name)
}

// footer is what an entry ends with: magic, key, sizes of data and metadata (64 bits),
// checksum of the metadata, and checksum of the footer up to there.
const (
	footerSize = 64
	magic      = "n2icas\x00\x01"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func footer(k Key, dataSize int64, meta []byte) []byte {
	b := append(make([]byte, 0, footerSize), magic...)
	b = append(b, k[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(dataSize))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(meta)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(meta, castagnoli))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// An Entry is one that has been opened. It stays readable when it is removed from the store.
type Entry struct {
	*io.SectionReader // the data
	Meta              []byte

	f *os.File
}

// Close closes the entry.
func (e *Entry) Close() error { return e.f.Close() }

// ErrDamaged is the reason for errors about entries that are not what they were.
var ErrDamaged = errors.New("the entry is damaged")

// Get opens an entry, and marks it as used.
// The error wraps [fs.ErrNotExist] if there is none, and [ErrDamaged] if what is there is of no use.
func (s *Store) Get(k Key) (*Entry, error) {
	if s.unnamed {
		return nil, s.fail(fs.ErrNotExist)
	}
	f, err := os.Open(s.path(k))
	if err != nil {
		return nil, s.fail(err)
	}
	e, err := read(f, k)
	if err != nil {
		f.Close()
		return nil, s.fail(fmt.Errorf("read %s: %w", k, err))
	}
	if !s.readOnly {
		unix.Utimes(f.Name(), nil) // now
	}
	return e, nil
}

func read(f *os.File, k Key) (*Entry, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if !info.Mode().IsRegular() || size < footerSize {
		return nil, ErrDamaged
	}
	b := make([]byte, footerSize)
	if _, err := f.ReadAt(b, size-footerSize); err != nil {
		return nil, err
	}
	dataSize := int64(binary.LittleEndian.Uint64(b[40:]))
	metaSize := int64(binary.LittleEndian.Uint64(b[48:]))
	if dataSize < 0 || metaSize < 0 || dataSize > size || metaSize > size || dataSize+metaSize+footerSize != size {
		return nil, ErrDamaged
	}
	meta := make([]byte, metaSize)
	if _, err := f.ReadAt(meta, dataSize); err != nil {
		return nil, err
	}
	if string(b) != string(footer(k, dataSize, meta)) {
		return nil, ErrDamaged
	}
	return &Entry{io.NewSectionReader(f, 0, dataSize), meta, f}, nil
}

// Remove removes an entry, if there is one.
func (s *Store) Remove(k Key) error {
	if s.unnamed {
		return nil
	}
	if err := os.Remove(s.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fail(err)
	}
	return nil
}

// A Writer makes an entry.
type Writer struct {
	s    *Store
	k    Key
	f    *os.File
	size int64
	err  error
}

// Create begins an entry. It must be ended by Commit or Discard.
func (s *Store) Create(k Key) (*Writer, error) {
	dir := s.temp()
	if s.unnamed {
		dir = s.dir
	}
	f, err := tempfile.Create(dir, tempPrefix, "", s.fileMode)
	if err == nil && s.unnamed {
		err = os.Remove(f.Name())
	}
	if err != nil {
		return nil, s.fail(err)
	}
	return &Writer{s: s, k: k, f: f}, nil
}

// Write adds to the entry's data.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.size += int64(n)
	if err != nil {
		w.err = w.s.fail(err)
	}
	return n, w.err
}

// ReadAt reads from the data written so far.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Commit puts the entry into the store and opens it.
func (w *Writer) Commit(meta []byte) (*Entry, error) {
	size := w.size
	if w.s.unnamed && w.err == nil {
		return &Entry{io.NewSectionReader(w.f, 0, size), meta, w.f}, nil
	}
	if w.err == nil {
		w.Write(meta)
	}
	if w.err == nil {
		w.Write(footer(w.k, size, meta))
	}
	if w.err != nil {
		w.Discard()
		return nil, w.err
	}
	path := w.s.path(w.k)
	err := os.MkdirAll(filepath.Dir(path), w.s.dirMode)
	if err == nil {
		err = os.Rename(w.f.Name(), path)
	}
	if err != nil {
		w.Discard()
		return nil, w.s.fail(err)
	}
	return &Entry{io.NewSectionReader(w.f, 0, size), meta, w.f}, nil
}

// Discard gives the entry up.
func (w *Writer) Discard() {
	if !w.s.unnamed {
		os.Remove(w.f.Name())
	}
	w.f.Close()
}

// Info describes an entry that lies in a store.
type Info struct {
	Key  Key
	Size int64     // bytes of the file
	Used time.Time // when it was written or opened last
}

// List lists the entries, the one that has not been used for the longest time first.
func (s *Store) List() ([]Info, error) {
	var list []Info
	err := filepath.WalkDir(s.entries(), func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // removed meanwhile
		case err != nil:
			return s.fail(err)
		case d.IsDir():
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return nil
		}
		i := Info{Size: info.Size(), Used: info.ModTime()}
		key, err := hex.DecodeString(d.Name())
		if err != nil || len(key) != len(i.Key) || !info.Mode().IsRegular() {
			return nil // not ours
		}
		copy(i.Key[:], key)
		list = append(list, i)
		return nil
	})
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(a.Used.Compare(b.Used), slices.Compare(a.Key[:], b.Key[:]))
	})
	return list, err
}

// Prune removes entries until those that are left take at most limit bytes,
// and returns how many it removed and their bytes.
// Those that have not been used for the longest time go first.
func (s *Store) Prune(limit int64) (n int, bytes int64, err error) {
	list, err := s.List()
	if err != nil {
		return 0, 0, err
	}
	var total int64
	for _, i := range list {
		total += i.Size
	}
	for _, i := range list {
		if total-bytes <= limit {
			break
		}
		if err := s.Remove(i.Key); err != nil {
			return n, bytes, err
		}
		n, bytes = n+1, bytes+i.Size
	}
	return n, bytes, nil
}
