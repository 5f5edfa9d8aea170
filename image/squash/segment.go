package squash

import (
	"context"
	"errors"
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

// verify decodes a segment and compares it with the NAR hash of an object.
// If the object's size is known, what is larger is not read: zeros take no room in a segment.
func (s *segment) verify(ctx context.Context, o closure.Object, opts *squashfs.Options) error {
	fsys, err := s.files(ctx, opts)
	if err != nil {
		return err
	}
	if o.NARSize > 0 {
		if err := checkSize(fsys, o.NARSize); err != nil {
			return err
		}
	}
	got, _, err := narhash.Sum(ctx, fsys, treeName)
	if err != nil {
		return err
	}
	if got != o.NARHash {
		return fmt.Errorf("its NAR hash is %s, want %s", got, o.NARHash)
	}
	return nil
}

// checkSize finds out whether the files of a tree may have a NAR of some size.
func checkSize(fsys fs.FS, narSize int64) error {
	// From above the tree, because WalkDir follows a link that it begins with.
	return fs.WalkDir(fsys, ".", func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if narSize -= info.Size(); narSize < 0 {
			return errors.New("its files are larger than the object")
		}
		return nil
	})
}
