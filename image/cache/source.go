package cache

import (
	"context"
	"errors"
	"io"

	"github.com/nix2img/nix2img/internal/cas"
)

// A Source is a place where entries may be found: a [*Cache], or an earlier image.
type Source interface {
	// Entry returns the entry with a key. The error wraps [io/fs.ErrNotExist] if there is none.
	Entry(ctx context.Context, k Key) (*Entry, error)
	// Trusted reports whether entries are used as they are.
	// Otherwise they are copied, and compared with the NAR hash, before they are used.
	Trusted() bool
	// String is what messages call it.
	String() string
}

// An Entry is what has been found under a key. It can be read as long as its source or shelf is there.
type Entry struct {
	Data io.ReaderAt
	Size int64  // of the data
	Meta []byte // metadata
}

func newEntry(e *cas.Entry) *Entry {
	if e == nil {
		return nil
	}
	x := &Entry{e, e.Size(), e.Meta}
	e.Meta = nil // it may be large, and what keeps the data does not need it
	return x
}

// ErrDamaged is the reason for errors about entries that are not what they were.
var ErrDamaged = cas.ErrDamaged

// Unreadable reports whether an error says only that an entry could not be read: nothing is known of the entry then.
// It may also have been removed meanwhile.
func Unreadable(err error) bool {
	_, ok := errors.AsType[*cas.Error](err)
	return ok && !errors.Is(err, cas.ErrDamaged)
}

// isGone reports whether an entry has been removed since it was found.
func isGone(err error) bool { return errors.Is(err, cas.ErrGone) }
