package binarycache

import (
	"fmt"

	"github.com/nix2img/nix2img/closure"
)

// NetworkError reports a cache that cannot be reached, or that fails.
type NetworkError struct {
	URL  string
	Path closure.Path // the object it was about; empty: the cache as a whole
	Err  error
}

func (e *NetworkError) Error() string { return message("get", e.URL, e.Path, e.Err) }
func (e *NetworkError) Unwrap() error { return e.Err }

// VerifyError reports that a cache gives something else than has been promised:
// another object, other contents, or one that nobody who is trusted has signed.
type VerifyError struct {
	URL  string
	Path closure.Path
	Err  error
}

func (e *VerifyError) Error() string { return message("verify", e.URL, e.Path, e.Err) }
func (e *VerifyError) Unwrap() error { return e.Err }

// InfoError reports metadata in a cache that make no sense, or a directory that cannot be read as a cache.
type InfoError struct {
	URL  string
	Path closure.Path
	Err  error
}

func (e *InfoError) Error() string { return message("read", e.URL, e.Path, e.Err) }
func (e *InfoError) Unwrap() error { return e.Err }

// AddressError reports what is not the address of a binary cache.
type AddressError struct{ Address, Reason string }

func (e *AddressError) Error() string { return "binarycache: " + e.Address + ": " + e.Reason }

// unreadable is the error of a file that cannot be read.
func (c *Cache) unreadable(name string, p closure.Path, err error) error {
	if c.dir != "" {
		return &InfoError{c.at(name), p, err}
	}
	return &NetworkError{c.at(name), p, err}
}

func message(op, url string, p closure.Path, err error) string {
	s := "binarycache: " + op + " " + url
	if p != "" {
		s += " for " + string(p)
	}
	return s + ": " + clip(fmt.Sprint(err))
}

// clip leaves out the middle of a text that is too long for a message.
func clip(s string) string {
	const most = 600
	if len(s) <= 2*most {
		return s
	}
	return s[:most] + " [...] " + s[len(s)-most:]
}
