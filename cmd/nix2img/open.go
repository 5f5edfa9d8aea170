package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/sif"
	"github.com/nix2img/nix2img/squashfs"
)

// files is the root file system of an image. Symbolic links are followed within it.
type files interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
}

// openFiles opens the root file system of an image of any kind. arch is that of an OCI image, or empty: see openStored.
// If all of it is to be read, layers are unpacked into a temporary file.
func openFiles(ctx context.Context, name, arch string, all bool) (fsys files, close func() error, err error) {
	if !layout.Detect(name) {
		img, err := openImage(name)
		if err != nil {
			return nil, nil, err
		}
		if img.no != nil {
			img.Close()
			return nil, nil, withHint(fmt.Errorf("open %s: %w", name, img.no), "nix2img inspect lists what is in it")
		}
		return img, img.Close, nil
	}
	stored, err := openStored(name, arch)
	if err != nil {
		return nil, nil, err
	}
	var f *layout.Files
	if all {
		f, err = stored.Unpack(ctx, "")
	} else {
		f, err = stored.Files(ctx)
	}
	if err != nil {
		stored.Close()
		return nil, nil, err
	}
	return f, func() error { return errors.Join(f.Close(), stored.Close()) }, nil
}

// openStored opens an image in an OCI layout or an archive, NAME or NAME:TAG.
// If there are several, it is that for arch, or that for this machine if arch is empty.
func openStored(name, arch string) (*layout.Stored, error) {
	stored, err := layout.Open(name, &layout.Choice{Arch: arch, Host: runtime.GOARCH})
	if e, ok := errors.AsType[*layout.ChoiceError](err); ok && len(e.Archs) > 0 {
		err = withHint(err, "--arch ARCH says which one is meant")
	}
	return stored, err
}

// imageFile is an image that has been opened: a SIF or a bare squashfs, of any writer.
type imageFile struct {
	*squashfs.FS // nil: see no
	file         *os.File
	size         int64
	sif          *sif.File      // nil: a bare squashfs
	partition    sif.Extent     // where the squashfs lies
	no           *sif.NoFSError // why there is no root file system that can be read
}

func openImage(name string) (*imageFile, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe would wait for who writes to it
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, reason(err))
	}
	img := &imageFile{file: f}
	if err := img.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return img, nil
}

func (img *imageFile) open() (err error) {
	info, err := img.file.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return errors.New("is a directory")
	}
	if mode := info.Mode().Type(); mode != 0 && mode != fs.ModeDevice {
		return errors.New("neither a file nor a block device")
	}
	// A block device has an end, but no size.
	if img.size, err = img.file.Seek(0, io.SeekEnd); err != nil {
		return reason(err)
	}
	switch {
	case sif.Detect(img.file):
		if img.sif, err = sif.Open(img.file); err != nil {
			return err
		}
		img.partition = img.sif.Partition
		if img.FS, err = img.sif.FS(); errors.As(err, &img.no) {
			return nil
		}
		return err
	case isSquashfs(img.file):
		img.partition.Size = img.size
	default:
		return errors.New("neither a SIF nor a squashfs image")
	}
	img.FS, err = squashfs.Open(io.NewSectionReader(img.file, img.partition.Offset, img.partition.Size))
	return err
}

func isSquashfs(r io.ReaderAt) bool {
	var magic [4]byte
	_, err := r.ReadAt(magic[:], 0)
	return err == nil && string(magic[:]) == "hsqs"
}

func (img *imageFile) Close() error { return img.file.Close() }

// record returns the build record: that of the SIF, or the one in the root file system.
// It is nil if nix2img did not make the image.
func (img *imageFile) record() (*image.Record, error) {
	switch {
	case img.sif != nil && img.sif.Record != nil:
		return img.sif.Record, nil
	case img.FS == nil:
		return nil, nil
	}
	return readRecord(img.FS)
}

// readRecord reads the build record in the root file system of an image.
// It is nil if nix2img did not make the image.
func readRecord(fsys fs.FS) (*image.Record, error) {
	f, err := fsys.Open(image.RecordPath)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return image.ReadRecord(f)
}

// inImage returns the name that io/fs has for a path in an image.
func inImage(name string) string {
	var elems []string
	for elem := range strings.SplitSeq(name, "/") {
		switch elem {
		case "", ".":
		case "..":
			elems = elems[:max(0, len(elems)-1)]
		default:
			elems = append(elems, elem)
		}
	}
	if len(elems) == 0 {
		return "."
	}
	return strings.Join(elems, "/")
}
