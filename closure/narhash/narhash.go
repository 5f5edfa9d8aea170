// Package narhash computes and checks the NAR hashes of store objects from their files.
package narhash

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/internal/par"
)

// Sum returns the NAR hash and the NAR size in bytes of the file tree that has the given root in files.
func Sum(ctx context.Context, files fs.FS, root string) (closure.Hash, int64, error) {
	if files == nil {
		return closure.Hash{}, 0, closure.ErrNoFiles
	}
	hash := sha256.New()
	w := &counter{ctx: ctx, w: hash}
	if err := nar.Dump(w, files, root); err != nil {
		return closure.Hash{}, 0, err
	}
	return closure.Hash(hash.Sum(nil)), w.n, nil
}

// Fill returns the objects with the NAR hashes and sizes that they lack.
// Those that they have are not checked.
// files holds the objects as [closure.Closure.Files] does.
// Workers is how many objects are read at a time; if it is not positive, GOMAXPROCS.
func Fill(ctx context.Context, files fs.FS, objects []closure.Object, workers int) ([]closure.Object, error) {
	var filled []closure.Object
	for o, err := range par.Map(ctx, par.Workers(workers), 2*par.Workers(workers), all(objects),
		func(ctx context.Context, o closure.Object) (closure.Object, error) {
			if !o.NARHash.IsZero() && o.NARSize > 0 {
				return o, nil
			}
			return sum(ctx, files, o)
		}) {
		if err != nil {
			return nil, err
		}
		filled = append(filled, o)
	}
	return filled, nil
}

// Verify reads all files of a closure and compares them with its NAR hashes and sizes.
// What is not known is not compared.
// An object that differs leads to a [*closure.HashError].
// Workers is how many objects are read at a time; if it is not positive, GOMAXPROCS.
func Verify(ctx context.Context, c *closure.Closure, workers int) error {
	if c == nil || c.Files == nil {
		return closure.ErrNoFiles
	}
	for _, err := range par.Map(ctx, par.Workers(workers), 2*par.Workers(workers), all(c.Objects()),
		func(ctx context.Context, o closure.Object) (closure.Object, error) { return sum(ctx, c.Files, o) }) {
		if err != nil {
			return err
		}
	}
	return nil
}

// sum returns o with its hash and size, which must be those that o had if it had any.
func sum(ctx context.Context, files fs.FS, o closure.Object) (closure.Object, error) {
	hash, size, err := Sum(ctx, files, o.Path.Base())
	if err != nil {
		return o, fmt.Errorf("narhash: %s: %w", o.Path, err)
	}
	if !o.NARHash.IsZero() && o.NARHash != hash || o.NARSize != 0 && o.NARSize != size {
		return o, &closure.HashError{Path: o.Path, Want: o.NARHash, Got: hash, WantSize: o.NARSize, GotSize: size}
	}
	o.NARHash, o.NARSize = hash, size
	return o, nil
}

func all(objects []closure.Object) iter.Seq2[closure.Object, error] {
	return func(yield func(closure.Object, error) bool) {
		for _, o := range objects {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// counter counts what it writes, and stops when its context is done.
type counter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (c *counter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
