package layout

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

// tempPrefix begins the names of files in a layout that are not complete.
const tempPrefix = tempfile.Prefix

// Sweep removes what dead processes of the user uid have left in the layout in dir: files that were not complete.
func Sweep(dir string, uid int) {
	for _, dir := range []string{dir, BlobDir(dir)} {
		tempfile.Sweep(dir, tempPrefix, uid)
	}
}

// A Error reports a directory in which there is something else than a layout,
// or which cannot be read or written.
type Error struct {
	Dir string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("layout %s: %v", e.Dir, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// failed makes a [*Error] of an error that may be nil.
func failed(dir string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{dir, err}
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
	index, err := readIndex(dir)
	if err != nil {
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
	if err := os.MkdirAll(BlobDir(dir), 0o777); err != nil {
		return nil, failed(dir, err)
	}
	done := new(Written)
	put := func(ctx context.Context, l v1.Layer) (w Written, err error) { return putBlob(ctx, dir, l) }
	for w, err := range par.Map(ctx, writers, 2*writers, blobs(img), put) {
		if err != nil {
			return nil, failed(dir, err)
		}
		done.Blobs += w.Blobs
		done.Bytes += w.Bytes
		done.Kept += w.Kept
		done.Reused += w.Reused
	}
	data, err := json.Marshal(addTo(index, d))
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		dir, name string
		data      []byte
	}{{BlobDir(dir), d.Digest.Hex, manifest}, {dir, layoutName, []byte(layoutData)}, {dir, indexName, data}} {
		if _, err := putFile(ctx, f.dir, f.name, bytes.NewReader(f.data)); err != nil {
			return nil, failed(dir, err)
		}
	}
	return done, nil
}

// describe returns what an index says of an image.
func describe(img v1.Image, tag string) (*v1.Descriptor, error) {
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

// blobs gives the layers of an image, each once, and its configuration.
func blobs(img v1.Image) iter.Seq2[v1.Layer, error] {
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

// readIndex reads the index of a layout, which is empty if there is none yet.
func readIndex(dir string) (*v1.IndexManifest, error) {
	empty := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return nil, failed(dir, err)
	}
	has := func(name string) bool {
		return slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == name })
	}
	if !has(indexName) {
		for _, e := range list {
			if e.Name() != "blobs" && e.Name() != layoutName { // an interrupted build has left these
				return nil, &Error{dir, errors.New("it has other files in it: " + e.Name())}
			}
		}
		return empty, nil
	}
	f, err := os.Open(filepath.Join(dir, indexName))
	if err != nil {
		return nil, failed(dir, err)
	}
	defer f.Close()
	index, err := v1.ParseIndexManifest(io.LimitReader(f, maxManifest))
	if err != nil {
		return nil, &Error{dir, fmt.Errorf("%s: %w", indexName, err)}
	}
	if index.SchemaVersion != 2 {
		return nil, &Error{dir, fmt.Errorf("%s has schema version %d", indexName, index.SchemaVersion)}
	}
	return index, nil
}

// maxManifest is how many bytes a manifest or an index has at most: as registries have it.
const maxManifest = 4 << 20

// addTo puts an image into an index.
func addTo(index *v1.IndexManifest, d *v1.Descriptor) *v1.IndexManifest {
	tag := d.Annotations[TagAnnotation]
	index.Manifests = slices.DeleteFunc(index.Manifests, func(o v1.Descriptor) bool {
		if o.Annotations[TagAnnotation] != tag {
			return false
		}
		if o.Platform == nil || d.Platform == nil {
			return tag != "" || o.Digest == d.Digest
		}
		return o.Platform.Equals(*d.Platform)
	})
	index.Manifests = append(index.Manifests, *d)
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
	if l, ok := l.(interface{ Placed() *Blob }); ok && l.Placed().isIn(dir) {
		return Written{Blobs: 1, Bytes: size}, l.Placed().rename(name)
	}
	r, err := l.Compressed()
	if err != nil {
		return Written{}, err
	}
	defer r.Close()
	n, err := putFile(ctx, BlobDir(dir), digest.Hex, r)
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
func putFile(ctx context.Context, dir, name string, r io.Reader) (n int64, err error) {
	f, err := tempfile.NewFile(filepath.Join(dir, name), 0o666)
	if err != nil {
		return 0, err
	}
	defer f.Discard()
	if n, err = io.Copy(ctxio.Writer(ctx, f.File), r); err != nil {
		return n, err
	}
	return n, f.Commit()
}

// Manifest returns the manifest of an image in a layout.
// The image is named DIR or DIR:TAG; arch is Go's name of its architecture, and may be empty.
func Manifest(name, arch string) (*v1.Manifest, error) {
	dir, tag := name, ""
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		dir, tag, _ = strings.Cut(name, ":")
	}
	if _, err := os.Stat(filepath.Join(dir, indexName)); err != nil {
		return nil, failed(dir, err)
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
			return nil, failed(dir, err)
		}
		defer f.Close()
		m, err := v1.ParseManifest(io.LimitReader(f, maxManifest))
		if err != nil {
			return nil, &Error{dir, fmt.Errorf("manifest %s: %w", d.Digest, err)}
		}
		return m, nil
	}
	return nil, &Error{dir, errors.New("there is no such image")}
}
