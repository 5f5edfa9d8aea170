package squash

import (
	"crypto/sha256"
	"hash"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/squashfs"
)

// A narHash computes the NAR hash of the tree that it observes.
type narHash struct {
	nar  *nar.Writer
	hash hash.Hash
	size int64
}

var _ squashfs.Observer = (*narHash)(nil)

func newNARHash() *narHash {
	h := &narHash{hash: sha256.New()}
	h.nar = nar.NewWriter((*counter)(h))
	return h
}

func (h *narHash) Node(name string, info fs.FileInfo, target string) error {
	header := &nar.Header{Path: name, Mode: info.Mode(), LinkTarget: target}
	if info.Mode().IsRegular() {
		header.Size = info.Size()
	}
	return h.nar.WriteHeader(header)
}

func (h *narHash) Write(p []byte) (int, error) { return h.nar.Write(p) }
func (h *narHash) Close() error                { return h.nar.Close() }
func (h *narHash) sum() closure.Hash           { return closure.Hash(h.hash.Sum(nil)) }

// counter is a narHash as what its nar.Writer writes to.
type counter narHash

var _ io.Writer = (*counter)(nil)

func (c *counter) Write(p []byte) (int, error) {
	c.size += int64(len(p))
	return c.hash.Write(p)
}

// A verifier compares the NAR hash of a tree with the one that its closure declares.
type verifier struct {
	*narHash
	want closure.Object
}

func (v *verifier) Close() error {
	if err := v.narHash.Close(); err != nil {
		return err
	}
	got := v.sum()
	if got != v.want.NARHash || v.size != v.want.NARSize {
		return &closure.HashError{
			Path: v.want.Path,
			Want: v.want.NARHash, WantSize: v.want.NARSize,
			Got: got, GotSize: v.size,
		}
	}
	return nil
}

// observers are shown a tree one after the other, and the first error counts.
type observers []squashfs.Observer

func (list observers) Node(name string, info fs.FileInfo, target string) error {
	for _, o := range list {
		if err := o.Node(name, info, target); err != nil {
			return err
		}
	}
	return nil
}

func (list observers) Write(p []byte) (int, error) {
	for _, o := range list {
		if n, err := o.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func (list observers) Close() error {
	for _, o := range list {
		if err := o.Close(); err != nil {
			return err
		}
	}
	return nil
}
