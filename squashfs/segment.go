package squashfs

import (
	"crypto/sha256"
	"io/fs"
	"math"

	"github.com/nix2img/nix2img/internal/codec"
)

// A Segment is the encoding of one tree: the index of a run of data, which is kept elsewhere.
// Nothing in either depends on where in an image the tree will lie, or with what else.
//
// The data is a sequence of extents.
// An extent is either the full blocks of one file or one fragment block,
// which holds the tails of many.
type Segment struct {
	codec     codec.ID
	blockSize int
	nodes     nodeList // parents first, entries by name; the first is the root
	text      []byte   // names and targets of nodes
	extents   []extent
	blocks    []block // of all extents, one after the other
	frags     []int32 // the extents that are fragment blocks
}

// Size returns the size of the segment's data in bytes.
func (s *Segment) Size() int64 {
	var n int64
	for i := range s.extents {
		n += s.extents[i].size
	}
	return n
}

// Digest identifies the segment: it is the SHA-256 of its binary form,
// in which the data are represented by the sizes and the checksums of the blocks.
func (s *Segment) Digest() [sha256.Size]byte {
	h := sha256.New()
	s.marshal(h)
	return [sha256.Size]byte(h.Sum(nil))
}

// A node is a file of any kind. There are many, so they are small.
type node struct {
	size   int64  // of a regular file, in bytes; of a device, its number
	text   uint32 // where in Segment.text the name begins, and behind it the target
	end    int32  // index behind the node's last descendant
	parent int32
	extent int32 // full blocks of a regular file, or none
	frag   int32 // index in frags of the block that holds the tail, or none
	offset uint32
	mtime  uint32
	uid    uint32
	gid    uint32
	mode   uint16 // twelve bits of permissions
	target uint16 // length of the target of a symbolic link
	name   uint8  // length of the base name; 0 for the root
	kind   uint8  // basic inode type
}

// name returns the base name of a node.
func (s *Segment) name(n *node) string { return string(s.text[n.text:][:n.name]) }

// target returns where a symbolic link leads.
func (s *Segment) target(n *node) string {
	return string(s.text[n.text+uint32(n.name):][:n.target])
}

// addNode adds a node, whose texts must not be too long for the format.
func (s *Segment) addNode(n node, name, target string) error {
	if uint64(len(s.text)+len(name)+len(target)) > math.MaxUint32 || s.nodes.len() == math.MaxInt32 {
		return errTooLarge
	}
	n.text, n.name, n.target = uint32(len(s.text)), uint8(len(name)), uint16(len(target))
	s.text = append(append(s.text, name...), target...)
	s.nodes.add(n)
	return nil
}

// none is the index of an extent or a fragment that a node does not have.
const none = -1

// A block is one compressed or stored block as it lies in the data.
type block struct {
	size uint32 // bytes, and blockStored; 0: a full block of zeros, which takes no room
	sum  uint32 // CRC-32C of the bytes
}

// add makes a block the last one of the newest extent.
func (s *Segment) add(b block) {
	x := &s.extents[len(s.extents)-1]
	x.count++
	x.size += b.len()
	if b.size == 0 {
		x.holes++
	}
	s.blocks = append(s.blocks, b)
}

// begin begins an extent.
func (s *Segment) begin(fragment bool) {
	if fragment {
		s.frags = append(s.frags, int32(len(s.extents)))
	}
	s.extents = append(s.extents, extent{first: int32(len(s.blocks))})
}

// of returns the blocks of an extent.
func (s *Segment) of(x extent) []block { return s.blocks[x.first : x.first+x.count] }

func (b block) len() int64 { return int64(b.size &^ blockStored) }

// An extent's blocks lie side by side.
type extent struct {
	first, count int32 // blocks
	holes        int32 // blocks of zeros
	size         int64 // bytes
}

// newNode translates what a file system says of a file.
// The sizes of regular files are taken as they are; the rest must fit the format.
func newNode(info fs.FileInfo, target string) (node, error) {
	n := node{
		extent: none,
		frag:   none,
		mode:   permissions(info.Mode()),
		mtime:  clampTime(info.ModTime().Unix()),
	}
	inode, _ := info.Sys().(*Inode)
	if inode != nil {
		n.uid, n.gid = inode.UID, inode.GID
		if len(inode.Xattrs) > 0 {
			return n, errXattrs
		}
	}
	switch m := info.Mode(); m.Type() {
	case 0:
		n.kind = typeFile
		n.size = info.Size()
	case fs.ModeDir:
		n.kind = typeDir
	case fs.ModeSymlink:
		n.kind = typeSymlink
		if len(target) == 0 || len(target) > maxTarget {
			return n, errTarget
		}
	case fs.ModeNamedPipe:
		n.kind = typeFIFO
	case fs.ModeSocket:
		n.kind = typeSocket
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		n.kind = typeBlockDev
		if m&fs.ModeCharDevice != 0 {
			n.kind = typeCharDev
		}
		if inode == nil {
			return n, errDevice
		}
		n.size = int64(inode.Rdev)
	default:
		return n, errKind
	}
	return n, nil
}

// permissions gives the twelve bits that chmod(2) knows.
func permissions(m fs.FileMode) uint16 {
	p := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		p |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		p |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		p |= 0o1000
	}
	return p
}

// clampTime fits a time into the format's unsigned 32 bits of seconds.
func clampTime(sec int64) uint32 {
	return uint32(min(max(sec, 0), math.MaxUint32))
}
