package nar

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Dump writes the archive of a file tree in fsys to w.
// root is the name of the tree's root: a directory, a regular file or a symbolic link.
// fsys must implement [fs.ReadLinkFS] if the tree has symbolic links.
// A file whose length differs from the size that fsys tells is an error.
func Dump(w io.Writer, fsys fs.FS, root string) error {
	if fsys == nil {
		return errors.New("nar: write: no files")
	}
	info, err := fs.Lstat(fsys, root)
	if err != nil {
		return err
	}
	d := &dumper{w: NewWriter(w), fsys: fsys}
	if err := d.dump(".", root, info); err != nil {
		return err
	}
	return d.w.Close()
}

type dumper struct {
	w    *Writer
	fsys fs.FS
	buf  []byte // to copy contents
}

// dump writes the node at path in the archive, which has the given name in the file system.
func (d *dumper) dump(path, name string, info fs.FileInfo) error {
	h := &Header{Path: path, Mode: info.Mode()}
	switch info.Mode().Type() {
	case fs.ModeDir:
		if err := d.w.WriteHeader(h); err != nil {
			return err
		}
		return d.entries(path, name)
	case fs.ModeSymlink:
		var err error
		if h.LinkTarget, err = fs.ReadLink(d.fsys, name); err != nil {
			return err
		}
	default:
		h.Size = info.Size()
	}
	if err := d.w.WriteHeader(h); err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return d.contents(name, info.Size())
	}
	return nil
}

func (d *dumper) entries(path, name string) error {
	entries, err := fs.ReadDir(d.fsys, name)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := d.dump(join(path, e.Name()), join(name, e.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func (d *dumper) contents(name string, size int64) error {
	f, err := d.fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if d.buf == nil {
		d.buf = make([]byte, 128<<10)
	}
	// One byte more, to notice a file that has grown.
	n, err := io.CopyBuffer(onlyWriter{d.w}, io.LimitReader(f, size+1), d.buf)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("nar: write %q: read %d bytes, want %d", name, n, size)
	}
	return nil
}

// onlyWriter hides all other methods.
type onlyWriter struct{ io.Writer }
