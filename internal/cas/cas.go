package cas

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// tempPrefix begins the names of temporary files.
const tempPrefix = "nix2img-"

// Key names an entry.
type Key struct {
	Kind string // a word of lower-case letters, which the name of the file ends in
	Sum  [sha256.Size]byte
}

// NewKey returns the key of an entry of some kind whose bytes are decided by what text says.
func NewKey(kind, text string) Key {
	return Key{kind, sha256.Sum256([]byte(kind + "\n" + text))}
}

func (k Key) String() string { return hex.EncodeToString(k.Sum[:]) + "." + k.Kind }

// parseKey reads what String returns.
func parseKey(name string) (k Key, ok bool) {
	sum, kind, _ := strings.Cut(name, ".")
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) != len(k.Sum) || kind == "" || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz") != "" {
		return k, false
	}
	k.Kind = kind
	copy(k.Sum[:], b)
	return k, k.String() == name
}

// A Store is a directory of entries.
type Store struct {
	dir      string
	mode     Mode
	dirMode  fs.FileMode
	fileMode fs.FileMode
	files    openFiles
}

// A TrustError reports something in a store that others can change.
type TrustError struct {
	Dir    string // of the store, or a file in it
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

func (s *Store) fail(err error) error {
	if err == nil {
		return nil
	}
	return &Error{s.dir, err}
}

// Mode says how a store is opened.
type Mode int

const (
	Trusted  Mode = 1 << iota // do not ask who else can write to the store
	ReadOnly                  // the store must exist, and nothing in it is changed
)

// Open opens the store in dir, which is created unless the mode is ReadOnly.
// A store that others than the user and root can write to is a [*TrustError], unless the mode is Trusted.
// Others can read what is created, and in the mode Trusted write to it, as far as the umask allows.
//
// That nothing can be written to a directory that is there is no error before something is to be.
func Open(dir string, mode Mode) (*Store, error) {
	s := &Store{dir: dir, mode: mode, dirMode: 0o755, fileMode: 0o644}
	if mode&Trusted != 0 {
		s.dirMode, s.fileMode = 0o777, 0o666 // for others to write to
	}
	if mode&ReadOnly == 0 {
		if err := os.MkdirAll(dir, s.dirMode); err != nil {
			return nil, s.fail(err)
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, s.fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, s.fail(unix.ENOTDIR)
	}
	if reason := s.distrust(&st); reason != "" {
		return nil, &TrustError{dir, reason}
	}
	if mode&ReadOnly == 0 {
		tempfile.Sweep(s.temp(), tempPrefix, os.Geteuid())
	}
	return s, nil
}

// distrust says who else than the user and root can have written to a file or directory. It is empty if that is nobody.
func (s *Store) distrust(st *unix.Stat_t) string {
	switch {
	case s.mode&Trusted != 0:
	case st.Mode&0o022 != 0:
		return fmt.Sprintf("its mode is %#o and lets others write to it", st.Mode&0o7777)
	case int(st.Uid) != os.Geteuid() && st.Uid != 0:
		return fmt.Sprintf("it belongs to the user %d", st.Uid)
	}
	return ""
}

// Version is the folder of a store that has the entries.
const Version = "v2"

func (s *Store) temp() string    { return filepath.Join(s.dir, "tmp") }
func (s *Store) entries() string { return filepath.Join(s.dir, Version) }

// Dir returns the store's directory.
func (s *Store) Dir() string { return s.dir }

// Close closes the files that are open. Entries can be read even then.
func (s *Store) Close() { s.files.close() }

// folder returns the directory of an entry: by the first byte of its key, as directories should not be too large.
func (s *Store) folder(k Key) string {
	return filepath.Join(s.entries(), hex.EncodeToString(k.Sum[:1]))
}

func (s *Store) path(k Key) string { return filepath.Join(s.folder(k), k.String()) }

// Remove removes an entry, if there is one.
func (s *Store) Remove(k Key) error {
	s.files.forget(k)
	if err := os.Remove(s.path(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.fail(err)
	}
	return nil
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
		if key, ok := parseKey(d.Name()); ok && info.Mode().IsRegular() { // else it is not ours
			list = append(list, Info{key, info.Size(), info.ModTime()})
		}
		return nil
	})
	slices.SortFunc(list, func(a, b Info) int {
		return cmp.Or(a.Used.Compare(b.Used), slices.Compare(a.Key.Sum[:], b.Key.Sum[:]))
	})
	return list, err
}

// Prune removes entries until those that are left take at most limit bytes,
// and returns how many it removed and their bytes.
// Those that have not been used for the longest time go first.
func (s *Store) Prune(limit int64) (n int, bytes int64, err error) {
	list, err := s.Excess(limit)
	for _, i := range list {
		if err := s.Remove(i.Key); err != nil {
			return n, bytes, err
		}
		n, bytes = n+1, bytes+i.Size
	}
	return n, bytes, err
}

// Excess returns the entries that [Store.Prune] would remove.
func (s *Store) Excess(limit int64) ([]Info, error) {
	list, err := s.List()
	if err != nil {
		return nil, err
	}
	var total int64
	for _, i := range list {
		total += i.Size
	}
	n := 0
	for ; n < len(list) && total > limit; n++ {
		total -= list[n].Size
	}
	return list[:n], nil
}
