package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"

	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/internal/par"
)

// adopt takes the blobs of objects out of other caches, as far as the own one does not have them.
func (s *blobs) adopt(ctx context.Context, units iter.Seq[*unit]) error {
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
	adopt := func(ctx context.Context, u *unit) (struct{}, error) { return struct{}{}, s.adoptUnit(ctx, u) }
	for _, err := range par.Map(ctx, workers, 2*workers, seq, adopt) {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *blobs) adoptUnit(ctx context.Context, u *unit) error {
	if absent, err := s.isAbsent(ctx, u); !absent {
		return err
	}
	b, err := cache.Get(ctx, s.shelf, s.want(u))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && !s.shelf.Keeps() {
		s.hold(u, b)
	}
	return err
}

// prove proves that a blob is what would be made of a unit: the files that its metadata tell of
// give the very tar entries that it has, and those have the NAR hash.
func (s *blobs) prove(ctx context.Context, u *unit, b *blob) error {
	files := &overlay{ctx: ctx, s: s, trees: map[string]*tree{u.root: newTree(s, nil, b)}}
	entries := &comparer{r: io.NewSectionReader(&blobReader{s: s, b: b, at: -1}, 0, b.RawSize)}
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer par.Recover()
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
