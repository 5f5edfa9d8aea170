package squashfs

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/nix2img/nix2img/internal/vfs"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

var (
	errIsDir  = errors.New("is a directory")
	errNotReg = errors.New("not a regular file")
)

// A location is entry index of dir, or dir itself if index is negative.
type location struct {
	dir   *directory
	index int
}

// locate finds a file. If follow is set, it is not a symbolic link.
func (fsys *FS) locate(name string, follow bool) (at location, err error) {
	if !vfs.ValidName(name) {
		return at, vfs.InvalidName(name)
	}
	// Begin at the deepest directory on the way that is known.
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if d, ok := fsys.dirCache.peek(name[:i]); ok {
			return vfs.Walk(namespace{fsys}, location{d, -1}, name[i+1:], follow)
		}
	}
	root, err := fsys.root()
	if err != nil {
		return at, err
	}
	return vfs.Walk(namespace{fsys}, location{root, -1}, name, follow)
}

// namespace is an image as [vfs.Walk] sees it.
type namespace struct{ fsys *FS }

func (ns namespace) Entry(at location, name string) (location, fs.FileMode, error) {
	dir, err := ns.fsys.enter(at)
	if err != nil {
		return at, 0, err
	}
	i, ok := dir.find(name)
	if !ok {
		return at, 0, fs.ErrNotExist
	}
	return location{dir, i}, kindModes[dir.entries[i].kind], nil
}

func (ns namespace) Target(link location) (string, error) {
	fi, err := ns.fsys.info(link, "")
	if err != nil {
		return "", err
	}
	return fi.target, nil
}

func (ns namespace) Above(at location) (location, error) {
	if at.index >= 0 {
		return location{at.dir, -1}, nil
	}
	// There are no links in the names of directories.
	return ns.fsys.locate(path.Dir(at.dir.name), false)
}

func (ns namespace) Absolute(_ location, target string) (location, string, error) {
	root, err := ns.fsys.root()
	return location{root, -1}, target, err
}

// enter returns the directory at a location.
func (fsys *FS) enter(at location) (*directory, error) {
	switch {
	case at.index < 0:
		return at.dir, nil
	case at.dir.entries[at.index].kind != typeDir:
		return nil, syscall.ENOTDIR
	}
	return fsys.child(at.dir, at.index)
}

// info describes the file at a location, under a name.
func (fsys *FS) info(at location, name string) (*fileInfo, error) {
	if at.index >= 0 {
		return fsys.stat(at.dir, at.index, name)
	}
	fi := &fileInfo{name: name}
	return fi, fsys.readInode(at.dir.ref, &fi.inode)
}

// Open opens a file or a directory.
func (fsys *FS) Open(name string) (fs.File, error) {
	f, err := fsys.open(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func (fsys *FS) open(name string) (fs.File, error) {
	at, err := fsys.locate(name, true)
	if err != nil {
		return nil, err
	}
	fi, err := fsys.info(at, path.Base(name))
	if err != nil {
		return nil, err
	}
	switch fi.kind {
	case typeDir:
		d, err := fsys.enter(at)
		if err != nil {
			return nil, err
		}
		return &openDir{handle: handle{fi: fi, path: name}, fsys: fsys, dir: d}, nil
	case typeFile:
		return &openFile{handle: handle{fi: fi, path: name}, contents: fsys.contents(&fi.inode)}, nil
	}
	return &openSpecial{handle{fi: fi, path: name}}, nil
}

// ReadDir returns the entries of a directory in the order of the bytes of their names.
func (fsys *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	at, err := fsys.locate(name, true)
	if err == nil {
		var d *directory
		if d, err = fsys.enter(at); err == nil {
			return fsys.dirEntries(d, 0, len(d.entries)), nil
		}
	}
	return nil, &fs.PathError{Op: "readdir", Path: name, Err: err}
}

// Stat describes a file, and what it leads to if it is a symbolic link.
func (fsys *FS) Stat(name string) (fs.FileInfo, error) {
	fi, err := fsys.lookup(name, true)
	if err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return fi, nil
}

// Lstat describes a file, and the link itself if it is a symbolic link.
func (fsys *FS) Lstat(name string) (fs.FileInfo, error) {
	fi, err := fsys.lookup(name, false)
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	return fi, nil
}

// ReadLink returns the target of a symbolic link, as it is.
func (fsys *FS) ReadLink(name string) (string, error) {
	fi, err := fsys.lookup(name, false)
	if err == nil && fi.kind != typeSymlink {
		err = fs.ErrInvalid
	}
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: err}
	}
	return fi.target, nil
}

func (fsys *FS) lookup(name string, follow bool) (*fileInfo, error) {
	at, err := fsys.locate(name, follow)
	if err != nil {
		return nil, err
	}
	return fsys.info(at, path.Base(name))
}
