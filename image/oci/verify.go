package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Verify expands what the cache has of store objects, compares it with their NAR hashes, and removes it if they differ.
// It returns how many entries it compared, and how many of them it removed, which it tells removed as well.
// What is known of layers is removed with the first object that differs: it can be computed again.
func (c *Cache) Verify(ctx context.Context, removed func(name string, reason error)) (n, bad int, err error) {
	list, err := c.store.List()
	if err != nil {
		return 0, 0, err
	}
	var others []cas.Key // layers and the like
	for _, i := range list {
		isBlob, err := c.verify(ctx, i.Key)
		switch {
		case ctx.Err() != nil:
			return n, bad, ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case err != nil:
			bad++
			removed("entry "+i.Key.String(), err)
			if err := c.store.Remove(i.Key); err != nil {
				return n, bad, err
			}
		case !isBlob:
			others = append(others, i.Key)
			continue
		}
		n++
	}
	if bad > 0 {
		for _, k := range others {
			if err := c.store.Remove(k); err != nil {
				return n, bad, err
			}
		}
	}
	return n, bad, nil
}

// verify verifies an entry, if it is a blob.
func (c *Cache) verify(ctx context.Context, k cas.Key) (isBlob bool, err error) {
	e, err := c.store.Get(k)
	if err != nil {
		return false, err
	}
	defer e.Close()
	b, err := readBlob(e)
	if err != nil {
		return false, err
	}
	if b.Path == "" {
		return false, nil
	}
	var name string
	var level, piece int
	if _, err := fmt.Sscan(b.Encoding, &name, &level, &piece); err != nil {
		return true, fmt.Errorf("encoding %q: %w", b.Encoding, err)
	}
	coding, err := newCoding(name, level)
	if err != nil {
		return true, err
	}
	coding.piece = min(piece, 64<<20)
	o := &closure.Object{Path: b.Path, NARHash: b.NARHash, NARSize: b.NARSize}
	r := &blobReader{s: &store{ctx: ctx, coding: coding}, b: b, at: -1}
	return true, verifyTar(ctxio.Reader(ctx, io.NewSectionReader(r, 0, b.RawSize)), o)
}
