package oci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes an OCI layout that has but this image as a tar archive: what skopeo and podman call oci-archive.
// Equal images with equal tags give equal bytes.
func (b *Image) WriteArchive(ctx context.Context, w io.Writer, tag string) error {
	digest, err := b.Digest()
	if err != nil {
		return err
	}
	index, err := json.Marshal(b.addTo(&v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, digest, tag))
	if err != nil {
		return err
	}
	a := newArchive(ctx, w)
	a.file(layoutName, []byte(layoutData))
	a.file(indexName, index)
	a.dir("blobs/")
	a.dir("blobs/sha256/")
	a.file("blobs/sha256/"+digest.Hex, b.rawManifest)
	a.file("blobs/sha256/"+b.manifest.Config.Digest.Hex, b.rawConfig)
	for _, l := range b.layers {
		a.layer("blobs/sha256/"+l.summary.Digest.Hex, l)
	}
	return a.close()
}

// dockerManifest is an entry of the file manifest.json in an archive of "docker save".
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// ErrNotDocker is the error about images that archives for docker load cannot hold.
var ErrNotDocker = errors.New("oci: docker load takes layers of gzip, and uncompressed ones")

// WriteDockerArchive writes a tar archive for docker load.
// tag is the image's name, and may be empty: then it is known by its ID alone.
// The image must not be one of zstd.
func (b *Image) WriteDockerArchive(ctx context.Context, w io.Writer, tag string) error {
	suffix := map[string]string{"gzip": ".tar.gz", "none": ".tar"}[b.store.codec.Name]
	if suffix == "" {
		return ErrNotDocker
	}
	m := dockerManifest{Config: b.manifest.Config.Digest.Hex + ".json", RepoTags: []string{}}
	if tag != "" {
		m.RepoTags = append(m.RepoTags, tag)
	}
	for _, l := range b.layers {
		m.Layers = append(m.Layers, l.summary.Digest.Hex+suffix)
	}
	manifest, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return err
	}
	a := newArchive(ctx, w)
	a.file("manifest.json", manifest)
	a.file(m.Config, b.rawConfig)
	for i, l := range b.layers {
		a.layer(m.Layers[i], l)
	}
	return a.close()
}

// An archive is a tar archive that is being written. The first error counts.
type archive struct {
	ctx context.Context
	tar *tar.Writer
	err error
}

func newArchive(ctx context.Context, w io.Writer) *archive {
	return &archive{ctx, tar.NewWriter(w), nil}
}

func (a *archive) begin(h *tar.Header) {
	if a.err == nil {
		a.err = a.ctx.Err()
	}
	if a.err == nil {
		h.ModTime, h.Format = modTime, tar.FormatUnknown
		a.err = a.tar.WriteHeader(h)
	}
}

func (a *archive) dir(name string) {
	a.begin(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755})
}

func (a *archive) file(name string, data []byte) {
	a.copy(name, bytes.NewReader(data), int64(len(data)))
}

func (a *archive) layer(name string, l *Layer) {
	r := l.open(false)
	a.copy(name, r, l.summary.Size)
	a.err = errors.Join(a.err, r.Close())
}

func (a *archive) copy(name string, r io.Reader, size int64) {
	a.begin(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size})
	if a.err == nil {
		_, a.err = io.Copy(a.tar, r)
	}
}

func (a *archive) close() error {
	if a.err == nil {
		a.err = a.tar.Close()
	}
	if a.err != nil {
		return fmt.Errorf("oci: archive: %w", a.err)
	}
	return nil
}
