package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/nix2img/nix2img/internal/codec"
)

// SegmentVersion is the version of the encoding of trees as segments, and of their binary form.
// It grows when the same tree and options no longer give the same segment.
const SegmentVersion = 1

// MarshalBinary returns the segment's binary form. The error is always nil.
func (s *Segment) MarshalBinary() ([]byte, error) { return s.AppendBinary(nil) }

// AppendBinary appends the segment's binary form to b. The error is always nil.
//
// All numbers are unsigned varints. The form begins with the version, the format of compression
// and the size of a block. Lists follow, each after the number of its items:
//
//	nodes    kind mode uid gid time size name   size: how many nodes it is the root of
//	         of files also: size extent+1 fragment+1 offset
//	         of links: target; of devices: number
//	extents  number of blocks
//	blocks   size sum                           as [block] has them
//	frags    extent
//
// Names and targets follow their lengths.
func (s *Segment) AppendBinary(b []byte) ([]byte, error) {
	buf := bytes.NewBuffer(slices.Grow(b, 20*int(s.nodes.len())+len(s.text)+9*len(s.blocks)+64))
	s.marshal(buf)
	return buf.Bytes(), nil
}

// marshal writes the binary form to w, which must not fail.
func (s *Segment) marshal(w io.Writer) {
	var b []byte
	num := func(v uint64) { b = binary.AppendUvarint(b, v) }
	str := func(s string) { num(uint64(len(s))); b = append(b, s...) }
	flush := func() {
		if len(b) >= 4096 {
			w.Write(b)
			b = b[:0]
		}
	}

	num(SegmentVersion)
	num(uint64(s.codec))
	num(uint64(s.blockSize))
	num(uint64(s.nodes.len()))
	for i := range s.nodes.len() {
		flush()
		n := s.nodes.at(i)
		num(uint64(n.kind))
		num(uint64(n.mode))
		num(uint64(n.uid))
		num(uint64(n.gid))
		num(uint64(n.mtime))
		num(uint64(n.end) - uint64(i))
		str(s.name(n))
		switch n.kind {
		case typeFile:
			num(uint64(n.size))
			num(uint64(n.extent + 1))
			num(uint64(n.frag + 1))
			num(uint64(n.offset))
		case typeSymlink:
			str(s.target(n))
		case typeBlockDev, typeCharDev:
			num(uint64(n.size))
		}
	}
	num(uint64(len(s.extents)))
	for _, x := range s.extents {
		flush()
		num(uint64(x.count))
	}
	num(uint64(len(s.blocks)))
	for _, k := range s.blocks {
		flush()
		num(uint64(k.size))
		num(uint64(k.sum))
	}
	num(uint64(len(s.frags)))
	for _, f := range s.frags {
		flush()
		num(uint64(f))
	}
	w.Write(b)
}

// UnmarshalBinary reads the form that MarshalBinary gives.
// A segment that it accepts can be part of an image, whatever its data are.
// Another [SegmentVersion] is an error.
func (s *Segment) UnmarshalBinary(b []byte) error {
	d := segmentDecoder{b: b}
	seg := d.segment()
	if d.err == nil && len(d.b) > 0 {
		d.err = errors.New("more bytes than it says")
	}
	if d.err == nil {
		d.err = seg.check()
	}
	if d.err != nil {
		return fmt.Errorf("squashfs: read segment: %w", d.err)
	}
	*s = seg
	return nil
}

// A segmentDecoder reads numbers until there is an error.
type segmentDecoder struct {
	b   []byte
	err error
}

func (d *segmentDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

// num reads a number that is at most limit.
func (d *segmentDecoder) num(limit uint64) uint64 {
	v, n := binary.Uvarint(d.b)
	switch {
	case d.err != nil:
		return 0
	case n <= 0:
		d.fail("it ends too early")
		return 0
	case v > limit:
		d.fail("%d is more than %d", v, limit)
		return 0
	}
	d.b = d.b[n:]
	return v
}

// count reads the number of items of a list, each of which takes at least size bytes.
func (d *segmentDecoder) count(size int) int {
	return int(d.num(min(uint64(len(d.b)/size), math.MaxInt32-1)))
}

func (d *segmentDecoder) str(limit int) string {
	n := int(d.num(uint64(limit)))
	if n > len(d.b) {
		d.fail("it ends too early")
	}
	if d.err != nil {
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *segmentDecoder) segment() (s Segment) {
	if v := d.num(math.MaxUint64); d.err == nil && v != SegmentVersion {
		d.fail("version %d, want %d", v, SegmentVersion)
	}
	s.codec = codec.ID(d.num(uint64(codec.ZSTD)))
	s.blockSize = int(d.num(MaxBlockSize))
	count := d.count(7)
	parent := int32(none)
	for i := range count {
		// Directories of which all entries have been read are left.
		for parent != none && s.nodes.at(parent).end == int32(i) {
			parent = s.nodes.at(parent).parent
		}
		var n node
		var target string
		n.kind = uint8(d.num(typeSocket))
		n.mode = uint16(d.num(0o7777))
		n.uid = uint32(d.num(math.MaxUint32))
		n.gid = uint32(d.num(math.MaxUint32))
		n.mtime = uint32(d.num(math.MaxUint32))
		n.end = int32(i) + int32(d.num(uint64(count-i)))
		name := d.str(maxName)
		n.parent = parent
		n.extent, n.frag = none, none
		switch n.kind {
		case typeDir:
			parent = int32(i)
		case typeFile:
			n.size = int64(d.num(math.MaxInt64))
			n.extent = int32(d.num(math.MaxInt32)) - 1
			n.frag = int32(d.num(math.MaxInt32)) - 1
			n.offset = uint32(d.num(MaxBlockSize))
		case typeSymlink:
			target = d.str(maxTarget)
		case typeBlockDev, typeCharDev:
			n.size = int64(d.num(math.MaxUint32))
		}
		if d.err == nil {
			d.err = s.addNode(n, name, target)
		}
		if d.err != nil {
			return s
		}
	}
	counts := make([]int32, d.count(1))
	for i := range counts {
		counts[i] = int32(d.num(math.MaxInt32))
	}
	blocks := make([]block, d.count(2))
	for i := range blocks {
		blocks[i] = block{uint32(d.num(blockStored | MaxBlockSize)), uint32(d.num(math.MaxUint32))}
	}
	s.frags = make([]int32, d.count(1))
	for i := range s.frags {
		s.frags[i] = int32(d.num(math.MaxInt32))
	}
	if d.err != nil {
		return s
	}
	for _, n := range counts {
		s.begin(false)
		if int(n) > len(blocks) {
			d.fail("it has fewer blocks than its extents")
			return s
		}
		for _, b := range blocks[:n] {
			s.add(b)
		}
		blocks = blocks[n:]
	}
	if len(blocks) > 0 {
		d.fail("it has more blocks than its extents")
	}
	return s
}

// check makes sure that the parts of a segment fit each other.
func (s *Segment) check() error {
	if err := checkBlockSize(s.blockSize); err != nil {
		return err
	}
	if n := s.nodes.len(); n == 0 || s.nodes.at(0).end != n || s.nodes.at(0).name > 0 {
		return errors.New("it is not one tree")
	}
	fragment := make([]bool, len(s.extents))
	last := int32(none)
	for _, f := range s.frags {
		if f <= last || int(f) >= len(s.extents) || s.extents[f].count != 1 || s.extents[f].size == 0 {
			return fmt.Errorf("extent %d is no fragment block", f)
		}
		last, fragment[f] = f, true
	}
	for _, b := range s.blocks {
		if n := b.len(); n > int64(s.blockSize) || b.size == blockStored {
			return fmt.Errorf("a block has %d bytes", n)
		}
	}
	entry := make([]int32, s.nodes.len()) // of directories, the one read last
	for i := range s.nodes.len() {
		n := s.nodes.at(i)
		if err := s.checkNode(n, fragment); err != nil {
			return fmt.Errorf("node %d: %w", i, err)
		}
		if n.end <= i || n.kind != typeDir && n.end != i+1 {
			return fmt.Errorf("node %d: it ends at %d", i, n.end)
		}
		if i == 0 {
			continue
		}
		if n.parent == none || n.end > s.nodes.at(n.parent).end {
			return fmt.Errorf("node %d: it does not lie in a directory", i)
		}
		name, before := s.name(n), ""
		if e := entry[n.parent]; e > 0 {
			before = s.name(s.nodes.at(e))
		}
		if !validName(name) || name <= before {
			return fmt.Errorf("node %d: name %q after %q", i, name, before)
		}
		entry[n.parent] = i
	}
	return nil
}

func (s *Segment) checkNode(n *node, fragment []bool) error {
	switch n.kind {
	case typeFile:
		full, tail := n.size/int64(s.blockSize), n.size%int64(s.blockSize)
		switch {
		case (full > 0) != (n.extent != none), (tail > 0) != (n.frag != none):
			return fmt.Errorf("%d bytes, extent %d, fragment %d", n.size, n.extent, n.frag)
		case n.extent != none && (int(n.extent) >= len(s.extents) || fragment[n.extent] || int64(s.extents[n.extent].count) != full):
			return fmt.Errorf("extent %d does not have %d blocks", n.extent, full)
		case n.frag != none && (int(n.frag) >= len(s.frags) || int64(n.offset)+tail > int64(s.blockSize)):
			return fmt.Errorf("fragment %d does not have %d bytes at %d", n.frag, tail, n.offset)
		}
	case typeSymlink:
		if n.target == 0 {
			return errTarget
		}
	case typeDir, typeBlockDev, typeCharDev, typeFIFO, typeSocket:
	default:
		return fmt.Errorf("kind %d", n.kind)
	}
	return nil
}
