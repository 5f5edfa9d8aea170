package squash

import (
	"context"
	"fmt"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/squashfs"
)

// A segment is the segment of a store object, and its data.
type segment struct {
	*squashfs.Segment
	object closure.Object
	data   io.ReaderAt
}

// treeName is where the tree of a lone segment lies in an image of nothing else.
const treeName = "tree"

// files presents a segment as the file system that it was made of.
func (s *segment) files(ctx context.Context, opts *squashfs.Options) (fs.FS, error) {
	a, err := squashfs.Assemble(ctx, []squashfs.Tree{squashfs.SegmentTree(treeName, s.Segment, s.data)}, opts)
	if err != nil {
		return nil, err
	}
	return squashfs.Open(a)
}

// verify decodes a segment and computes the NAR hash.
func (s *segment) verify(ctx context.Context, want closure.Hash, opts *squashfs.Options) error {
	fsys, err := s.files(ctx, opts)
	if err != nil {
		return err
	}
	got, _, err := narhash.Sum(ctx, fsys, treeName)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("its NAR hash is %s, want %s", got, want)
	}
	return nil
}
