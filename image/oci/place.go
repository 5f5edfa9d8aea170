package oci

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// A place is the folder for blobs of the layout that an image is on its way to.
type place struct {
	dir   string // of the layout
	ours  bool   // nobody knew the directory before
	files []*layerFile
}

// openPlace prepares a layout for layers, which get no names before [Image.WriteLayout].
func openPlace(dir string) (*place, error) {
	if _, err := readIndex(dir); err != nil {
		return nil, err
	}
	_, err := os.Lstat(dir)
	p := &place{dir: dir, ours: errors.Is(err, fs.ErrNotExist)}
	if err := os.MkdirAll(BlobDir(dir), 0o777); err != nil {
		return nil, layoutError(dir, err)
	}
	return p, nil
}

// close gives up what has got no name, and directories without anything in them.
func (p *place) close() {
	for _, f := range p.files {
		f.close()
	}
	blobs := BlobDir(p.dir)
	dirs := []string{blobs, filepath.Dir(blobs)}
	if p.ours {
		dirs = append(dirs, p.dir)
	}
	for _, d := range dirs {
		if os.Remove(d) != nil { // there is something in it
			return
		}
	}
}

// A layerFile is a layer that is written straight to where it is to be, but without its name.
// Nil stands for a layer that is not.
type layerFile struct {
	place  *place
	f      *os.File
	size   int64
	named  bool
	synced chan error // gets the result of seal
}

func (p *place) create() (*layerFile, error) {
	f, err := tempfile.Create(BlobDir(p.dir), TempPrefix, "", 0o666)
	if err != nil {
		return nil, layoutError(p.dir, err)
	}
	l := &layerFile{place: p, f: f, synced: make(chan error, 1)}
	p.files = append(p.files, l)
	return l, nil
}

func (l *layerFile) write(b []byte) error {
	if l == nil {
		return nil
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	if e, ok := errors.AsType[*fs.PathError](err); ok { // its name tells nobody anything
		err = fmt.Errorf("write a layer: %w", e.Err)
	}
	return layoutError(l.place.dir, err)
}

// seal ends a layer. It has it brought to the disk while others are still being made.
func (l *layerFile) seal() {
	if l != nil {
		go func() { l.synced <- l.f.Sync() }()
	}
}

// isIn reports whether a layer waits for its name in a layout.
func (l *layerFile) isIn(dir string) bool { return l != nil && !l.named && l.place.dir == dir }

// rename gives a layer that has been sealed its name.
func (l *layerFile) rename(name string) error {
	err := <-l.synced
	if err == nil {
		err = os.Rename(l.f.Name(), name)
	}
	l.named = err == nil
	return err
}

func (l *layerFile) close() {
	if !l.named {
		os.Remove(l.f.Name())
	}
	l.f.Close()
}
