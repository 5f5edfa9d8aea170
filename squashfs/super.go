package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/nix2img/nix2img/internal/codec"
)

// Sizes and special values of the format.
// Source: the kernel's fs/squashfs/squashfs_fs.h, and doc/format.adoc of squashfs-tools-ng.
const (
	superSize     = 96
	superMagic    = 0x73717368 // "hsqs"
	metaBlockSize = 8192       // uncompressed
	metaStored    = 1 << 15    // in the header of a metadata block: not compressed
	blockStored   = 1 << 24    // in the size of a data or fragment block: not compressed
	noFragment    = 0xFFFFFFFF
	noXattr       = 0xFFFFFFFF
	noTable       = 0xFFFFFFFFFFFFFFFF
	imagePadding  = 4096

	maxName        = 255  // bytes; the kernel's limit (the format's is 256)
	maxTarget      = 4095 // bytes of a symbolic link's target; the kernel's limit
	maxDirRun      = 256  // entries behind one directory header
	dirHeaderSize  = 12
	dirEntrySize   = 8
	dirListingBias = 3 // the size in a directory's inode exceeds that of its listing by this
	idTableLimit   = 65535
	fragEntrySize  = 16
)

// Flags of the superblock.
const (
	flagStoredInodes    = 0x0001
	flagStoredData      = 0x0002
	flagStoredFragments = 0x0008
	flagNoFragments     = 0x0010
	flagAlwaysFragments = 0x0020
	flagDuplicates      = 0x0040
	flagExportable      = 0x0080
	flagNoXattrs        = 0x0200
	flagCodecOptions    = 0x0400
	flagStoredIDs       = 0x0800
)

// Types of inodes. A directory's listing names basic types only.
const (
	typeDir = 1 + iota
	typeFile
	typeSymlink
	typeBlockDev
	typeCharDev
	typeFIFO
	typeSocket
	typeExtDir
	typeExtFile
	typeExtSymlink
	typeExtBlockDev
	typeExtCharDev
	typeExtFIFO
	typeExtSocket
)

// Super is the superblock of an image. All positions are bytes from the image's beginning.
type Super struct {
	Inodes      uint32    // number of inodes, and the highest inode number
	ModTime     time.Time // time of creation
	BlockSize   int       // bytes
	Fragments   uint32    // number of fragment blocks
	Compression codec.ID  // format of every compressed block
	Flags       uint16
	IDs         int   // number of different user and group IDs
	BytesUsed   int64 // size of the image without its padding

	rootRef     uint64
	idTable     uint64
	xattrTable  uint64
	inodeTable  uint64
	dirTable    uint64
	fragTable   uint64
	exportTable uint64
}

// encode returns the 96 bytes of the superblock.
func (s *Super) encode() []byte {
	b := make([]byte, 0, superSize)
	le := binary.LittleEndian
	b = le.AppendUint32(b, superMagic)
	b = le.AppendUint32(b, s.Inodes)
	b = le.AppendUint32(b, uint32(s.ModTime.Unix()))
	b = le.AppendUint32(b, uint32(s.BlockSize))
	b = le.AppendUint32(b, s.Fragments)
	b = le.AppendUint16(b, uint16(s.Compression))
	b = le.AppendUint16(b, uint16(bits.TrailingZeros32(uint32(s.BlockSize))))
	b = le.AppendUint16(b, s.Flags)
	b = le.AppendUint16(b, uint16(s.IDs))
	b = le.AppendUint16(b, 4) // version 4.0
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, s.rootRef)
	b = le.AppendUint64(b, uint64(s.BytesUsed))
	for _, pos := range []uint64{s.idTable, s.xattrTable, s.inodeTable, s.dirTable, s.fragTable, s.exportTable} {
		b = le.AppendUint64(b, pos)
	}
	return b
}

// errNotSquashfs is the reason when a file has another magic number.
var errNotSquashfs = errors.New("not a squashfs image")

// decodeSuper reads the superblock from b, the first bytes of an image, and checks it
// as the kernel does.
func decodeSuper(b []byte) (*Super, error) {
	le := binary.LittleEndian
	if len(b) < superSize || le.Uint32(b) != superMagic {
		return nil, errNotSquashfs
	}
	s := &Super{
		Inodes:      le.Uint32(b[4:]),
		ModTime:     time.Unix(int64(le.Uint32(b[8:])), 0),
		BlockSize:   int(le.Uint32(b[12:])),
		Fragments:   le.Uint32(b[16:]),
		Compression: codec.ID(le.Uint16(b[20:])),
		Flags:       le.Uint16(b[24:]),
		IDs:         int(le.Uint16(b[26:])),
		BytesUsed:   int64(le.Uint64(b[40:])),
		rootRef:     le.Uint64(b[32:]),
		idTable:     le.Uint64(b[48:]),
		xattrTable:  le.Uint64(b[56:]),
		inodeTable:  le.Uint64(b[64:]),
		dirTable:    le.Uint64(b[72:]),
		fragTable:   le.Uint64(b[80:]),
		exportTable: le.Uint64(b[88:]),
	}
	if major, minor := le.Uint16(b[28:]), le.Uint16(b[30:]); major != 4 || minor != 0 {
		return nil, fmt.Errorf("squashfs version %d.%d, want 4.0", major, minor)
	}
	if err := checkBlockSize(s.BlockSize); err != nil {
		return nil, err
	}
	if s.BlockSize != 1<<(le.Uint16(b[22:])&31) {
		return nil, errors.New("superblock's block size and its logarithm differ")
	}
	if s.BytesUsed < superSize {
		return nil, fmt.Errorf("superblock gives the image %d bytes", s.BytesUsed)
	}
	return s, nil
}

func checkBlockSize(n int) error {
	if n < MinBlockSize || n > MaxBlockSize || n&(n-1) != 0 {
		return fmt.Errorf("block size %d is not a power of two from %d to %d", n, MinBlockSize, MaxBlockSize)
	}
	return nil
}
