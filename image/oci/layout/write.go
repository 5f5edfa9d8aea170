package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// Written tells what was written.
type Written struct {
	Blobs  int   // layers and configurations that were written
	Bytes  int64 // their bytes
	Kept   int   // those that were there
	Reused int64 // their bytes
}

// writers is how many blobs are compared or written at a time.
const writers = 4

// Write puts an image into the OCI layout in dir, which is created if need be.
// tag is its name there, and may be empty.
//
// The image takes the place of one for the same platform with the same tag; all others stay,
// so that several builds make an image for several architectures.
// Blobs that are there, with the right bytes, stay as they are. Layers that have been written to this directory
// when they were made (see [Place]) get but their names.
// The index is written last: until then, the layout is what it was.
func Write(ctx context.Context, dir, tag string, img v1.Image) (*Written, error) {
	if _, err := readIndex(dir); err != nil { // before anything is written
		return nil, err
	}
	d, err := describe(img, tag)
	if err != nil {
		return nil, err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return nil, err
	}
	done := new(Written)
	put := func(ctx context.Context, l v1.Layer) (w Written, err error) { return putBlob(ctx, dir, l) }
	for w, err := range par.Map(ctx, writers, 2*writers, blobsOf(img), put) {
		if err != nil {
			return nil, failed(dir, err)
		}
		done.Blobs += w.Blobs
		done.Bytes += w.Bytes
		done.Kept += w.Kept
		done.Reused += w.Reused
	}
	_, err = putFile(ctx, filepath.Join(BlobDir(dir), d.Digest.Hex), bytes.NewReader(manifest))
	if err == nil {
		_, err = putFile(ctx, filepath.Join(dir, layoutName), strings.NewReader(layoutData))
	}
	if err == nil {
		err = updateIndex(ctx, dir, d)
	}
	if err != nil {
		return nil, failed(dir, err)
	}
	return done, nil
}

var errNothing = errors.New("layout: write: there is no image, or nothing to write to")

// describe returns what an index says of an image.
func describe(img v1.Image, tag string) (*v1.Descriptor, error) {
	if img == nil {
		return nil, errNothing
	}
	d := new(v1.Descriptor)
	var err error
	if d.MediaType, err = img.MediaType(); err != nil {
		return nil, err
	}
	if d.Size, err = img.Size(); err != nil {
		return nil, err
	}
	if d.Digest, err = img.Digest(); err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	if config.Architecture != "" { // artifacts have none
		d.Platform = config.Platform()
	}
	if tag != "" {
		d.Annotations = map[string]string{TagAnnotation: tag}
	}
	return d, nil
}

// blobsOf gives the layers of an image, each once, and its configuration.
func blobsOf(img v1.Image) iter.Seq2[v1.Layer, error] {
	return func(yield func(v1.Layer, error) bool) {
		layers, err := img.Layers()
		seen := make(map[v1.Hash]bool)
		for _, l := range layers {
			digest, err := l.Digest()
			if seen[digest] {
				continue
			}
			seen[digest] = true
			if !yield(l, err) {
				return
			}
		}
		if err != nil {
			yield(nil, err)
			return
		}
		yield(partial.ConfigLayer(img))
	}
}

// putBlob writes a blob to a layout if it is not there.
func putBlob(ctx context.Context, dir string, l v1.Layer) (Written, error) {
	digest, err := l.Digest()
	if err != nil {
		return Written{}, err
	}
	size, err := l.Size()
	if err != nil {
		return Written{}, err
	}
	name := filepath.Join(BlobDir(dir), digest.Hex)
	same, err := hasBlob(ctx, name, digest, size)
	if same || err != nil {
		return Written{Kept: 1, Reused: size}, err
	}
	if l, ok := l.(interface{ Placed() *Blob }); ok && l.Placed().isIn(dir) {
		return Written{Blobs: 1, Bytes: size}, l.Placed().rename(name)
	}
	r, err := l.Compressed()
	if err != nil {
		return Written{}, err
	}
	defer r.Close()
	n, err := putFile(ctx, name, r)
	if err == nil && n != size {
		err = fmt.Errorf("blob %s has %d bytes instead of %d", digest, n, size)
	}
	return Written{Blobs: 1, Bytes: n}, err
}

// hasBlob reports whether a file is there, and has the bytes that it should have.
func hasBlob(ctx context.Context, name string, digest v1.Hash, size int64) (bool, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		return false, err
	}
	got, _, err := v1.SHA256(ctxio.Reader(ctx, f))
	return got == digest, err
}

// putFile writes a file, which appears when it is complete.
func putFile(ctx context.Context, name string, r io.Reader) (n int64, err error) {
	var f *tempfile.File
	err = inDir(filepath.Dir(name), func() (err error) {
		f, err = tempfile.NewFile(name, 0o666)
		return err
	})
	if err != nil {
		return 0, err
	}
	defer f.Discard()
	if n, err = io.Copy(ctxio.Writer(ctx, f.File), r); err != nil {
		return n, err
	}
	return n, f.Commit()
}

// inDir makes a directory, and then a file in it.
// Another build that gives up may remove the directory in between, as long as it is empty.
func inDir(dir string, create func() error) (err error) {
	for range 100 {
		if err = os.MkdirAll(dir, 0o777); err == nil {
			err = create()
		}
		// MkdirAll reports one that has just gone as one that exists.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return err
}
