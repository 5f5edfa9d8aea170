package layout

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/internal/regular"
)

// blobs are the files of a layout in a directory, or of an archive.
type blobs struct {
	name  string // of the directory, or the archive
	isDir bool

	file  *os.File // the archive
	found map[string]*io.SectionReader
	links map[string]string // hard and symbolic links of the archive, by what they lead to
}

// A blob is an open file. It may be read at any place.
type blob struct {
	io.ReaderAt
	size int64
	file *os.File // that is closed with it, or nil
}

func (b *blob) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// maxEntries is how many files an archive may have: layers, and some more for each.
const maxEntries = 1 << 20

// openBlobs opens a directory, or an archive.
func openBlobs(name string) (*blobs, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	b := &blobs{name: name, isDir: info.IsDir()}
	if b.isDir {
		return b, nil
	}
	if b.file, err = regular.Open(name); err != nil {
		return nil, err
	}
	if err := b.list(); err != nil {
		b.file.Close()
		return nil, &FormatError{name, err}
	}
	return b, nil
}

// list finds the files of an archive.
func (b *blobs) list() error {
	b.found, b.links = make(map[string]*io.SectionReader), make(map[string]string)
	for r := tar.NewReader(b.file); ; {
		h, err := r.Next()
		switch {
		case err == io.EOF && len(b.found) > 0:
			return nil
		case err != nil:
			return errNoImage
		case len(b.found)+len(b.links) > maxEntries:
			return fmt.Errorf("it has more than %d files", maxEntries)
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeSymlink: // as the layers that two images have in common
			b.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			b.links[name] = path.Clean(h.Linkname)
		case tar.TypeReg:
			at, err := b.file.Seek(0, io.SeekCurrent) // the reader does not read ahead
			if err != nil {
				return err
			}
			b.found[name] = io.NewSectionReader(b.file, at, h.Size)
		}
	}
}

// maxLinks is how many links of an archive may lead to each other.
const maxLinks = 10

// open opens a file. Its name is relative.
func (b *blobs) open(name string) (*blob, error) {
	if b.isDir {
		return openBlob(filepath.Join(b.name, filepath.FromSlash(name)))
	}
	at := name
	for range maxLinks {
		if to, ok := b.links[at]; ok {
			at = to
		}
	}
	r := b.found[at]
	if r == nil {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	return &blob{ReaderAt: r, size: r.Size()}, nil
}

func openBlob(name string) (*blob, error) {
	f, err := regular.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &blob{f, info.Size(), f}, nil
}

func (b *blobs) has(name string) bool {
	f, err := b.open(name)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

func (b *blobs) close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// Split divides the name of an image, DIR or DIR:TAG, or the same of a file, into what is there and the tag.
func Split(name string) (file, tag string) {
	exists := func(file string) bool {
		_, err := os.Lstat(file)
		return err == nil
	}
	if exists(name) {
		return name, ""
	}
	for i, c := range name {
		if c == ':' && exists(name[:i]) {
			return name[:i], name[i+1:]
		}
	}
	file, tag, _ = strings.Cut(name, ":")
	return file, tag
}
