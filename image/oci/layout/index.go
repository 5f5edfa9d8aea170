package layout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

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

// An Error reports a directory in which there is something else than a layout,
// or which cannot be read or written.
type Error struct {
	Dir string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("layout %s: %v", e.Dir, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// failed makes a [*Error] of an error that may be nil, or one already.
func failed(dir string, err error) error {
	if _, ok := errors.AsType[*Error](err); ok || err == nil {
		return err
	}
	return &Error{dir, err}
}

// BlobDir returns the folder of a layout that has the blobs.
func BlobDir(dir string) string { return filepath.Join(dir, "blobs", "sha256") }

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
			// An interrupted build has left these, or another one is about to write the index.
			if e.Name() != "blobs" && e.Name() != layoutName && !strings.HasPrefix(e.Name(), tempPrefix) {
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

// updateIndex puts an image into the index of a layout, and leaves in it what others have put there meanwhile.
func updateIndex(ctx context.Context, dir string, d *v1.Descriptor) error {
	unlock, err := tempfile.Lock(filepath.Join(dir, tempPrefix+"lock"))
	if err != nil {
		return err
	}
	defer unlock()
	index, err := readIndex(dir)
	if err != nil {
		return err
	}
	data, err := json.Marshal(addTo(index, d))
	if err != nil {
		return err
	}
	_, err = putFile(ctx, filepath.Join(dir, indexName), bytes.NewReader(data))
	return err
}
