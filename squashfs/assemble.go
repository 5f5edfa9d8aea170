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
	"github.com/nix2img/nix2img/internal/reflink"
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
// Between spans there are zeros.
type span struct {
	pos, size int64
	tree      int
	off       int64 // in the tree's data
	first     int32 // blocks
	end       int32
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
		if t.segment == nil {
			return nil, fmt.Errorf("squashfs: assemble: tree %q is not encoded", t.Name)
		}
		l.begin(t.Name, t.segment)
		var off int64
		for _, x := range t.segment.extents {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			offsets[i] = append(offsets[i], off)
			pos := l.next()
			err := l.place(func(k knownExtent) (bool, error) {
				return equalBytes(trees[k.part].data, offsets[k.part][k.extent], t.data, off, x.size)
			})
			if err != nil {
				return nil, err
			}
			if l.pos > pos {
				a.addSpan(span{pos, x.size, i, off, x.first, x.first + x.count})
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

// addSpan adds a span, to the last one if it goes on there.
func (a *Assembly) addSpan(s span) {
	if k := len(a.spans) - 1; k >= 0 {
		last := &a.spans[k]
		// Between the blocks of neighbours may be some of zeros, which take no room.
		if last.tree == s.tree && last.pos+last.size == s.pos && last.off+last.size == s.off {
			last.size += s.size
			last.end = s.end
			return
		}
	}
	a.spans = append(a.spans, s)
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
	next := sort.Search(len(a.spans), func(i int) bool { return a.spans[i].pos > off })
	if next == 0 || off >= a.spans[next-1].pos+a.spans[next-1].size {
		p = p[:min(int64(len(p)), a.spans[next].pos-off)]
		clear(p)
		return len(p), nil
	}
	r := &a.spans[next-1]
	p = p[:min(int64(len(p)), r.pos+r.size-off)]
	if err := readFull(a.trees[r.tree].data, p, r.off+off-r.pos); err != nil {
		return 0, fmt.Errorf("squashfs: read data of tree %q: %w", a.trees[r.tree].Name, err)
	}
	return len(p), nil
}

// WriteTo writes the image from its first byte to its last.
// Data are compared with their checksums; those that differ are a [*ChecksumError],
// before any of the block has been written.
func (a *Assembly) WriteTo(w io.Writer) (int64, error) {
	var done int64
	err := a.write(context.Background(), nil, func(p []byte, _ int64) error {
		n, err := w.Write(p)
		done += int64(n)
		return err
	})
	return done, err
}

// WriteFile writes the image to f, from offset 0 on, with the errors of WriteTo.
// On file systems that can do that, f shares blocks with the files that the data are read from,
// if both are an [os.File] or a part of one.
// The data are read all the same, and compared with their checksums.
func (a *Assembly) WriteFile(ctx context.Context, f File) error {
	if f == nil {
		return errNoFile
	}
	err := a.write(ctx, a.clone(f), func(p []byte, off int64) error {
		_, err := f.WriteAt(p, off)
		return err
	})
	if err != nil {
		return err
	}
	if err := f.Truncate(a.Size); err != nil {
		return fmt.Errorf("squashfs: write image: %w", err)
	}
	return nil
}

// write calls put with the bytes of the image, in order, and where they belong.
// It leaves out those in the regions that are there already.
func (a *Assembly) write(ctx context.Context, there regions, put func(p []byte, off int64) error) error {
	var end int64
	next := func(p []byte) error {
		for len(p) > 0 {
			n, skip := there.cut(end, end+int64(len(p)))
			if !skip {
				if err := put(p[:n], end); err != nil {
					return fmt.Errorf("squashfs: write image: %w", err)
				}
			}
			p, end = p[n:], end+n
		}
		return nil
	}
	if err := next(a.head); err != nil {
		return err
	}
	// Reading and comparing the next chunks goes on while one is written.
	const ahead = 4
	for c, err := range par.Map(ctx, ahead/2, ahead, a.chunks, readChunk) {
		if err == nil {
			err = next(padding[:c.pos-end])
		}
		if err == nil {
			err = next(c.data)
		}
		if err != nil {
			return err
		}
		copyBuffers.Put(c.buf)
	}
	return next(a.tail)
}

// A region is a range of bytes in an image.
type region struct{ begin, end int64 }

// regions do not overlap, and are sorted.
type regions []region

// cut returns how many of the bytes from off to end are alike: in one of the regions, or in none.
func (r regions) cut(off, end int64) (n int64, in bool) {
	i := sort.Search(len(r), func(i int) bool { return r[i].end > off })
	switch {
	case i == len(r) || r[i].begin >= end:
		return end - off, false
	case r[i].begin > off:
		return r[i].begin - off, false
	}
	return min(r[i].end, end) - off, true
}

// clone shares with f what can be shared, and returns where that is.
func (a *Assembly) clone(f File) (shared regions) {
	for i := range a.spans {
		s := &a.spans[i]
		begin := (s.pos + reflink.Align - 1) &^ (reflink.Align - 1)
		n := (s.pos + s.size - begin) &^ (reflink.Align - 1)
		if n <= 0 {
			continue
		}
		if reflink.Clone(f, begin, a.trees[s.tree].data, s.off+begin-s.pos, n) == nil {
			shared = append(shared, region{begin, begin + n})
		} else if shared == nil {
			break // nor will it work for the rest
		}
	}
	return shared
}

// chunks gives all data, in the order in which they lie in the image.
func (a *Assembly) chunks(yield func(chunk, error) bool) {
	for i := range a.spans {
		s := &a.spans[i]
		t := &a.trees[s.tree]
		for c := range cut(t.Name, t.data, s.off, t.segment.blocks[s.first:s.end]) {
			c.pos = s.pos + c.off - s.off
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
	pos    int64 // in the image, where that is known
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
