package squashfs

import (
	"io/fs"
	"math"
	"time"
)

// maxReadTarget is the limit for targets of symbolic links when reading, in bytes.
// It is more than Linux follows, as other systems write images too.
const maxReadTarget = 1 << 16

// Inode is what an image says of a file beyond [fs.FileInfo], whose method Sys returns it.
type Inode struct {
	// Number is unique in the image, from 1 on. Hard links of one file have the same.
	Number   uint32
	UID, GID uint32
	// Links is the number of names that the file has. What it counts for directories
	// depends on the program that wrote the image.
	Links uint32
	// Rdev is the number of a device, encoded as Linux does it.
	// It is 0 for all but block and character devices.
	Rdev uint32
	// Xattrs are the extended attributes, in the image's order.
	Xattrs []Xattr
}

// Major returns the major number of a device.
func (i *Inode) Major() uint32 { return i.Rdev >> 8 & 0xFFF }

// Minor returns the minor number of a device.
func (i *Inode) Minor() uint32 { return i.Rdev&0xFF | i.Rdev>>12&0xFFF00 }

// Xattr is an extended attribute.
type Xattr struct {
	Name  string // with its prefix: "user.mime_type"
	Value []byte
}

// An inode is one that has been read.
type inode struct {
	Inode
	kind  uint8       // basic type
	mode  fs.FileMode // with the bits of the kind
	mtime uint32      // seconds
	size  int64       // bytes of a regular file, of a listing or of a target

	target string // of a symbolic link

	// Of a regular file: where its blocks begin in the image,
	// where the list of their sizes is, and what holds the rest of the contents:
	// a fragment block and the offset in it, if frag is not noFragment.
	// Of a directory: where its listing begins, as a reference.
	start  uint64
	blocks spot
	frag   uint32
	offset uint32
}

var kindModes = [...]fs.FileMode{
	typeDir:      fs.ModeDir,
	typeFile:     0,
	typeSymlink:  fs.ModeSymlink,
	typeBlockDev: fs.ModeDevice,
	typeCharDev:  fs.ModeDevice | fs.ModeCharDevice,
	typeFIFO:     fs.ModeNamedPipe,
	typeSocket:   fs.ModeSocket,
}

// fileMode translates a kind and the twelve bits of permissions.
func fileMode(kind uint8, perm uint16) fs.FileMode {
	m := kindModes[kind] | fs.FileMode(perm&0o777)
	if perm&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if perm&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if perm&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// readInode reads the inode at ref into in.
func (fsys *FS) readInode(ref uint64, in *inode) error {
	c := cursor{fsys: fsys, table: &fsys.inodes, spot: fsys.inodes.spot(ref)}
	b, err := c.next(16)
	if err != nil {
		return err
	}
	kind := le.Uint16(b)
	if kind < typeDir || kind > typeExtSocket {
		return corrupt("inode %#x is of type %d", ref, kind)
	}
	extended := kind >= typeExtDir
	in.kind = uint8(kind)
	if extended {
		in.kind -= typeExtDir - typeDir
	}
	in.mode = fileMode(in.kind, le.Uint16(b[2:]))
	uid, gid := int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if uid >= len(fsys.ids) || gid >= len(fsys.ids) {
		return corrupt("inode %#x has owners %d:%d of %d", ref, uid, gid, len(fsys.ids))
	}
	in.UID, in.GID = fsys.ids[uid], fsys.ids[gid]
	in.mtime = le.Uint32(b[8:])
	in.Number = le.Uint32(b[12:])
	in.Links = 1
	in.frag = noFragment
	xattr := uint32(noXattr)

	switch kind {
	case typeDir:
		if b, err = c.next(16); err != nil {
			return err
		}
		in.start = uint64(le.Uint32(b))<<16 | uint64(le.Uint16(b[10:]))
		in.Links = le.Uint32(b[4:])
		in.size = int64(le.Uint16(b[8:]))
	case typeExtDir:
		if b, err = c.next(24); err != nil {
			return err
		}
		in.Links = le.Uint32(b)
		in.size = int64(le.Uint32(b[4:]))
		in.start = uint64(le.Uint32(b[8:]))<<16 | uint64(le.Uint16(b[18:]))
		xattr = le.Uint32(b[20:])
	case typeFile:
		if b, err = c.next(16); err != nil {
			return err
		}
		in.start = uint64(le.Uint32(b))
		in.frag = le.Uint32(b[4:])
		in.offset = le.Uint32(b[8:])
		in.size = int64(le.Uint32(b[12:]))
	case typeExtFile:
		if b, err = c.next(40); err != nil {
			return err
		}
		in.start = le.Uint64(b)
		size := le.Uint64(b[8:])
		if size > math.MaxInt64 {
			return corrupt("inode %#x has %d bytes", ref, size)
		}
		in.size = int64(size)
		in.Links = le.Uint32(b[24:])
		in.frag = le.Uint32(b[28:])
		in.offset = le.Uint32(b[32:])
		xattr = le.Uint32(b[36:])
	case typeSymlink, typeExtSymlink:
		if b, err = c.next(8); err != nil {
			return err
		}
		in.Links = le.Uint32(b)
		size := le.Uint32(b[4:])
		if size == 0 || size > maxReadTarget {
			return corrupt("inode %#x has a target of %d bytes", ref, size)
		}
		if b, err = c.next(int(size)); err != nil {
			return err
		}
		in.target = string(b)
		in.size = int64(size)
	case typeBlockDev, typeCharDev, typeExtBlockDev, typeExtCharDev:
		if b, err = c.next(8); err != nil {
			return err
		}
		in.Links = le.Uint32(b)
		in.Rdev = le.Uint32(b[4:])
	default: // FIFOs and sockets
		if b, err = c.next(4); err != nil {
			return err
		}
		in.Links = le.Uint32(b)
	}
	if extended && in.kind > typeFile {
		if b, err = c.next(4); err != nil {
			return err
		}
		xattr = le.Uint32(b)
	}

	switch in.kind {
	case typeDir:
		in.size = max(in.size-dirListingBias, 0)
		if in.size > maxListing || in.size > fsys.dirs.room(fsys.dirs.start+int64(in.start>>16)) {
			return corrupt("inode %#x has a listing of %d bytes", ref, in.size)
		}
	case typeFile:
		if 4*fsys.countBlocks(in) > fsys.inodes.room(c.at) {
			return corrupt("inode %#x has %d bytes", ref, in.size)
		}
		in.blocks = c.spot
	}
	if xattr != noXattr {
		in.Xattrs, err = fsys.readXattrs(xattr)
	}
	return err
}

// countBlocks returns how many blocks a regular file has apart from its fragment.
func (fsys *FS) countBlocks(in *inode) int64 {
	size := int64(fsys.super.BlockSize)
	n := in.size / size
	if in.size%size != 0 && in.frag == noFragment {
		n++
	}
	return n
}

// fileInfo describes a file of an [FS].
type fileInfo struct {
	name string
	inode
}

func (fi *fileInfo) Name() string       { return fi.name }
func (fi *fileInfo) Size() int64        { return fi.size }
func (fi *fileInfo) Mode() fs.FileMode  { return fi.mode }
func (fi *fileInfo) ModTime() time.Time { return time.Unix(int64(fi.mtime), 0) }
func (fi *fileInfo) IsDir() bool        { return fi.kind == typeDir }
func (fi *fileInfo) Sys() any           { return &fi.Inode }
func (fi *fileInfo) String() string     { return fs.FormatFileInfo(fi) }
