package squashfs

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"sort"
	"sync"

	"github.com/nix2img/nix2img/internal/par"
)

// A ChecksumError reports that data of a segment are not what they were when it was encoded.
type ChecksumError struct {
	Tree string // name of the tree, empty if that is not known
}

func (e *ChecksumError) Error() string {
	if e.Tree == "" {
		return "squashfs: data of segment: wrong checksum"
	}
	return fmt.Sprintf("squashfs: data of tree %q: wrong checksum", e.Tree)
}

// An Assembly is an image that consists of segments.
// All about it is known, its bytes included, without being written.
type Assembly struct {
	Image

	trees      []Tree
	head, tail []byte
	dataEnd    int64
	spans      []span
}

// A span is a part of the data of one tree that is in the image, and where.
type span struct {
	pos, size int64
	tree      int
	off       int64 // in the tree's data
	blocks    []block
}

// Assemble makes an image of trees all of which have been encoded.
// It has the bytes that [Write] gives for the same trees and options,
// and the same errors where trees conflict.
//
// Data are read where extents may be equal, to compare them.
func Assemble(ctx context.Context, trees []Tree, opts *Options) (*Assembly, error) {
	l, err := newLayout(opts)
	if err != nil {
		return nil, err
	}
	if err := l.checkTrees(trees); err != nil {
		return nil, err
	}
	a := &Assembly{trees: trees}
	offsets := make([][]int64, len(trees)) // of each tree's extents in its data
	for i := range trees {
		t := &trees[i]
		if t.Segment == nil {
			return nil, fmt.Errorf("squashfs: assemble: tree %q is not encoded", t.Name)
		}
		l.begin(t.Name, t.Segment)
		var off int64
		for _, x := range t.Segment.extents {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			offsets[i] = append(offsets[i], off)
			pos := l.pos
			err := l.place(func(k knownExtent) (bool, error) {
				return equalBytes(trees[k.part].Data, offsets[k.part][k.extent], t.Data, off, x.size)
			})
			if err != nil {
				return nil, err
			}
			if l.pos > pos {
				a.spans = append(a.spans, span{pos: pos, size: x.size, tree: i, off: off, blocks: t.Segment.of(x)})
			}
			off += x.size
		}
	}
	a.dataEnd = l.pos
	head, tail, img, err := l.finish()
	if err != nil {
		return nil, err
	}
	a.head, a.tail, a.Image = head, tail, *img
	return a, nil
}

// ReadAt reads from the image. Data are read as they are, without comparing checksums.
func (a *Assembly) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("squashfs: read image: negative offset")
	}
	n := 0
	for n < len(p) {
		m, err := a.readSome(p[n:], off+int64(n))
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// readSome reads up to the next border between what comes from different places.
func (a *Assembly) readSome(p []byte, off int64) (int, error) {
	switch {
	case off < int64(len(a.head)):
		return copy(p, a.head[off:]), nil
	case off >= a.Size:
		return 0, io.EOF
	case off >= a.dataEnd:
		return copy(p, a.tail[off-a.dataEnd:]), nil
	}
	r := &a.spans[sort.Search(len(a.spans), func(i int) bool { return a.spans[i].pos > off })-1]
	p = p[:min(int64(len(p)), r.pos+r.size-off)]
	if err := readFull(a.trees[r.tree].Data, p, r.off+off-r.pos); err != nil {
		return 0, fmt.Errorf("squashfs: read data of tree %q: %w", a.trees[r.tree].Name, err)
	}
	return len(p), nil
}

// WriteTo writes the image from its first byte to its last.
// Data are compared with their checksums; those that differ are a [*ChecksumError],
// before any of the block has been written.
func (a *Assembly) WriteTo(w io.Writer) (int64, error) {
	var done int64
	put := func(p []byte) error {
		n, err := w.Write(p)
		done += int64(n)
		if err != nil {
			return fmt.Errorf("squashfs: write image: %w", err)
		}
		return nil
	}
	if err := put(a.head); err != nil {
		return done, err
	}
	// Reading and comparing the next chunks goes on while one is written.
	const ahead = 4
	for c, err := range par.Map(context.Background(), ahead/2, ahead, a.chunks, readChunk) {
		if err == nil {
			err = put(c.data)
		}
		if err != nil {
			return done, err
		}
		copyBuffers.Put(c.buf)
	}
	return done, put(a.tail)
}

// chunks gives all data, in the order in which they lie in the image.
func (a *Assembly) chunks(yield func(chunk, error) bool) {
	for i := range a.spans {
		s := &a.spans[i]
		t := &a.trees[s.tree]
		for c := range cut(t.Name, t.Data, s.off, s.blocks) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// A chunk is some blocks that lie side by side in the data of a tree.
type chunk struct {
	tree   string
	from   io.ReaderAt
	off    int64
	blocks []block

	buf  *[chunkSize]byte
	data []byte // in buf, once it has been read
}

// chunkSize is how much is copied at a time: at least a block.
const chunkSize = MaxBlockSize

var copyBuffers = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// cut puts as many blocks into each chunk as fit.
func cut(tree string, from io.ReaderAt, off int64, blocks []block) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for len(blocks) > 0 {
			n, size := 0, int64(0)
			for ; n < len(blocks) && size+blocks[n].len() <= chunkSize; n++ {
				size += blocks[n].len()
			}
			if !yield(chunk{tree: tree, from: from, off: off, blocks: blocks[:n]}) {
				return
			}
			off += size
			blocks = blocks[n:]
		}
	}
}

// readChunk reads a chunk, and compares its blocks with their checksums.
func readChunk(_ context.Context, c chunk) (chunk, error) {
	var size int64
	for _, b := range c.blocks {
		size += b.len()
	}
	c.buf = copyBuffers.Get().(*[chunkSize]byte)
	c.data = c.buf[:size]
	if err := readFull(c.from, c.data, c.off); err != nil {
		return c, fmt.Errorf("squashfs: read data of tree %q: %w", c.tree, err)
	}
	if !goodSums(c.data, c.blocks) {
		return c, &ChecksumError{c.tree}
	}
	return c, nil
}

func goodSums(p []byte, blocks []block) bool {
	for _, b := range blocks {
		if b.size != 0 && crc32.Checksum(p[:b.len()], castagnoli) != b.sum {
			return false
		}
		p = p[b.len():]
	}
	return true
}

// Check reads all data of a segment and compares them with their checksums.
// Data that differ, or end too early, are a [*ChecksumError].
func (s *Segment) Check(data io.Reader) error {
	buf := make([]byte, s.blockSize)
	for _, b := range s.blocks {
		p := buf[:b.len()]
		_, err := io.ReadFull(data, p)
		if err == io.EOF || err == io.ErrUnexpectedEOF || err == nil && !goodSums(p, []block{b}) {
			return &ChecksumError{}
		}
		if err != nil {
			return fmt.Errorf("squashfs: read data of segment: %w", err)
		}
	}
	return nil
}
