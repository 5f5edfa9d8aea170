package squashfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nix2img/nix2img/internal/reflink"
)

// Write encodes trees, in their order, and writes an image of them to f, from offset 0 on.
// The same trees and options give the same bytes.
//
// Directories in which trees are placed need not be in any tree:
// they are made, with mode 0755, owner 0 and opts.ModTime.
// Two trees may both have a directory, if they agree about it;
// another file that two trees have at the same place is a [*ConflictError].
//
// A nil opts or rt means the zero value.
// What f holds after an error is of no use.
// Files that cannot be read are a [*SourceError],
// data of segments that are not what they were a [*ChecksumError].
func Write(ctx context.Context, f File, trees []Tree, opts *Options, rt *Runtime) (*Image, error) {
	w, err := NewWriter(f, opts)
	if err != nil {
		return nil, err
	}
	if err := w.Add(ctx, trees, rt); err != nil {
		return nil, err
	}
	return w.Finish()
}

// A Writer does what [Write] does, in several steps.
// So what is in the trees can be looked at before the last of them is made.
type Writer struct{ w writer }

// NewWriter begins an image. A nil opts means the zero value.
func NewWriter(f File, opts *Options) (*Writer, error) {
	if f == nil {
		return nil, errNoFile
	}
	l, err := newLayout(opts)
	if err != nil {
		return nil, err
	}
	return &Writer{writer{layout: l, f: f}}, nil
}

var (
	errNoFile   = errors.New("squashfs: write image: there is no file")
	errNotBegun = errors.New("squashfs: write image: not by a Writer of NewWriter")
)

// Add encodes and writes further trees. After an error, the Writer is of no use.
func (w *Writer) Add(ctx context.Context, trees []Tree, rt *Runtime) error {
	l := w.w.layout
	if l == nil {
		return errNotBegun
	}
	if err := l.checkTrees(trees); err != nil {
		return err
	}
	return newEncoder(l, rt).encode(ctx, trees, &w.w)
}

// Open opens the image of the trees that have been added so far.
func (w *Writer) Open() (*FS, error) {
	l := w.w.layout
	if l == nil {
		return nil, errNotBegun
	}
	head, tail, img, err := l.finish()
	if err != nil {
		return nil, err
	}
	start := int64(len(head))
	return Open(&Assembly{
		Image: *img, head: head, tail: tail, dataEnd: l.pos,
		trees: []Tree{{data: w.w.f}},
		spans: []span{{pos: start, off: start, size: l.pos - start}},
	})
}

// Finish completes the image.
func (w *Writer) Finish() (*Image, error) {
	l := w.w.layout
	if l == nil {
		return nil, errNotBegun
	}
	head, tail, img, err := l.finish()
	if err != nil {
		return nil, err
	}
	if err := w.w.writeAt(tail, l.pos); err != nil {
		return nil, err
	}
	if err := w.w.f.Truncate(img.Size); err != nil {
		return nil, fmt.Errorf("squashfs: write image: %w", err)
	}
	if err := w.w.writeAt(head, 0); err != nil {
		return nil, err
	}
	return img, nil
}

// A writer is the sink that puts segments into an image one after the other.
type writer struct {
	*layout
	f    File
	size int64 // of the extent that is being written, so far
}

func (w *writer) writeAt(p []byte, off int64) error {
	if _, err := w.f.WriteAt(p, off); err != nil {
		return fmt.Errorf("squashfs: write image: %w", err)
	}
	return nil
}

func (w *writer) begin(enc *encoding) error {
	w.layout.begin(enc.tree.Name, enc.segment)
	return nil
}

func (w *writer) write(p []byte) error {
	pos := w.next()
	if gap := pos - w.pos; w.size == 0 && gap > 0 {
		if err := w.writeAt(padding[:gap], w.pos); err != nil {
			return err
		}
	}
	err := w.writeAt(p, pos+w.size)
	w.size += int64(len(p))
	return err
}

// padding is what lies between extents.
var padding [reflink.Align]byte

// extent finds out whether the bytes that have just been written lie in the image already,
// where an earlier file has put them. Then what follows is written over them.
func (w *writer) extent() error {
	pos := w.next()
	w.size = 0
	return w.place(func(k knownExtent) (bool, error) {
		other := &w.parts[k.part]
		return equalBytes(w.f, other.extents[k.extent], w.f, pos, other.Segment.extents[k.extent].size)
	})
}

// readFull reads all of p, or gives an error.
func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// equalBytes compares n bytes of r at a with those of s at b.
func equalBytes(r io.ReaderAt, a int64, s io.ReaderAt, b, n int64) (bool, error) {
	const chunk = 256 << 10
	buf := make([]byte, 2*min(n, chunk))
	for n > 0 {
		m := min(n, chunk)
		p, q := buf[:m], buf[m:2*m]
		if err := readFull(r, p, a); err != nil {
			return false, err
		}
		if err := readFull(s, q, b); err != nil {
			return false, err
		}
		if !bytes.Equal(p, q) {
			return false, nil
		}
		a, b, n = a+m, b+m, n-m
	}
	return true, nil
}
