package closure

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoFiles is why nothing can be done that takes the files of a closure: there are none.
var ErrNoFiles = errors.New("closure: it has no files: Closure.Files is nil, and DirFS, for example, makes some")

// SyntaxError reports text that is not what it should be.
type SyntaxError struct {
	What   string // what it should be: "store path" or "hash"
	Text   string
	Reason string
	In     Path // the object whose metadata contain the text, if known
}

func (e *SyntaxError) Error() string {
	const most = 300 // of hostile text
	text := e.Text
	if len(text) > most {
		text = text[:most] + "..."
	}
	s := fmt.Sprintf("closure: parse %s %q: %s", e.What, text, e.Reason)
	if e.In != "" {
		s += fmt.Sprintf(" (in the metadata of %s)", e.In)
	}
	return s
}

// MissingError reports an object that a closure needs and lacks.
type MissingError struct {
	Path     Path
	Referrer Path  // an object that refers to it; empty if Path is a root
	Err      error // why the files cannot be found; nil if it is the metadata that are missing
}

func (e *MissingError) Error() string {
	s := "closure: " + string(e.Path)
	if e.Referrer != "" {
		s += ", which " + string(e.Referrer) + " refers to"
	}
	if e.Err != nil {
		return s + ": " + e.Err.Error()
	}
	return s + ": not among the objects of the closure"
}

func (e *MissingError) Unwrap() error { return e.Err }

// CycleError reports objects that refer to each other, which Nix does not allow.
type CycleError struct {
	Paths []Path // each refers to the next, and the last to the first
}

func (e *CycleError) Error() string {
	const most = 8 // of a cycle that may have as many paths as the input
	shown := e.Paths[:min(len(e.Paths), most)]
	var b strings.Builder
	b.WriteString("closure: references form a cycle: ")
	for _, p := range shown {
		b.WriteString(string(p))
		b.WriteString(" -> ")
	}
	if more := len(e.Paths) - len(shown); more > 0 {
		fmt.Fprintf(&b, "... (%d more) -> ", more)
	}
	if len(e.Paths) > 0 {
		b.WriteString(string(e.Paths[0]))
	}
	return b.String()
}

// ConflictError reports an object that is described twice, each time differently.
type ConflictError struct {
	Path Path
	What string // what differs: "NAR hash", "NAR size" or "references"
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("closure: %s: described twice, with different %s", e.Path, e.What)
}

// HashError reports files that are not those the metadata promise.
type HashError struct {
	Path              Path
	Want, Got         Hash
	WantSize, GotSize int64 // NAR sizes in bytes; zero if not known
}

func (e *HashError) Error() string {
	if e.Want == e.Got || e.Want.IsZero() {
		return fmt.Sprintf("closure: %s: NAR has %d bytes, want %d", e.Path, e.GotSize, e.WantSize)
	}
	return fmt.Sprintf("closure: %s: NAR hash is %s, want %s", e.Path, e.Got, e.Want)
}
