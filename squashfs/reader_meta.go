package squashfs

import (
	"github.com/nix2img/nix2img/internal/codec"
)

// A section is where in the image a table's metadata blocks lie.
type section struct {
	name       string
	start, end int64
}

// room is an upper limit on the bytes that the blocks from pos on can hold:
// each has a header of two bytes and at least one of contents.
func (s *section) room(pos int64) int64 {
	if pos < s.start || pos > s.end {
		return 0
	}
	return (s.end-pos)/3*metaBlockSize + metaBlockSize
}

// A metaBlock is a metadata block, decoded.
type metaBlock struct {
	data []byte // 1 to 8192 bytes
	next int64  // position of the block behind it
}

// metaBlock returns the block at pos.
func (fsys *FS) metaBlock(s *section, pos int64) (*metaBlock, error) {
	if pos < s.start || pos > s.end-3 {
		return nil, corrupt("%s: no metadata block at %d", s.name, pos)
	}
	b, err := fsys.metaCache.get(pos, func() (*metaBlock, int64, error) {
		b, err := fsys.readMetaBlock(s, pos)
		return b, metaBlockSize, err
	})
	if err == nil && b.next > s.end {
		return nil, corrupt("%s: metadata block at %d is too long", s.name, pos)
	}
	return b, err
}

func (fsys *FS) readMetaBlock(s *section, pos int64) (*metaBlock, error) {
	// The header tells the length, but one read is cheaper than two.
	var buf [2 + metaBlockSize]byte
	b := buf[:min(int64(len(buf)), s.end-pos)]
	if err := fsys.readAt(b, pos); err != nil {
		return nil, err
	}
	header := le.Uint16(b)
	size := int(header &^ metaStored)
	if size == 0 || size > len(b)-2 {
		return nil, corrupt("%s: metadata block at %d has %d bytes", s.name, pos, size)
	}
	b = b[2 : 2+size]
	next := pos + 2 + int64(size)
	if header&metaStored != 0 {
		return &metaBlock{append([]byte(nil), b...), next}, nil
	}
	data, err := codec.Expand(fsys.super.Compression, make([]byte, 0, metaBlockSize), b)
	if err != nil {
		return nil, corrupt("%s: metadata block at %d: %v", s.name, pos, err)
	}
	if len(data) == 0 {
		return nil, corrupt("%s: metadata block at %d is empty", s.name, pos)
	}
	return &metaBlock{data, next}, nil
}

// A spot is a place in a table's records.
type spot struct {
	at  int64 // position of a metadata block in the image
	off int   // offset in its contents
}

// A cursor reads records from metadata blocks that lie side by side.
type cursor struct {
	fsys  *FS
	table *section
	spot
	block *metaBlock // the block at the spot; nil: not read yet
}

// spot translates the form in which places in tables are on disk:
// the offset of a block in the table in the upper 48 bits, and the offset in the block.
func (s *section) spot(ref uint64) spot {
	return spot{s.start + int64(ref>>16), int(ref & 0xFFFF)}
}

// next returns the next n bytes, which must not be changed.
func (c *cursor) next(n int) (b []byte, err error) {
	if c.block == nil {
		if c.block, err = c.fsys.metaBlock(c.table, c.at); err != nil {
			return nil, err
		}
		if c.off > len(c.block.data) {
			return nil, corrupt("%s: offset %d is beyond the block at %d", c.table.name, c.off, c.at)
		}
	}
	if have := c.block.data[c.off:]; n <= len(have) {
		c.off += n
		return have[:n:n], nil
	}
	for {
		part := c.block.data[c.off:]
		part = part[:min(len(part), n-len(b))]
		b = append(b, part...)
		c.off += len(part)
		if len(b) == n {
			return b, nil
		}
		pos := c.block.next
		if c.block, err = c.fsys.metaBlock(c.table, pos); err != nil {
			return nil, err
		}
		c.at, c.off = pos, 0
	}
}
