package squashfs

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/nix2img/nix2img/internal/codec"
)

// tables collects what an image has behind its data.
type tables struct {
	layout *layout
	inodes *metaWriter
	dirs   *metaWriter
	frags  []byte // records of the fragment table
	first  []int  // of each part, its first fragment block's record
	refs   []metaRef
	ids    []uint32
	idOf   map[uint32]uint16
	buf    []byte
}

func newTables(l *layout, comp codec.Compressor) *tables {
	t := &tables{
		layout: l,
		inodes: newMetaWriter(comp),
		dirs:   newMetaWriter(comp),
		idOf:   make(map[uint32]uint16),
	}
	nodes := 0
	for i := range l.parts {
		p, s := &l.parts[i], l.parts[i].Segment
		nodes += int(s.nodes.len())
		t.first = append(t.first, len(t.frags)/fragEntrySize)
		for _, x := range s.frags {
			t.frags = le.AppendUint64(t.frags, uint64(p.extents[x]))
			t.frags = le.AppendUint32(t.frags, s.blocks[s.extents[x].first].size)
			t.frags = le.AppendUint32(t.frags, 0)
		}
	}
	t.refs = make([]metaRef, 0, nodes)
	return t
}

var le = binary.LittleEndian

// exports returns the export table: every inode's position, by its number.
func (t *tables) exports() []byte {
	b := make([]byte, 0, 8*len(t.refs))
	for _, r := range t.refs {
		b = le.AppendUint64(b, r.number())
	}
	return b
}

func (t *tables) idRecords() []byte {
	var b []byte
	for _, id := range t.ids {
		b = le.AppendUint32(b, id)
	}
	return b
}

// id returns the index of a user or group.
func (t *tables) id(id uint32) (uint16, error) {
	i, ok := t.idOf[id]
	if !ok {
		if len(t.ids) == idTableLimit {
			return 0, fmt.Errorf("more than %d different owners and groups", idTableLimit)
		}
		i = uint16(len(t.ids))
		t.ids = append(t.ids, id)
		t.idOf[id] = i
	}
	return i, nil
}

// number reserves n consecutive inode numbers and returns the first.
func (t *tables) number(n int) (uint32, error) {
	first := len(t.refs) + 1
	if int64(first)+int64(n) > math.MaxUint32 {
		return 0, fmt.Errorf("more than %d files", uint32(math.MaxUint32-1))
	}
	t.refs = append(t.refs, make([]metaRef, n)...)
	return uint32(first), nil
}

// root adds a file system and returns how the superblock refers to its root.
func (t *tables) root(root entry) (uint64, error) {
	number, err := t.number(1)
	if err != nil {
		return 0, err
	}
	l, err := t.directory(&root, number, ".")
	if err != nil {
		return 0, err
	}
	// The root is given a parent that does not exist, as mksquashfs does.
	if err := t.inode(&root, number, uint32(len(t.refs))+1, &l); err != nil {
		return 0, err
	}
	return t.refs[number-1].number(), nil
}

// A listing is what a directory's inode says of its listing.
type listing struct {
	at    metaRef
	size  int
	subs  int // directories in it
	index []indexEntry
}

// An indexEntry leads into the middle of a listing.
type indexEntry struct {
	offset uint32 // in the listing
	block  uint32 // the metadata block in which it lies
	name   string // the first one there
}

// directory adds all that lies below directory d.
// The inodes of its entries lie side by side, so that few headers do for its listing,
// and behind all that they in turn refer to.
func (t *tables) directory(d *entry, self uint32, place string) (listing, error) {
	entries, err := t.layout.entries(d, place)
	if err != nil {
		return listing{}, err
	}
	first, err := t.number(len(entries))
	if err != nil {
		return listing{}, err
	}
	var below []listing
	for i := range entries {
		if e := &entries[i]; t.layout.isDir(e) {
			l, err := t.directory(e, first+uint32(i), join(place, e.name))
			if err != nil {
				return listing{}, err
			}
			below = append(below, l)
		}
	}
	subs := len(below)
	for i := range entries {
		var l *listing
		if t.layout.isDir(&entries[i]) {
			l, below = &below[0], below[1:]
		}
		if err := t.inode(&entries[i], first+uint32(i), self, l); err != nil {
			return listing{}, fmt.Errorf("%q: %w", join(place, entries[i].name), err)
		}
	}
	l, err := t.list(entries, first)
	l.subs = subs
	return l, err
}

// list adds a listing to the directory table: runs of entries behind headers.
func (t *tables) list(entries []entry, first uint32) (listing, error) {
	l := listing{at: t.dirs.pos()}
	indexed := 0
	for i := 0; i < len(entries); {
		block := t.refs[first+uint32(i)-1].block
		size, n := dirHeaderSize, 0
		for ; i+n < len(entries) && n < maxDirRun; n++ {
			more := dirEntrySize + len(entries[i+n].name)
			if t.refs[first+uint32(i+n)-1].block != block || n > 0 && size+more > metaBlockSize {
				break
			}
			size += more
		}
		if l.size/metaBlockSize > indexed && len(l.index) < math.MaxUint16 {
			indexed = l.size / metaBlockSize
			l.index = append(l.index, indexEntry{uint32(l.size), t.dirs.pos().block, entries[i].name})
		}
		number := first + uint32(i)
		b := le.AppendUint32(t.buf[:0], uint32(n-1))
		b = le.AppendUint32(b, block)
		b = le.AppendUint32(b, number)
		for j := range n {
			e := &entries[i+j]
			kind := uint16(typeDir)
			if e.merged == nil {
				kind = uint16(t.layout.node(e.fileRef).kind)
			}
			b = le.AppendUint16(b, t.refs[number+uint32(j)-1].offset)
			b = le.AppendUint16(b, uint16(j))
			b = le.AppendUint16(b, kind)
			b = le.AppendUint16(b, uint16(len(e.name)-1))
			b = append(b, e.name...)
		}
		t.dirs.write(b)
		t.buf = b
		l.size += size
		i += n
	}
	if int64(l.size)+dirListingBias > math.MaxUint32 {
		return l, fmt.Errorf("listing of %d bytes: the format has room for 4 GiB", l.size)
	}
	return l, nil
}

// inode adds the inode of a file. parent and l matter to directories only.
func (t *tables) inode(e *entry, number, parent uint32, l *listing) error {
	n := &node{kind: typeDir, mode: 0o755, mtime: uint32(t.layout.opts.ModTime.Unix())}
	ref := e.fileRef
	if e.merged != nil && len(e.merged.refs) > 0 {
		ref = e.merged.refs[0]
	}
	if e.merged == nil || len(e.merged.refs) > 0 {
		n = t.layout.node(ref)
	}
	uid, err := t.id(n.uid)
	if err != nil {
		return err
	}
	gid, err := t.id(n.gid)
	if err != nil {
		return err
	}
	b := append(t.buf[:0], 0, 0) // the type, which follows from the rest
	b = le.AppendUint16(b, n.mode)
	b = le.AppendUint16(b, uid)
	b = le.AppendUint16(b, gid)
	b = le.AppendUint32(b, n.mtime)
	b = le.AppendUint32(b, number)
	kind := uint16(n.kind)
	switch n.kind {
	case typeDir:
		kind, b = appendDir(b, parent, l)
	case typeFile:
		kind, b = t.appendFile(b, ref, n)
	case typeSymlink:
		b = le.AppendUint32(b, 1) // links
		b = le.AppendUint32(b, uint32(n.target))
		b = append(b, t.layout.parts[ref.part].Segment.target(n)...)
	case typeBlockDev, typeCharDev:
		b = le.AppendUint32(b, 1)
		b = le.AppendUint32(b, uint32(n.size))
	default:
		b = le.AppendUint32(b, 1)
	}
	le.PutUint16(b, kind)
	t.refs[number-1] = t.inodes.pos()
	t.inodes.write(b)
	t.buf = b
	return nil
}

func appendDir(b []byte, parent uint32, l *listing) (uint16, []byte) {
	links := uint32(2 + l.subs)
	size := l.size + dirListingBias
	if len(l.index) == 0 && size <= math.MaxUint16 {
		b = le.AppendUint32(b, l.at.block)
		b = le.AppendUint32(b, links)
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, l.at.offset)
		b = le.AppendUint32(b, parent)
		return typeDir, b
	}
	b = le.AppendUint32(b, links)
	b = le.AppendUint32(b, uint32(size))
	b = le.AppendUint32(b, l.at.block)
	b = le.AppendUint32(b, parent)
	b = le.AppendUint16(b, uint16(len(l.index)))
	b = le.AppendUint16(b, l.at.offset)
	b = le.AppendUint32(b, noXattr)
	for _, x := range l.index {
		b = le.AppendUint32(b, x.offset)
		b = le.AppendUint32(b, x.block)
		b = le.AppendUint32(b, uint32(len(x.name)-1))
		b = append(b, x.name...)
	}
	return typeExtDir, b
}

func (t *tables) appendFile(b []byte, ref fileRef, n *node) (uint16, []byte) {
	p := &t.layout.parts[ref.part]
	s := p.Segment
	var x extent
	var start int64
	if n.extent != none {
		x = s.extents[n.extent]
		start = p.extents[n.extent]
	}
	frag := uint32(noFragment)
	if n.frag != none {
		frag = uint32(t.first[ref.part]) + uint32(n.frag)
	}
	kind := uint16(typeFile)
	if start > math.MaxUint32 || n.size > math.MaxUint32 || x.holes > 0 {
		kind = typeExtFile
		b = le.AppendUint64(b, uint64(start))
		b = le.AppendUint64(b, uint64(n.size))
		b = le.AppendUint64(b, uint64(x.holes)*uint64(s.blockSize))
		b = le.AppendUint32(b, 1) // links
		b = le.AppendUint32(b, frag)
		b = le.AppendUint32(b, n.offset)
		b = le.AppendUint32(b, noXattr)
	} else {
		b = le.AppendUint32(b, uint32(start))
		b = le.AppendUint32(b, frag)
		b = le.AppendUint32(b, n.offset)
		b = le.AppendUint32(b, uint32(n.size))
	}
	for _, k := range s.of(x) {
		b = le.AppendUint32(b, k.size)
	}
	return kind, b
}
