package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/internal/par"
)

// OpenForeignCache opens the part of a cache in dir that is for layers, for [Runtime.From]. Nothing in it is changed.
// Unless it is trusted, what it has of an object is expanded and compared with the NAR hash before it is used.
func OpenForeignCache(dir string, trusted bool) (*Cache, error) {
	store, err := cas.Open(filepath.Join(dir, cacheDir), cas.ReadOnly|cas.Trusted)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(dir); err == nil { // a cache that no layers were made with
			return &Cache{store: cas.Temporary(""), foreign: !trusted}, nil
		}
	}
	return &Cache{store: store, foreign: !trusted}, err
}

// recall looks for what is known of layers, wherever it can be relied on.
func (s *store) recall(k cas.Key, v any) error {
	err := getJSON(s.cas, k, v)
	for _, from := range s.rt.From {
		if !from.foreign && errors.Is(err, fs.ErrNotExist) {
			err = getJSON(from.store, k, v)
		}
	}
	return err
}

// adopt takes the blobs of objects out of other caches, as far as the own one does not have them.
func (s *store) adopt(units iter.Seq[*unit]) error {
	if len(s.rt.From) == 0 {
		return nil
	}
	workers := par.Workers(s.rt.Workers)
	seq := func(yield func(*unit, error) bool) {
		for u := range units {
			if !yield(u, nil) {
				return
			}
		}
	}
	for notes, err := range par.Map(s.ctx, workers, 2*workers, seq, s.adoptUnit) {
		if err != nil {
			return err
		}
		for _, n := range notes {
			s.rt.note("%s", n)
		}
	}
	return nil
}

// adoptUnit returns what is to be noted of blobs that are of no use.
func (s *store) adoptUnit(ctx context.Context, u *unit) (notes []string, err error) {
	b, err := s.lookup(u)
	if err == nil {
		return nil, b.close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if s.isDamaged(u) { // it was taken, and is not what it was any more
		return nil, nil
	}
	for _, from := range s.rt.From {
		e, err := from.store.Get(s.blobKey(u.object))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = s.take(ctx, u, e, from.foreign)
		}
		if err == nil || ctx.Err() != nil {
			return notes, err
		}
		if _, full := errors.AsType[*ownError](err); full {
			return nil, err
		}
		notes = append(notes, fmt.Sprintf("layer of %s in the cache %s: %v; it is not used", u.object.Path, from.store.Dir(), err))
	}
	return notes, nil
}

// An ownError is one of where blobs are kept, and not of where they come from.
type ownError struct{ error }

func (e *ownError) Unwrap() error { return e.error }

// take copies a unit's blob from another cache to where nobody else can change it, and proves it there if it is foreign.
// Without a cache, what can be relied on is not copied.
func (s *store) take(ctx context.Context, u *unit, e *cas.Entry, foreign bool) error {
	b, err := readBlob(e)
	if err == nil && (b.Path != u.object.Path || b.NARHash != u.object.NARHash || b.Encoding != s.String()) {
		err = cas.ErrDamaged
	}
	k := &keeper{s: s, u: u}
	if err == nil && !foreign && s.rt.Cache == nil {
		k.hold(b)
		return nil
	}
	defer e.Close()
	if err != nil {
		return err
	}
	if k.w, err = s.cas.Create(s.blobKey(u.object)); err != nil {
		return &ownError{err}
	}
	defer k.discard()
	k.meta = b.blobMeta
	buf, off := s.buffer(), int64(0)
	defer s.reuse(buf)
	for _, m := range b.Members {
		if m.Size > cap(buf) {
			return errLength
		}
		packed, err := b.member(buf, m, off)
		if err != nil {
			return err
		}
		if _, err := k.w.Write(packed); err != nil {
			return &ownError{err}
		}
		off += int64(m.Size)
	}
	if foreign {
		if err := s.prove(ctx, u, &blob{k.meta, k.w, nil}); err != nil {
			return err
		}
	}
	if err := k.commit(); err != nil {
		return &ownError{err}
	}
	return nil
}

// prove proves that a blob is what would be made of a unit: the files that its metadata tell of
// give the very tar entries that it has, and those have the NAR hash.
func (s *store) prove(ctx context.Context, u *unit, b *blob) error {
	if n := int64(s.piece); int64(len(b.Members)) != (b.RawSize+n-1)/n {
		return errLength
	}
	files := &overlay{s: s, trees: map[string]*tree{u.root: newTree(s, nil, b)}}
	entries := &comparer{r: io.NewSectionReader(&blobReader{s: s, b: b, at: -1}, 0, b.RawSize)}
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		src := &source{files: files, root: u.root, name: u.name}
		err := writeTar(ctx, io.MultiWriter(entries, w), src, func(string, fs.FileInfo, string) {})
		if err == nil {
			err = entries.end()
		}
		w.CloseWithError(err)
	}()
	err := verifyTar(r, u.object)
	r.CloseWithError(err)
	<-written
	return err
}

// A comparer takes only what r has.
type comparer struct {
	r   io.Reader
	buf []byte
}

var errDiffers = errors.New("its tar entries are not those of its files")

func (c *comparer) Write(p []byte) (int, error) {
	if len(p) > len(c.buf) {
		c.buf = make([]byte, len(p))
	}
	got := c.buf[:len(p)]
	if _, err := io.ReadFull(c.r, got); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return 0, err
	} else if err != nil || !bytes.Equal(got, p) {
		return 0, errDiffers
	}
	return len(p), nil
}

// end reports whether there was more.
func (c *comparer) end() error {
	if n, err := io.Copy(io.Discard, c.r); n > 0 || err != nil {
		return errors.Join(errDiffers, err)
	}
	return nil
}
