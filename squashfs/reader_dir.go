package squashfs

import (
	"bytes"
	"io/fs"
	"slices"
	"strings"
)

const (
	maxListing  = 64 << 20 // limit for the listing of a directory when reading, in bytes
	maxReadName = 256      // limit for names when reading: the format's own, in bytes
	maxDepth    = 4096     // limit for directories in directories
)

// A directory is one whose listing has been read.
type directory struct {
	name    string // path in the image, without symbolic links; "." for the root
	ref     uint64 // of its inode
	depth   int    // 0 for the root
	entries []dirent
}

// A dirent is an entry of a listing.
type dirent struct {
	name string
	ref  uint64 // of the inode
	kind uint8  // basic type
}

// A place is where a directory lies: entry index of the directory whose inode is parent.
type place struct {
	parent uint64
	index  int
}

// find returns the index of the entry with a name.
func (d *directory) find(name string) (int, bool) {
	return slices.BinarySearchFunc(d.entries, name, func(e dirent, name string) int {
		return strings.Compare(e.name, name)
	})
}

// path returns the path of entry i.
func (d *directory) path(i int) string {
	return join(d.name, d.entries[i].name)
}

// root returns the root directory.
func (fsys *FS) root() (*directory, error) {
	return fsys.directory(".", fsys.super.rootRef, 0, place{index: -1})
}

// child returns the directory that is entry i of d.
func (fsys *FS) child(d *directory, i int) (*directory, error) {
	return fsys.directory(d.path(i), d.entries[i].ref, d.depth+1, place{d.ref, i})
}

func (fsys *FS) directory(name string, ref uint64, depth int, at place) (*directory, error) {
	return fsys.dirCache.get(name, func() (*directory, int64, error) {
		if depth > maxDepth {
			return nil, 0, corrupt("directories are nested deeper than %d", maxDepth)
		}
		if err := fsys.adopt(ref, at); err != nil {
			return nil, 0, err
		}
		d := &directory{name: name, ref: ref, depth: depth}
		err := fsys.readListing(d)
		cost := int64(len(name)) + 256
		for i := range d.entries {
			cost += int64(len(d.entries[i].name)) + 40
		}
		return d, cost, err
	})
}

// adopt notes where a directory is, which must be the place where it was before.
func (fsys *FS) adopt(ref uint64, at place) error {
	fsys.adoptLock.Lock()
	defer fsys.adoptLock.Unlock()
	before, ok := fsys.adopted[ref]
	switch {
	case ok && before != at:
		return corrupt("directory inode %#x is in two places", ref)
	case !ok && uint64(len(fsys.adopted)) >= uint64(fsys.super.Inodes):
		return corrupt("there are more directories than inodes")
	}
	fsys.adopted[ref] = at
	return nil
}

// readListing reads the entries of d.
func (fsys *FS) readListing(d *directory) error {
	var in inode
	if err := fsys.readInode(d.ref, &in); err != nil {
		return err
	}
	if in.kind != typeDir {
		return corrupt("inode %#x is not the directory it should be", d.ref)
	}
	c := cursor{fsys: fsys, table: &fsys.dirs, spot: fsys.dirs.spot(in.start)}
	var names []byte // of all entries, so that they are one string
	var ends []int   // of the names
	start := 0       // of the name before
	for left := in.size; left > 0; {
		if left < dirHeaderSize {
			return corrupt("directory inode %#x: %d bytes at the end of the listing", d.ref, left)
		}
		b, err := c.next(dirHeaderSize)
		if err != nil {
			return err
		}
		left -= dirHeaderSize
		count, block := le.Uint32(b), uint64(le.Uint32(b[4:]))
		if count >= maxDirRun {
			return corrupt("directory inode %#x: %d entries behind one header", d.ref, uint64(count)+1)
		}
		for range count + 1 {
			if b, err = c.next(dirEntrySize); err != nil {
				return err
			}
			offset, kind, size := le.Uint16(b), le.Uint16(b[4:]), int(le.Uint16(b[6:]))+1
			left -= dirEntrySize + int64(size)
			if left < 0 || size > maxReadName || kind < typeDir || kind > typeSocket {
				return corrupt("directory inode %#x: entry %d: name of %d bytes, type %d", d.ref, len(ends), size, kind)
			}
			if b, err = c.next(size); err != nil {
				return err
			}
			if before := names[start:]; bytes.Compare(before, b) >= 0 {
				return corrupt("directory inode %#x: name %q is behind %q", d.ref, b, before)
			}
			if bytes.IndexByte(b, '/') >= 0 || bytes.IndexByte(b, 0) >= 0 || string(b) == "." || string(b) == ".." {
				return corrupt("directory inode %#x: name %q", d.ref, b)
			}
			start = len(names)
			names = append(names, b...)
			ends = append(ends, len(names))
			d.entries = append(d.entries, dirent{ref: block<<16 | uint64(offset), kind: uint8(kind)})
		}
	}
	all, start := string(names), 0
	for i, end := range ends {
		d.entries[i].name = all[start:end]
		start = end
	}
	d.entries = slices.Clip(d.entries)
	return nil
}

// stat reads the inode of entry i of d, under a name.
func (fsys *FS) stat(d *directory, i int, name string) (*fileInfo, error) {
	fi := &fileInfo{name: name}
	if err := fsys.readInode(d.entries[i].ref, &fi.inode); err != nil {
		return nil, err
	}
	if fi.kind != d.entries[i].kind {
		return nil, corrupt("inode %#x is of type %d, its entry %q of type %d", d.entries[i].ref, fi.kind, d.entries[i].name, d.entries[i].kind)
	}
	return fi, nil
}

// dirEntry is an entry of a listing as [io/fs] wants it.
type dirEntry struct {
	fsys  *FS
	dir   *directory
	index int
}

func (e *dirEntry) Name() string      { return e.dir.entries[e.index].name }
func (e *dirEntry) Type() fs.FileMode { return kindModes[e.dir.entries[e.index].kind] }
func (e *dirEntry) IsDir() bool       { return e.dir.entries[e.index].kind == typeDir }
func (e *dirEntry) String() string    { return fs.FormatDirEntry(e) }

func (e *dirEntry) Info() (fs.FileInfo, error) {
	fi, err := e.fsys.stat(e.dir, e.index, e.Name())
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: e.dir.path(e.index), Err: err}
	}
	return fi, nil
}

// dirEntries returns entries [from, to) of d.
func (fsys *FS) dirEntries(d *directory, from, to int) []fs.DirEntry {
	values := make([]dirEntry, to-from)
	list := make([]fs.DirEntry, to-from)
	for i := range list {
		values[i] = dirEntry{fsys, d, from + i}
		list[i] = &values[i]
	}
	return list
}
