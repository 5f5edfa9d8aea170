package narhash

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
)

// A Hasher is a [closure.Observer] that computes the NAR hash of what it is shown.
// The zero Hasher has been shown nothing yet.
type Hasher struct {
	nar  *nar.Writer // nil: nothing has been asked of it
	hash hash.Hash
	size int64
}

// New returns a Hasher that has been shown nothing yet.
func New() *Hasher { return new(Hasher) }

func (h *Hasher) writer() *nar.Writer {
	if h.nar == nil {
		h.hash = sha256.New()
		h.nar = nar.NewWriter((*stream)(h))
	}
	return h.nar
}

// Node is that of a [closure.Observer].
func (h *Hasher) Node(name string, info fs.FileInfo, target string) error {
	if info == nil {
		return errors.New("narhash: nothing is known of " + name)
	}
	header := &nar.Header{Path: name, Mode: info.Mode(), LinkTarget: target}
	if info.Mode().IsRegular() {
		header.Size = info.Size()
	}
	return h.writer().WriteHeader(header)
}

// Write is that of a [closure.Observer].
func (h *Hasher) Write(p []byte) (int, error) { return h.writer().Write(p) }

// Close is that of a [closure.Observer].
func (h *Hasher) Close() error { return h.writer().Close() }

// Sum returns the NAR hash. It is to be called after Close.
func (h *Hasher) Sum() closure.Hash {
	h.writer()
	return closure.Hash(h.hash.Sum(nil))
}

// stream is a Hasher as what its nar.Writer writes to.
type stream Hasher

func (s *stream) Write(p []byte) (int, error) {
	s.size += int64(len(p))
	return s.hash.Write(p)
}

// A Verifier is a [closure.Observer] that compares what it is shown with the NAR hash and size of an object.
type Verifier struct {
	Hasher
	want closure.Object
}

// NewVerifier returns a Verifier for an object.
func NewVerifier(o closure.Object) *Verifier { return &Verifier{want: o} }

// Close returns a [*closure.HashError] if what was shown is not the object.
func (v *Verifier) Close() error {
	if err := v.Hasher.Close(); err != nil {
		return err
	}
	got := v.Sum()
	if got != v.want.NARHash || v.size != v.want.NARSize {
		return &closure.HashError{
			Path: v.want.Path,
			Want: v.want.NARHash, WantSize: v.want.NARSize,
			Got: got, GotSize: v.size,
		}
	}
	return nil
}
