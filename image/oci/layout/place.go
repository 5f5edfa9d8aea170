package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// A Place is the folder for blobs of the layout that an image will go into.
type Place struct {
	dir   string // of the layout
	ours  bool   // nobody knew the directory before
	files []*Blob
}

// OpenPlace prepares a layout for layers, which get no names before [Write]. It must be closed.
func OpenPlace(dir string) (*Place, error) {
	if dir == "" {
		dir = "."
	}
	if _, err := readIndex(dir); err != nil {
		return nil, err
	}
	_, err := os.Lstat(dir)
	p := &Place{dir: dir, ours: errors.Is(err, fs.ErrNotExist)}
	if err := inDir(BlobDir(dir), func() error { return nil }); err != nil {
		return nil, failed(dir, err)
	}
	return p, nil
}

// Close gives up what has got no name, and directories without anything in them.
func (p *Place) Close() {
	if p.dir == "" {
		return
	}
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

// A Blob is a layer that is written straight to where it is to be, but without its name.
// Layers with a method "Placed() *Blob" have one, or nil if they have not.
// Writing to a nil Blob does nothing.
type Blob struct {
	place  *Place
	f      *os.File
	size   int64
	named  bool
	sealed chan struct{} // closed when it has been brought to the disk
	err    error         // of that
}

// Create begins a layer.
func (p *Place) Create() (*Blob, error) {
	if p.dir == "" {
		return nil, errors.New("layout: not a Place of OpenPlace")
	}
	var f *os.File
	err := inDir(BlobDir(p.dir), func() (err error) {
		f, err = tempfile.Create(BlobDir(p.dir), tempPrefix, "", 0o666)
		return err
	})
	if err != nil {
		return nil, failed(p.dir, err)
	}
	b := &Blob{place: p, f: f, sealed: make(chan struct{})}
	p.files = append(p.files, b)
	return b, nil
}

// Write appends bytes.
func (b *Blob) Write(p []byte) (int, error) {
	if b == nil {
		return len(p), nil
	}
	if b.place == nil {
		return 0, os.ErrInvalid
	}
	n, err := b.f.Write(p)
	b.size += int64(n)
	if e, ok := errors.AsType[*fs.PathError](err); ok { // its name tells nobody anything
		err = fmt.Errorf("write a layer: %w", e.Err)
	}
	return n, failed(b.place.dir, err)
}

// ReadAt reads what has been written.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	if b == nil {
		return 0, os.ErrInvalid
	}
	return b.f.ReadAt(p, off)
}

// Size returns how many bytes have been written.
func (b *Blob) Size() int64 {
	if b == nil {
		return 0
	}
	return b.size
}

// Seal ends a layer. It has it brought to the disk while others are still being made.
func (b *Blob) Seal() {
	if b != nil && b.sealed != nil {
		go func() {
			defer par.Recover()
			b.err = b.f.Sync()
			close(b.sealed)
		}()
	}
}

// isIn reports whether a layer waits for its name in a layout.
func (b *Blob) isIn(dir string) bool {
	return b != nil && !b.named && filepath.Clean(b.place.dir) == filepath.Clean(dir)
}

// rename gives a layer that has been sealed its name. If that fails, it can be tried again.
func (b *Blob) rename(name string) error {
	<-b.sealed
	err := b.err
	if err == nil {
		err = os.Rename(b.f.Name(), name)
	}
	b.named = err == nil
	return err
}

func (b *Blob) close() {
	if !b.named {
		os.Remove(b.f.Name())
	}
	b.f.Close()
}
