package squashfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/reflink"
)

// Image describes an image.
type Image struct {
	Size   int64 // bytes, a multiple of 4096
	Inodes int
	Parts  []Part // one for each tree, in the order in which they lie in the image
}

// A Part is a tree as it lies in an image.
type Part struct {
	Name   string // of the tree
	Offset int64  // where its data begin in the image, in bytes
	// Size is what the data take, in bytes.
	// It does not count what is in an earlier part, and shared.
	Size    int64
	Segment *Segment
	// Digest is the segment's.
	Digest [sha256.Size]byte

	extents []int64 // where the segment's extents lie in the image
	placed  int64   // size of those extents
}

// A layout decides where in an image everything lies.
type layout struct {
	opts  Options // complete
	codec *codec.Codec
	pos   int64 // behind the data so far
	parts []Part
	known map[extentKey][]knownExtent
}

// extentKey tells which extents may be equal.
type extentKey struct {
	size int64
	sum  uint32 // of the blocks' sizes and checksums
}

// A knownExtent has a place in the image already.
type knownExtent struct{ part, extent int32 }

func newLayout(opts *Options) (*layout, error) {
	if opts == nil {
		opts = &Options{}
	}
	o, err := opts.Complete()
	if err != nil {
		return nil, err
	}
	l := &layout{opts: o, known: make(map[extentKey][]knownExtent)}
	if l.codec, err = codec.Lookup(o.Compression.Codec); err != nil {
		return nil, err
	}
	l.pos = superSize + int64(len(l.codecOptions()))
	return l, nil
}

func (l *layout) newCompressor() (codec.Compressor, error) {
	return l.codec.NewCompressor(l.opts.Compression.Level, l.opts.BlockSize)
}

// codecOptions returns the metadata block that follows the superblock:
// what the codec was told, for readers that need to know or show it.
func (l *layout) codecOptions() []byte {
	p := l.codec.SquashfsOptions(l.opts.Compression.Level, l.opts.BlockSize)
	if p == nil {
		return nil
	}
	return append(binary.LittleEndian.AppendUint16(nil, metaStored|uint16(len(p))), p...)
}

// begin begins a part. The segment may still be growing.
func (l *layout) begin(name string, s *Segment) {
	l.parts = append(l.parts, Part{Name: name, Segment: s})
	l.parts[len(l.parts)-1].Offset = l.next()
}

// next returns where the next extent of the newest part is to lie:
// behind the data so far, and as far from a multiple of 4096 as in the segment's own data.
// So most of a segment is made of the same blocks of a file system wherever it lies,
// and files that have it can share them.
func (l *layout) next() int64 {
	off := l.parts[len(l.parts)-1].placed
	return l.pos + (off-l.pos)&(reflink.Align-1)
}

// place gives the next extent of the newest part its place:
// at l.next(), or where an extent lies that same finds to have the same bytes.
func (l *layout) place(same func(knownExtent) (bool, error)) error {
	index := int32(len(l.parts) - 1)
	p := &l.parts[index]
	x := p.Segment.extents[len(p.extents)]
	pos := l.next()
	p.placed += x.size
	if x.size == 0 {
		p.extents = append(p.extents, pos)
		return nil
	}
	blocks := p.Segment.of(x)
	sums := make([]byte, 0, 8*len(blocks))
	for _, b := range blocks {
		sums = binary.LittleEndian.AppendUint32(sums, b.size)
		sums = binary.LittleEndian.AppendUint32(sums, b.sum)
	}
	key := extentKey{x.size, crc32.Checksum(sums, castagnoli)}
	for _, k := range l.known[key] {
		other := &l.parts[k.part]
		if !slices.Equal(blocks, other.Segment.of(other.Segment.extents[k.extent])) {
			continue
		}
		equal, err := same(k)
		if err != nil {
			return fmt.Errorf("squashfs: compare extents: %w", err)
		}
		if equal {
			p.extents = append(p.extents, other.extents[k.extent])
			return nil
		}
	}
	l.known[key] = append(l.known[key], knownExtent{index, int32(len(p.extents))})
	p.extents = append(p.extents, pos)
	l.pos = pos + x.size
	p.Size += x.size
	return nil
}

// finish makes what lies before the data and what lies behind:
// the superblock and the codec's options, and the tables.
// Nothing can be placed any more.
func (l *layout) finish() (head, tail []byte, img *Image, err error) {
	img = &Image{Parts: l.parts}
	for i := range l.parts {
		l.parts[i].Digest = l.parts[i].Segment.Digest()
	}
	head, tail, img.Inodes, err = l.tables()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("squashfs: make tables: %w", err)
	}
	img.Size = l.pos + int64(len(tail))
	return head, tail, img, nil
}

// tables makes the superblock, and the tables in the order that the kernel insists on.
func (l *layout) tables() (head, tail []byte, inodes int, err error) {
	comp, err := l.newCompressor()
	if err != nil {
		return nil, nil, 0, err
	}

	// 1. All the trees become one, and its files inodes and listings.
	root, err := l.merge()
	if err != nil {
		return nil, nil, 0, err
	}
	t := newTables(l, comp)
	rootRef, err := t.root(root)
	if err != nil {
		return nil, nil, 0, err
	}
	super := &Super{
		Inodes:      uint32(len(t.refs)),
		ModTime:     l.opts.ModTime,
		BlockSize:   l.opts.BlockSize,
		Fragments:   uint32(len(t.frags) / fragEntrySize),
		Compression: l.codec.ID,
		Flags:       flagDuplicates | flagExportable | flagNoXattrs,
		IDs:         len(t.ids),
		rootRef:     rootRef,
		xattrTable:  noTable,
		fragTable:   noTable,
	}

	// 2. Inode table and directory table.
	pos := func() uint64 { return uint64(l.pos) + uint64(len(tail)) }
	super.inodeTable = pos()
	table, err := t.inodes.finish()
	if err != nil {
		return nil, nil, 0, err
	}
	tail = table
	super.dirTable = pos()
	if table, err = t.dirs.finish(); err != nil {
		return nil, nil, 0, err
	}
	tail = append(tail, table...)

	// 3. Tables of fragments, exports and ids: the superblock points to their indexes.
	lookup := func(records []byte) (index uint64) {
		if err == nil {
			table, index, err = lookupTable(comp, records, pos())
			tail = append(tail, table...)
		}
		return index
	}
	if super.Fragments > 0 {
		super.fragTable = lookup(t.frags)
	} else {
		super.Flags |= flagNoFragments
	}
	super.exportTable = lookup(t.exports())
	super.idTable = lookup(t.idRecords())
	if err != nil {
		return nil, nil, 0, err
	}

	// 4. Padding, superblock and codec options.
	super.BytesUsed = int64(pos())
	tail = append(tail, make([]byte, -super.BytesUsed&(imagePadding-1))...)
	options := l.codecOptions()
	if options != nil {
		super.Flags |= flagCodecOptions
	}
	if l.codec.Name == "none" {
		super.Flags |= flagStoredInodes | flagStoredData | flagStoredFragments | flagStoredIDs
	}
	return append(super.encode(), options...), tail, int(super.Inodes), nil
}
