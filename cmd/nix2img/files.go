package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/internal/vfs"
)

// userFiles is the file system that --file describes.
//
// Its modes follow from a rule and never from the umask of whoever made the files:
// directories have 0755, regular files 0755 if their owner may execute them, else 0644.
// All modification times are one second after the epoch.
type userFiles struct{ *vfs.Tree }

func newDir() *vfs.Node { return vfs.NewDir(0o755) }

// newUserFiles reads values of --file, "[SRC:]DST" each.
// It looks at the sources but does not read them.
func newUserFiles(specs []string) (*userFiles, error) {
	u := &userFiles{&vfs.Tree{Root: newDir()}}
	for _, spec := range specs {
		if err := u.add(spec); err != nil {
			return nil, fmt.Errorf("--file %s: %w", spec, err)
		}
	}
	return u, nil
}

func (u *userFiles) add(spec string) error {
	src, dst, ok := cutFile(spec)
	if !ok {
		return withHint(usagef("the destination is not an absolute path"), "write SRC:/DST, or /DST/ for an empty directory")
	}
	isDir := strings.HasSuffix(dst, "/")
	name := strings.TrimPrefix(path.Clean(dst), "/")
	if src == "" {
		if name == "" {
			return usagef("the destination is the root directory")
		}
		node := vfs.NewFile(0o644, "")
		if isDir {
			node = newDir()
		}
		return u.insert(name, node)
	}
	contents := src == "." || strings.HasSuffix(src, "/.")
	if isDir && !contents {
		abs, err := filepath.Abs(src)
		if err != nil {
			return err
		}
		name = path.Join(name, filepath.Base(abs))
	}
	if name == "" && !contents {
		return withHint(usagef("the destination is the root directory"), "write SRC/.:/ for what is in the directory SRC")
	}
	// A link that is named is what it points to; those found below a directory stay links.
	info, err := os.Stat(src)
	if err != nil {
		return err
	}
	node, err := scan(src, info)
	if err != nil {
		return err
	}
	if name == "" {
		return mergeAll(u.Root, node, "")
	}
	return u.insert(name, node)
}

// cutFile takes [SRC:]DST apart. The destination begins after the last ":/".
func cutFile(spec string) (src, dst string, ok bool) {
	if i := strings.LastIndex(spec, ":/"); i > 0 {
		return spec[:i], spec[i+1:], true
	}
	return "", spec, strings.HasPrefix(spec, "/")
}

// scan returns the node of a file on this machine, with all that lies below it.
func scan(file string, info fs.FileInfo) (*vfs.Node, error) {
	switch info.Mode().Type() {
	case 0:
		// That it cannot be read should be known before the work begins.
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		f.Close()
		mode := fs.FileMode(0o644)
		if info.Mode()&0o100 != 0 {
			mode = 0o755
		}
		return vfs.NewOpened(mode, info.Size(), func() (io.ReadCloser, error) { return os.Open(file) }), nil
	case fs.ModeSymlink:
		target, err := os.Readlink(file)
		return vfs.NewSymlink(target), err
	case fs.ModeDir:
		dir := newDir()
		entries, err := os.ReadDir(file)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return nil, err
			}
			child, err := scan(file+"/"+e.Name(), info)
			if err != nil {
				return nil, err
			}
			dir.Put(e.Name(), child)
		}
		return dir, nil
	}
	return nil, fmt.Errorf("%s: neither a regular file, a directory nor a symbolic link", file)
}

// insert puts a node in its place. Directories are merged.
func (u *userFiles) insert(name string, node *vfs.Node) error {
	dir, err := u.MakeDirs(path.Dir(name), 0o755, false)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("/%s is not a directory", e.Path)
	}
	return merge(dir, path.Base(name), node, "/"+name)
}

func merge(dir *vfs.Node, name string, node *vfs.Node, where string) error {
	old := dir.Entry(name)
	if old == nil {
		dir.Put(name, node)
		return nil
	}
	if !old.IsDir() || !node.IsDir() {
		return fmt.Errorf("%s is given twice", where)
	}
	return mergeAll(old, node, where)
}

// mergeAll puts what is in a directory into another one.
func mergeAll(dir, from *vfs.Node, where string) error {
	for name, entry := range from.Entries() {
		if err := merge(dir, name, entry, where+"/"+name); err != nil {
			return err
		}
	}
	return nil
}
