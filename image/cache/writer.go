package cache

import (
	"errors"
	"io"

	"github.com/nix2img/nix2img/internal/cas"
)

// A Writer makes an entry in the cache, or where that takes none, in a temporary file.
type Writer struct {
	s     *Shelf
	k     Key
	need  bool
	begun bool
	found bool // in the cache
	size  int64

	kept    *cas.Writer      // nil: the cache takes it not
	spooled *cas.SpoolWriter // nil: it is not in a temporary file
}

// Create begins an entry, which is to be ended by Commit or Discard.
// need says that the entry is needed by the build itself: what the cache refuses goes into a temporary file.
func (s *Shelf) Create(k Key, need bool) *Writer { return &Writer{s: s, k: k, need: need} }

// Temporary begins an entry that is only for this build.
func (s *Shelf) Temporary() *Writer {
	return &Writer{s: s, need: true, begun: true, spooled: s.temporary()}
}

func (w *Writer) begin() error {
	if w.begun {
		return nil
	}
	if w.s == nil {
		return errors.New("cache: the entry has not been begun on a shelf")
	}
	w.begun = true
	if w.s.Keeps() {
		var err error
		if w.kept, err = w.s.own.store.Create(w.k); err != nil {
			return w.moveOver(err)
		}
		return nil
	}
	return w.moveOver(nil)
}

// moveOver gives the cache up for this entry, for a reason if that is not nil. What has been written is copied.
func (w *Writer) moveOver(reason error) error {
	old := w.kept
	w.kept = nil
	if old != nil {
		defer old.Discard()
	}
	if reason != nil {
		if err := w.s.refused(reason); err != nil {
			return err
		}
	}
	if !w.need {
		return nil
	}
	w.spooled = w.s.temporary()
	if old == nil {
		return nil
	}
	_, err := io.Copy(w.spooled, io.NewSectionReader(old, 0, w.size))
	return err
}

// Write adds to the entry's data.
func (w *Writer) Write(p []byte) (int, error) {
	if err := w.begin(); err != nil {
		return 0, err
	}
	if w.kept != nil {
		if _, err := w.kept.Write(p); err != nil {
			if err := w.moveOver(err); err != nil {
				return 0, err
			}
		}
	}
	if w.spooled != nil {
		if _, err := w.spooled.Write(p); err != nil {
			return 0, err
		}
	}
	w.size += int64(len(p))
	return len(p), nil
}

// ReadAt reads from the data written so far, of an entry that is needed.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) {
	switch {
	case w.kept != nil:
		return w.kept.ReadAt(p, off)
	case w.spooled != nil:
		return w.spooled.ReadAt(p, off)
	}
	return 0, io.EOF
}

// Commit ends the entry. One that is not needed, and that the cache does not take, is nil.
func (w *Writer) Commit(meta []byte) (*Entry, error) {
	if err := w.begin(); err != nil {
		return nil, err
	}
	if w.kept != nil {
		e, err := w.kept.Commit(meta)
		if err == nil {
			w.kept, w.found = nil, true
			w.s.mu.Lock()
			set(&w.s.remade, w.k, true)
			w.s.mu.Unlock()
			return newEntry(e), nil
		}
		if err := w.moveOver(err); err != nil {
			return nil, err
		}
	}
	if w.spooled == nil {
		return nil, nil
	}
	return newEntry(w.spooled.Commit(meta)), nil
}

// InCache reports whether an entry that has been committed can be found in the cache.
func (w *Writer) InCache() bool { return w.found }

// Discard gives the entry up. After Commit it does nothing.
func (w *Writer) Discard() {
	if w.kept != nil {
		w.kept.Discard()
		w.kept = nil
	}
}
