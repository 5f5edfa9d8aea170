package squashfs

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// Bounds on the memory of an [FS], in bytes. Each cache may hold one item more,
// and a directory's entries are in memory while it is being read.
const (
	metaCacheSize = 8 << 20  // decoded metadata blocks
	dataCacheSize = 16 << 20 // decoded data and fragment blocks
	dirCacheSize  = 32 << 20 // listings of directories
)

// A CorruptError says what is wrong with an image.
// Errors of the image's reader are not of this type.
type CorruptError struct{ Reason string }

func (e *CorruptError) Error() string { return "corrupt image: " + e.Reason }

func corrupt(format string, args ...any) error {
	return &CorruptError{fmt.Sprintf(format, args...)}
}

// FS is the file system in an image, for reading.
//
// It implements [io/fs.ReadDirFS], [io/fs.StatFS] and [io/fs.ReadLinkFS].
// As everywhere in this package names are bytes and need not be UTF-8.
// Symbolic links are followed, except by Lstat and ReadLink and in listings,
// but they never leave the image: its root is where absolute links begin,
// and the parent of the root is the root.
//
// What Sys returns for a file of an FS is its [*Inode].
// Regular files implement [io.ReaderAt], [io.Seeker] and [io.WriterTo].
//
// Many goroutines may use an FS at once.
// Its memory is bounded, whatever the image says, apart from a note for each directory visited.
type FS struct {
	r     io.ReaderAt
	super Super

	inodes, dirs section
	ids          []uint32
	frags        table
	xattrIDs     table
	xattrs       section

	metaCache cache[int64, *metaBlock]
	dataCache cache[blockKey, []byte]
	dirCache  cache[string, *directory]
	compBuf   sync.Pool // *[]byte of BlockSize bytes, for blocks before they are expanded
	copyBuf   sync.Pool // *[]byte of BlockSize bytes, for blocks on their way to a writer

	// adopted has the place of every directory that was visited, by its inode.
	// A directory in a second place would be a loop, or could be one in a maze
	// that has no end for practical purposes.
	adopted   map[uint64]place
	adoptLock sync.Mutex
}

// Open reads the superblock and the small tables of the image that begins at offset 0 of r.
// The image does not have to be the only contents of r: what follows it is not looked at.
//
// An error of type [*CorruptError] means that the image is damaged.
func Open(r io.ReaderAt) (*FS, error) {
	fsys, err := open(r)
	if err != nil {
		return nil, fmt.Errorf("squashfs: open: %w", err)
	}
	return fsys, nil
}

func open(r io.ReaderAt) (*FS, error) {
	if r == nil {
		return nil, errNotSquashfs
	}
	var b [superSize]byte
	if n, err := r.ReadAt(b[:], 0); err != nil && err != io.EOF {
		return nil, err
	} else if n < len(b) {
		return nil, errNotSquashfs
	}
	super, err := decodeSuper(b[:])
	if err != nil {
		return nil, err
	}

	fsys := &FS{r: r, super: *super, adopted: make(map[uint64]place)}
	fsys.metaCache.limit = metaCacheSize
	fsys.dataCache.limit = dataCacheSize
	fsys.dirCache.limit = dirCacheSize
	newBuf := func() any { b := make([]byte, super.BlockSize); return &b }
	fsys.compBuf.New = newBuf
	fsys.copyBuf.New = newBuf

	// Tables lie one behind the other, and the inodes' is the first of them.
	end := uint64(super.BytesUsed)
	for _, pos := range []uint64{super.exportTable, super.fragTable, super.idTable, super.xattrTable} {
		if pos != noTable {
			end = min(end, pos)
		}
	}
	if !(superSize <= super.inodeTable && super.inodeTable < super.dirTable && super.dirTable <= end) {
		return nil, corrupt("tables overlap")
	}
	fsys.inodes = section{"inode table", int64(super.inodeTable), int64(super.dirTable)}
	fsys.dirs = section{"directory table", int64(super.dirTable), int64(end)}

	if err := fsys.readIDs(); err != nil {
		return nil, err
	}
	if super.Fragments > 0 && super.fragTable != noTable {
		fsys.frags, err = fsys.table("fragment table", super.fragTable, super.fragTable, super.Fragments, fragEntrySize)
		if err != nil {
			return nil, err
		}
	}
	if super.xattrTable != noTable {
		if err := fsys.openXattrs(); err != nil {
			return nil, err
		}
	}

	var root inode
	if err := fsys.readInode(super.rootRef, &root); err != nil {
		return nil, err
	}
	if root.kind != typeDir {
		return nil, corrupt("the root is not a directory")
	}
	return fsys, nil
}

// Super returns the image's superblock.
func (fsys *FS) Super() Super { return fsys.super }

// readAt reads all of p from the image.
func (fsys *FS) readAt(p []byte, pos int64) error {
	if pos < 0 || pos > fsys.super.BytesUsed || int64(len(p)) > fsys.super.BytesUsed-pos {
		return corrupt("%d bytes at %d lie outside", len(p), pos)
	}
	n, err := fsys.r.ReadAt(p, pos)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return corrupt("it ends at byte %d instead of %d", pos+int64(n), fsys.super.BytesUsed)
	}
	return err
}

// A table has records of one size, found by their number.
// They fill metadata blocks, whose positions are the index.
type table struct {
	section
	index []int64
	count uint32
	size  int // of a record; divides metaBlockSize
}

// table reads the index of a table. It begins at pos, behind the table's blocks,
// which end at end.
func (fsys *FS) table(name string, pos, end uint64, count uint32, size int) (table, error) {
	t := table{section{name, superSize, int64(end)}, nil, count, size}
	perBlock := int64(metaBlockSize / size)
	n := (int64(count) + perBlock - 1) / perBlock
	used := fsys.super.BytesUsed
	if pos > uint64(used) || n > (used-int64(pos))/8 {
		return t, corrupt("%s lies outside", name)
	}
	// The image may be shorter than it says: allocate as it is read.
	var buf [metaBlockSize]byte
	for at := int64(pos); n > 0; {
		b := buf[:8*min(n, int64(len(buf)/8))]
		if err := fsys.readAt(b, at); err != nil {
			return t, err
		}
		at += int64(len(b))
		n -= int64(len(b) / 8)
		for ; len(b) > 0; b = b[8:] {
			t.index = append(t.index, int64(le.Uint64(b)))
		}
	}
	return t, nil
}

// record returns record i of a table.
func (fsys *FS) record(t *table, i uint32) ([]byte, error) {
	if i >= t.count {
		return nil, corrupt("%s has no record %d", t.name, i)
	}
	perBlock := uint32(metaBlockSize / t.size)
	c := cursor{fsys: fsys, table: &t.section, spot: spot{t.index[i/perBlock], int(i%perBlock) * t.size}}
	return c.next(t.size)
}

// readIDs reads the table of user and group IDs, which inodes refer to by number.
func (fsys *FS) readIDs() error {
	pos := fsys.super.idTable
	t, err := fsys.table("id table", pos, pos, uint32(fsys.super.IDs), 4)
	if err != nil {
		return err
	}
	for i := range t.count {
		b, err := fsys.record(&t, i)
		if err != nil {
			return err
		}
		fsys.ids = append(fsys.ids, le.Uint32(b))
	}
	return nil
}
