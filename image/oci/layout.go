package oci

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// Files of a layout: image-spec, image-layout.md.
const (
	layoutName = "oci-layout"
	layoutData = `{"imageLayoutVersion":"1.0.0"}`
	indexName  = "index.json"
)

// TagAnnotation is the annotation of an image in a layout that has its tag.
const TagAnnotation = "org.opencontainers.image.ref.name"

// TempPrefix begins the names of files in a layout that are not complete.
// See package internal/tempfile for how to tell those that dead processes have left.
const TempPrefix = ".nix2img-"

// A LayoutError reports a directory in which there is something else than a layout,
// or which cannot be read or written.
type LayoutError struct {
	Dir string
	Err error
}

func (e *LayoutError) Error() string { return fmt.Sprintf("oci: layout %s: %v", e.Dir, e.Err) }
func (e *LayoutError) Unwrap() error { return e.Err }

// layoutError makes a [*LayoutError] of an error that may be nil.
func layoutError(dir string, err error) error {
	if err == nil {
		return nil
	}
	return &LayoutError{dir, err}
}

// Written tells what was written.
type Written struct {
	Blobs  int   // layers and configurations that were written
	Bytes  int64 // their bytes
	Kept   int   // those that were there
	Reused int64 // their bytes
}

// BlobDir returns the folder of a layout that has the blobs.
func BlobDir(dir string) string { return filepath.Join(dir, "blobs", "sha256") }

// WriteLayout puts the image into the OCI layout in dir, which is created if need be.
// tag is its name there, and may be empty.
//
// The image takes the place of one for the same platform with the same tag; all others stay,
// so that several builds make an image for several architectures.
// Blobs that are there, with the right bytes, stay as they are. Layers that were written to this directory
// when they were made, because of [Runtime.Layout], get but their names.
// The index is written last: until then, the layout is what it was.
func (b *Image) WriteLayout(ctx context.Context, dir, tag string) (*Written, error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(BlobDir(dir), 0o777); err != nil {
		return nil, layoutError(dir, err)
	}
	done := new(Written)
	put := func(ctx context.Context, l v1.Layer) (w Written, err error) { return putBlob(ctx, dir, l) }
	workers := min(par.Workers(b.store.rt.Workers), 4)
	for w, err := range par.Map(ctx, workers, 2*workers, b.blobs(), put) {
		if err != nil {
			return nil, layoutError(dir, err)
		}
		done.Blobs += w.Blobs
		done.Bytes += w.Bytes
		done.Kept += w.Kept
		done.Reused += w.Reused
	}
	digest, err := b.Digest()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(b.addTo(index, digest, tag))
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		dir, name string
		data      []byte
	}{{BlobDir(dir), digest.Hex, b.rawManifest}, {dir, layoutName, []byte(layoutData)}, {dir, indexName, data}} {
		if _, err := putFile(f.dir, f.name, bytes.NewReader(f.data)); err != nil {
			return nil, layoutError(dir, err)
		}
	}
	return done, nil
}

// blobs gives the layers and the configuration.
func (b *Image) blobs() iter.Seq2[v1.Layer, error] {
	return func(yield func(v1.Layer, error) bool) {
		for _, l := range b.layers {
			if !yield(l, nil) {
				return
			}
		}
		yield(partial.ConfigLayer(b))
	}
}

// readIndex reads the index of a layout, which is empty if there is none yet.
func readIndex(dir string) (*v1.IndexManifest, error) {
	empty := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, layoutError(dir, err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	if !has(indexName) {
		for _, e := range list {
			if e.Name() != "blobs" && e.Name() != layoutName { // an interrupted build has left these
				return nil, &LayoutError{dir, errors.New("it has other files in it: " + e.Name())}
			}
		}
		return empty, nil
	}
	f, err := os.Open(filepath.Join(dir, indexName))
	if err != nil {
		return nil, layoutError(dir, err)
	}
	defer f.Close()
	index, err := v1.ParseIndexManifest(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, &LayoutError{dir, fmt.Errorf("%s: %w", indexName, err)}
	}
	if index.SchemaVersion != 2 {
		return nil, &LayoutError{dir, fmt.Errorf("%s has schema version %d", indexName, index.SchemaVersion)}
	}
	return index, nil
}

// maxManifest is how many bytes a manifest or an index has at most: as registries have it.
const maxManifest = 4 << 20

// addTo puts the image into an index.
func (b *Image) addTo(index *v1.IndexManifest, digest v1.Hash, tag string) *v1.IndexManifest {
	d := v1.Descriptor{
		MediaType: types.OCIManifestSchema1,
		Size:      int64(len(b.rawManifest)),
		Digest:    digest,
		Platform:  &v1.Platform{OS: b.config.OS, Architecture: b.config.Architecture},
	}
	if tag != "" {
		d.Annotations = map[string]string{TagAnnotation: tag}
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(o v1.Descriptor) bool {
		return o.Annotations[TagAnnotation] == tag && o.Platform != nil && o.Platform.Equals(*d.Platform)
	})
	index.Manifests = append(index.Manifests, d)
	return index
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
	if l, ok := l.(*Layer); ok && l.file.isIn(dir) {
		return Written{Blobs: 1, Bytes: size}, l.file.rename(name)
	}
	r, err := l.Compressed()
	if err != nil {
		return Written{}, err
	}
	defer r.Close()
	n, err := putFile(BlobDir(dir), digest.Hex, r)
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
func putFile(dir, name string, r io.Reader) (n int64, err error) {
	f, err := tempfile.Create(dir, TempPrefix, "", 0o666)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return n, errors.Join(err, f.Close())
}

// LayoutPaths returns the base names of the store objects in each layer of an image in a layout, for [Layering].
// The image is named DIR or DIR:TAG; arch is Go's name of its architecture, and may be empty.
// An image that this package has not made is an error.
func LayoutPaths(name, arch string) ([][]string, error) {
	dir, tag := name, ""
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		dir, tag, _ = strings.Cut(name, ":")
	}
	if _, err := os.Stat(filepath.Join(dir, indexName)); err != nil {
		return nil, layoutError(dir, err)
	}
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range slices.Backward(index.Manifests) {
		if tag != "" && d.Annotations[TagAnnotation] != tag || !d.MediaType.IsImage() {
			continue
		}
		if arch != "" && d.Platform != nil && d.Platform.Architecture != arch {
			continue
		}
		f, err := os.Open(filepath.Join(BlobDir(dir), d.Digest.Hex))
		if err != nil {
			return nil, layoutError(dir, err)
		}
		defer f.Close()
		m, err := v1.ParseManifest(io.LimitReader(f, maxManifest))
		if err != nil {
			return nil, &LayoutError{dir, fmt.Errorf("manifest %s: %w", d.Digest, err)}
		}
		return ManifestPaths(m)
	}
	return nil, &LayoutError{dir, errors.New("there is no such image")}
}

// ManifestPaths returns the base names of the store objects in each layer of an image, for [Layering].
// An image that this package has not made is an error.
func ManifestPaths(m *v1.Manifest) (layers [][]string, err error) {
	for _, l := range m.Layers {
		if names := l.Annotations[PathsAnnotation]; names != "" {
			layers = append(layers, strings.Fields(names))
		}
	}
	if layers == nil {
		return nil, errors.New("oci: nix2img did not make this image: its layers do not tell what is in them")
	}
	return layers, nil
}
