package squashfs

import (
	"sync"

	"github.com/nix2img/nix2img/internal/codec"
)

// A blockKey names a data or fragment block: its position in the image,
// and its size as on disk, with blockStored.
type blockKey struct {
	pos  int64
	size uint32
}

// readBlock decodes a block into dst, which bounds its size, and returns its length.
func (fsys *FS) readBlock(dst []byte, key blockKey) (int, error) {
	size := int(key.size &^ blockStored)
	if size == 0 || size > fsys.super.BlockSize {
		return 0, corrupt("data block at %d has %d bytes", key.pos, size)
	}
	if key.size&blockStored != 0 {
		if size > len(dst) {
			return 0, corrupt("data block at %d has %d bytes, want %d", key.pos, size, len(dst))
		}
		return size, fsys.readAt(dst[:size], key.pos)
	}
	buf := fsys.compBuf.Get().(*[]byte)
	defer fsys.compBuf.Put(buf)
	src := (*buf)[:size]
	if err := fsys.readAt(src, key.pos); err != nil {
		return 0, err
	}
	out, err := codec.Expand(fsys.super.Compression, dst[:0:len(dst)], src)
	if err != nil {
		return 0, corrupt("data block at %d: %v", key.pos, err)
	}
	return len(out), nil
}

// cachedBlock returns a decoded block, which must not be changed.
func (fsys *FS) cachedBlock(key blockKey) ([]byte, error) {
	return fsys.dataCache.get(key, func() ([]byte, int64, error) {
		b := make([]byte, fsys.super.BlockSize)
		n, err := fsys.readBlock(b, key)
		return b[:n], int64(len(b)), err
	})
}

// fragment returns the fragment block with a number.
func (fsys *FS) fragment(i uint32) ([]byte, error) {
	b, err := fsys.record(&fsys.frags, i)
	if err != nil {
		return nil, err
	}
	return fsys.cachedBlock(blockKey{int64(le.Uint64(b)), le.Uint32(b[8:])})
}

// contents are those of a regular file, in pieces of the block size.
type contents struct {
	fsys   *FS
	size   int64 // bytes
	blocks blockList
	frag   uint32 // fragment block that holds the last piece, or noFragment
	offset int64  // of that piece
}

func (fsys *FS) contents(in *inode) *contents {
	c := &contents{fsys: fsys, size: in.size, frag: in.frag, offset: int64(in.offset)}
	c.blocks.fsys = fsys
	c.blocks.count = fsys.countBlocks(in)
	c.blocks.runs = []run{{in.blocks, int64(in.start)}}
	return c
}

// piece returns where piece i begins in the file, and its length.
func (c *contents) piece(i int64) (start int64, size int) {
	start = i * int64(c.fsys.super.BlockSize)
	return start, int(min(c.size-start, int64(c.fsys.super.BlockSize)))
}

// read decodes piece i into dst, which is as long as the piece.
func (c *contents) read(dst []byte, i int64) error {
	if i >= c.blocks.count {
		b, err := c.tail(len(dst))
		copy(dst, b)
		return err
	}
	key, err := c.blocks.find(i)
	if err != nil {
		return err
	}
	n := 0
	if key.size != 0 {
		if n, err = c.fsys.readBlock(dst, key); err != nil {
			return err
		}
	}
	clear(dst[n:]) // as the format wants it
	return nil
}

// view returns piece i, which has size bytes, for reading only. A piece of zeros is nil.
func (c *contents) view(i int64, size int) ([]byte, error) {
	if i >= c.blocks.count {
		return c.tail(size)
	}
	key, err := c.blocks.find(i)
	if err != nil || key.size == 0 {
		return nil, err
	}
	b, err := c.fsys.cachedBlock(key)
	switch {
	case err != nil:
		return nil, err
	case len(b) > size:
		return nil, corrupt("data block at %d has %d bytes, want %d", key.pos, len(b), size)
	case len(b) < size:
		b = append(make([]byte, 0, size), b...)[:size]
	}
	return b, nil
}

// tail returns the last piece of size bytes from its fragment block.
func (c *contents) tail(size int) ([]byte, error) {
	b, err := c.fsys.fragment(c.frag)
	if err != nil {
		return nil, err
	}
	if c.offset+int64(size) > int64(len(b)) {
		return nil, corrupt("fragment block %d has %d bytes, not %d at %d", c.frag, len(b), size, c.offset)
	}
	return b[c.offset:][:size], nil
}

// runLength is the number of blocks whose positions are known at once.
// Their sizes fill half a metadata block.
const runLength = 1024

// A blockList finds the blocks of a file.
//
// A file may have millions, which lie side by side: the place of one follows from the sizes
// of all before it. So they are treated in runs. Where those begin that were passed is kept,
// and the blocks of one run.
type blockList struct {
	fsys  *FS
	count int64

	mu    sync.Mutex
	runs  []run      // those whose beginning is known
	index int64      // of the current run
	keys  []blockKey // of the current run; empty: there is none yet
}

// A run is where runLength blocks begin.
type run struct {
	sizes spot  // in the inode table
	pos   int64 // in the image
}

// find returns block i; its size is 0 if it is all zeros.
func (l *blockList) find(i int64) (blockKey, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := i / runLength
	if len(l.keys) == 0 || l.index != r {
		for next := min(r, int64(len(l.runs))-1); next <= r; next++ {
			if err := l.load(next); err != nil {
				l.keys = l.keys[:0]
				return blockKey{}, err
			}
		}
	}
	return l.keys[i%runLength], nil
}

// load makes run r the current one.
func (l *blockList) load(r int64) error {
	c := cursor{fsys: l.fsys, table: &l.fsys.inodes, spot: l.runs[r].sizes}
	pos := l.runs[r].pos
	n := int(min(l.count-r*runLength, runLength))
	b, err := c.next(4 * n)
	if err != nil {
		return err
	}
	l.index, l.keys = r, l.keys[:0]
	for ; len(b) > 0; b = b[4:] {
		size := le.Uint32(b)
		l.keys = append(l.keys, blockKey{pos, size})
		pos += int64(size &^ blockStored)
		if pos < 0 || pos > l.fsys.super.BytesUsed {
			return corrupt("data block %d lies outside", r*runLength+int64(len(l.keys))-1)
		}
	}
	if r == int64(len(l.runs))-1 {
		l.runs = append(l.runs, run{c.spot, pos})
	}
	return nil
}
