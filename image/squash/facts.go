package squash

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Inspect returns what inspectors find in the objects of a closure.
// What rt.Cache knows is not looked for again, nor what an earlier call has found.
// Files are not compared with their NAR hashes, so what is found in them is kept apart:
// a build does not rely on it. A nil rt means the zero value.
func Inspect(ctx context.Context, c *closure.Closure, rt *image.Runtime, list ...inspect.Inspector) (map[closure.Path]inspect.Facts, error) {
	if rt == nil {
		rt = new(image.Runtime)
	}
	if c == nil || c.Files == nil {
		return nil, fmt.Errorf("squash: inspect: %w", closure.ErrNoFiles)
	}
	shelf := rt.Shelf()
	defer shelf.Close()
	v := shelf.SurveyUnproved(append(list, rt.Inspectors...))
	v.TempDir, v.Workers = rt.TempDir, rt.Workers
	return v.Complete(ctx, c.Objects(), c.Files)
}

// facts returns what inspectors find in objects, whose files are in fsys as by [segments.files].
// What has a segment was compared with its NAR hash, so what is found there is kept.
func (st *segments) facts(ctx context.Context, objects []closure.Object, fsys fs.FS) (map[closure.Path]inspect.Facts, error) {
	for _, o := range objects {
		s := st.found[o.Path]
		if s == nil || st.survey.Knows(o) {
			continue
		}
		if err := s.check(ctx); err != nil {
			return nil, st.giveUp(ctx, s, err)
		}
		if err := st.survey.Prove(o); err != nil {
			return nil, err
		}
	}
	return st.survey.Complete(ctx, objects, fsys)
}

// check compares the data of a segment with its checksums.
func (s *segment) check(ctx context.Context) error {
	return s.Check(ctxio.Reader(ctx, io.NewSectionReader(s.data, 0, s.Size())))
}
