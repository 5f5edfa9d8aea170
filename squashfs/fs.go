package squashfs

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

var (
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// maxLinks is how many symbolic links one name may lead through, as in Linux.
const maxLinks = 40

var (
	errLinks  = errors.New("too many levels of symbolic links")
	errNotDir = errors.New("not a directory")
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
	if !validPath(name) {
		return at, fs.ErrInvalid
	}
	// Begin at the deepest directory on the way that is known.
	var dir *directory
	rest := name
	for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name[:i], '/') {
		if d, ok := fsys.dirCache.peek(name[:i]); ok {
			dir, rest = d, name[i+1:]
			break
		}
	}
	if dir == nil {
		if dir, err = fsys.root(); err != nil {
			return at, err
		}
	}

	for links := 0; ; {
		var elem string
		elem, rest, _ = strings.Cut(rest, "/")
		switch elem {
		case "", ".":
			if rest == "" {
				return location{dir, -1}, nil
			}
			continue
		case "..":
			// There are no links in dir.name.
			up, err := fsys.locate(path.Dir(dir.name), false)
			if err != nil {
				return at, err
			}
			if dir, err = fsys.enter(up); err != nil {
				return at, err
			}
			if rest == "" {
				return location{dir, -1}, nil
			}
			continue
		}
		i, ok := dir.find(elem)
		if !ok {
			return at, fs.ErrNotExist
		}
		at = location{dir, i}
		switch kind := dir.entries[i].kind; {
		case kind == typeSymlink && (follow || rest != ""):
			if links++; links > maxLinks {
				return at, errLinks
			}
			fi, err := fsys.stat(dir, i, elem)
			if err != nil {
				return at, err
			}
			if fi.target[0] == '/' {
				if dir, err = fsys.root(); err != nil {
					return at, err
				}
			}
			rest = fi.target + "/" + rest
		case rest == "":
			return at, nil
		case kind != typeDir:
			return at, errNotDir
		default:
			if dir, err = fsys.child(dir, i); err != nil {
				return at, err
			}
		}
	}
}

// validPath is [fs.ValidPath] for names that need not be UTF-8.
func validPath(name string) bool {
	if name == "." {
		return true
	}
	for {
		elem, rest, more := strings.Cut(name, "/")
		if elem == "" || elem == "." || elem == ".." {
			return false
		}
		if !more {
			return true
		}
		name = rest
	}
}

// enter returns the directory at a location.
func (fsys *FS) enter(at location) (*directory, error) {
	switch {
	case at.index < 0:
		return at.dir, nil
	case at.dir.entries[at.index].kind != typeDir:
		return nil, errNotDir
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
