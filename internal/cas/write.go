package cas

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/internal/tempfile"
)

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
	if s.mode&ReadOnly != 0 {
		return nil, s.fail(unix.EROFS)
	}
	if err := os.MkdirAll(s.temp(), s.dirMode); err != nil {
		return nil, s.fail(err)
	}
	f, err := tempfile.Create(s.temp(), tempPrefix, "", s.fileMode)
	if err != nil {
		return nil, s.fail(err)
	}
	return &Writer{s: s, k: k, f: f}, nil
}

// Write adds to the entry's data.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.f.Write(p)
	w.size += int64(n)
	w.err = w.s.fail(err)
	return n, w.err
}

// ReadAt reads from the data written so far.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Size returns how many bytes of data have been written.
func (w *Writer) Size() int64 { return w.size }

// errMeta says that metadata are larger than MaxMeta.
var errMeta = errors.New("the metadata are too large")

// Commit puts the entry into the store. After an error, what has been written can still be read, until Discard.
func (w *Writer) Commit(meta []byte) (*Entry, error) {
	e := &Entry{Meta: meta, size: w.size, s: w.s, k: w.k}
	copy(e.footer[:], footer(w.k, w.size, meta))
	if len(meta) > MaxMeta {
		return nil, w.s.fail(errMeta)
	}
	w.Write(meta)
	w.Write(e.footer[:])
	w.size = e.size
	if w.err != nil {
		return nil, w.err
	}
	if err := w.s.prepare(w.s.folder(w.k)); err != nil {
		return nil, w.s.fail(err)
	}
	if err := os.Rename(w.f.Name(), w.s.path(w.k)); err != nil {
		return nil, w.s.fail(err)
	}
	w.s.files.forget(w.k)
	w.f.Close()
	return e, nil
}

// prepare makes the folder of an entry. One of the user's that others can write to is closed to them.
func (s *Store) prepare(dir string) error {
	if err := os.MkdirAll(dir, s.dirMode); err != nil {
		return err
	}
	if s.mode&Trusted != 0 {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&0o022 != 0 && int(st.Uid) == os.Geteuid() {
		st.Mode &^= 0o022
		if err := os.Chmod(dir, fs.FileMode(st.Mode).Perm()); err != nil {
			return err
		}
	}
	if reason := s.distrust(&st); reason != "" {
		return &TrustError{dir, reason}
	}
	return nil
}

// Discard gives the entry up.
func (w *Writer) Discard() {
	os.Remove(w.f.Name())
	w.f.Close()
}
