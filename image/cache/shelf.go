package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/nix2img/nix2img/internal/cas"
)

// A Shelf has what one build finds and makes: in the user's cache and further sources, and in temporary files.
// It may be used by several goroutines. The zero value has no cache and no sources.
type Shelf struct {
	own    *Cache // nil: none
	from   []Source
	spool  *cas.Spool
	note   func(string)
	strict bool

	mu      sync.Mutex
	damaged map[Key]int  // how often an entry has turned out to be of no use
	remade  map[Key]bool // and has been made again
	said    map[string]bool
	full    bool // nothing is written to the own cache any more
}

// NewShelf returns a shelf. own may be nil, and so may note, which is told of what did not go as planned.
// Temporary files are in tempDir, or in the system's directory for them if that is empty.
// The shelf must be closed.
func NewShelf(own *Cache, from []Source, tempDir string, note func(string)) *Shelf {
	if own.check() != nil {
		own = nil
	}
	from = slices.DeleteFunc(slices.Clone(from), func(s Source) bool { return s == nil })
	return &Shelf{own: own, from: from, spool: cas.NewSpool(tempDir), note: note}
}

// Strict makes an error of what cannot be kept in the cache. It is for those who do nothing but fill it.
func (s *Shelf) Strict() *Shelf {
	s.strict = true
	return s
}

// Close gives up all temporary files.
func (s *Shelf) Close() {
	if s.spool != nil {
		s.spool.Close()
	}
}

// temporary begins a temporary file.
func (s *Shelf) temporary() *cas.SpoolWriter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spool == nil {
		s.spool = cas.NewSpool("")
	}
	return s.spool.Create()
}

// set sets a value in a map that may not be there yet.
func set[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = make(map[K]V)
	}
	(*m)[k] = v
}

// Keeps reports whether there is a cache that takes entries.
func (s *Shelf) Keeps() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.own != nil && !s.full
}

// notef tells the user something.
func (s *Shelf) notef(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.say(format, args...)
}

// say calls note. The lock is held.
func (s *Shelf) say(format string, args ...any) {
	if s.note != nil {
		s.note(fmt.Sprintf(format, args...))
	}
}

// once is notef, but says nothing the second time that it is about the same subject.
func (s *Shelf) once(subject, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.said[subject] {
		set(&s.said, subject, true)
		s.say(format, args...)
	}
}

// A Want says what is looked for, and what it is good for.
type Want[T any] struct {
	Key  Key
	Name string // for messages: "segment of /nix/store/..."
	// Decode makes sense of an entry. An error means that it is damaged. It may keep the Data.
	Decode func(*Entry) (T, error)
	// Prove compares what has been decoded with the NAR hash.
	Prove func(context.Context, T) error
}

// Get looks for an entry: in the own cache, then in the sources.
// What a source has is copied to where nobody else can change it, and proved there unless the source is trusted.
// Without a cache, what can be relied on is not copied.
// The error wraps [fs.ErrNotExist] if there is none of any use.
func Get[T any](ctx context.Context, s *Shelf, w *Want[T]) (t T, err error) {
	if t, err = GetOwn(ctx, s, w); !errors.Is(err, fs.ErrNotExist) {
		return t, err
	}
	if s.IsDamaged(w.Key) {
		return t, fs.ErrNotExist
	}
	for _, from := range s.from {
		e, err := from.Entry(ctx, w.Key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			t, err = adopt(ctx, s, w, e, from.Trusted())
		}
		if own, ok := errors.AsType[*ownError](err); ok {
			return t, own.error
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return t, err
		case Unreadable(err):
			s.once(from.String(), "%s: %v; what cannot be read there is not used", from, cause(err))
		default:
			s.notef("%s in the %s: %v; it is not used", w.Name, from, cause(err))
		}
	}
	return t, fs.ErrNotExist
}

// cause returns what is behind an [Error], where its cache has been named already.
func cause(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Err
	}
	return err
}

// GetOwn is Get, but looks into the own cache only.
func GetOwn[T any](ctx context.Context, s *Shelf, w *Want[T]) (t T, err error) {
	e, err := s.look(ctx, w.Key, w.Name)
	if err != nil {
		return t, err
	}
	if t, err = w.Decode(e); err == nil {
		return t, nil
	}
	if err := s.GiveUp(w.Key, w.Name, err, true); err != nil {
		return t, err
	}
	return t, fs.ErrNotExist
}

// look looks into the own cache. What is damaged there is dropped.
func (s *Shelf) look(ctx context.Context, k Key, name string) (*Entry, error) {
	s.mu.Lock()
	skip := s.own == nil || s.damaged[k] > 0 && !s.remade[k]
	s.mu.Unlock()
	if skip {
		return nil, fs.ErrNotExist
	}
	e, err := s.own.Entry(ctx, k)
	_, others := errors.AsType[*TrustError](err)
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return e, err
	case errors.Is(err, ErrDamaged):
		err = s.GiveUp(k, name, err, true)
	case others:
		s.once("others", "%v; it is not used", err)
		err = nil
	default:
		s.once("unreadable", "%v; what cannot be read in the cache is made again", err)
		err = nil
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return nil, err
}

// An ownError is one of where entries are kept, and not of where they come from.
type ownError struct{ error }

// adopt takes an entry of a source.
func adopt[T any](ctx context.Context, s *Shelf, w *Want[T], e *Entry, trusted bool) (t T, err error) {
	if trusted && !s.Keeps() {
		return w.Decode(e)
	}
	meta := e.Meta
	if !trusted {
		if _, err := w.Decode(&Entry{e.Data, e.Size, meta}); err != nil {
			return t, err // before anything is copied
		}
	}
	to := s.Create(w.Key, true)
	defer to.Discard()
	if err := copyData(ctx, to, e); err != nil {
		return t, err
	}
	if t, err = w.Decode(&Entry{to, e.Size, meta}); err == nil && !trusted {
		err = w.Prove(ctx, t)
	}
	if err != nil {
		return t, err
	}
	kept, err := to.Commit(meta)
	if err != nil {
		return t, &ownError{err}
	}
	return w.Decode(kept)
}

// copyData copies the data of an entry. An error of the copy is an [ownError].
func copyData(ctx context.Context, to *Writer, e *Entry) error {
	buf := make([]byte, min(e.Size, 1<<20))
	for off := int64(0); off < e.Size; {
		p := buf[:min(int64(len(buf)), e.Size-off)]
		if err := ctx.Err(); err != nil {
			return err
		}
		if n, err := e.Data.ReadAt(p, off); n < len(p) {
			if err == io.EOF {
				err = ErrDamaged
			}
			return err
		}
		if _, err := to.Write(p); err != nil {
			return &ownError{err}
		}
		off += int64(len(p))
	}
	return nil
}

// GiveUp drops an entry that is of no use, wherever it comes from, and says so: it is to be made again.
// It is removed from the cache only if it is proved to be damaged.
// What is damaged each time that it is made is an error.
func (s *Shelf) GiveUp(k Key, name string, reason error, proved bool) error {
	s.mu.Lock()
	again := s.damaged[k] + 1
	set(&s.damaged, k, again)
	delete(s.remade, k)
	s.mu.Unlock()
	if again > 3 {
		return reason
	}
	s.notef("%s: %v; it is made again", name, reason)
	if proved && s.own != nil {
		if err := s.own.store.Remove(k); err != nil {
			s.once("remove", "%v; what is damaged stays in the cache", err)
		}
	}
	return nil
}

// IsDamaged reports whether an entry has been given up: then sources are not asked for it any more.
func (s *Shelf) IsDamaged(k Key) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[k] > 0
}

// refused takes note that nothing can be written to the cache. It returns the error if that is one.
func (s *Shelf) refused(err error) error {
	if s.strict {
		return err
	}
	s.mu.Lock()
	s.full = true
	s.mu.Unlock()
	s.once("full", "%v; nothing more is kept there", err)
	return nil
}
