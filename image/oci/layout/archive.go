package layout

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// WriteArchive writes an OCI layout that has but this image as a tar archive: what skopeo and podman call oci-archive.
// Equal images with equal tags give equal bytes.
func WriteArchive(ctx context.Context, w io.Writer, tag string, img v1.Image) error {
	if w == nil {
		return errNothing
	}
	d, err := describe(img, tag)
	if err != nil {
		return err
	}
	index, err := json.Marshal(addTo(&v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}, d))
	if err != nil {
		return err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	config, name, err := rawConfig(img)
	if err != nil {
		return err
	}
	a := newArchive(ctx, w)
	a.file(layoutName, []byte(layoutData))
	a.file(indexName, index)
	a.dir("blobs/")
	a.dir("blobs/sha256/")
	a.file(blobName(d.Digest), manifest)
	a.file(blobName(name), config)
	a.layers(img, func(l v1.Layer) (string, error) {
		digest, err := l.Digest()
		return blobName(digest), err
	})
	return a.close()
}

// rawConfig returns the bytes of the configuration, and their digest.
func rawConfig(img v1.Image) (config []byte, name v1.Hash, err error) {
	if config, err = img.RawConfigFile(); err == nil {
		name, err = img.ConfigName()
	}
	return config, name, err
}

// ErrNotDocker is the error about images that archives for docker load cannot hold.
var ErrNotDocker = errors.New("layout: docker load takes layers of gzip, and uncompressed ones")

// dockerName returns the name that a layer has in an archive for docker load.
func dockerName(l v1.Layer) (string, error) {
	digest, err := l.Digest()
	if err != nil {
		return "", err
	}
	mediaType, err := l.MediaType()
	if err != nil {
		return "", err
	}
	switch mediaType {
	case types.OCILayer, types.DockerLayer:
		return digest.Hex + ".tar.gz", nil
	case types.OCIUncompressedLayer, types.DockerUncompressedLayer:
		return digest.Hex + ".tar", nil
	}
	return "", ErrNotDocker
}

// WriteDockerArchive writes a tar archive for docker load.
// tag is the image's name, and may be empty: then it is known by its ID alone.
// The layers must not be of zstd: else the error is [ErrNotDocker].
func WriteDockerArchive(ctx context.Context, w io.Writer, tag string, img v1.Image) error {
	if w == nil || img == nil {
		return errNothing
	}
	config, name, err := rawConfig(img)
	if err != nil {
		return err
	}
	m := dockerManifest{Config: name.Hex + ".json", RepoTags: []string{}}
	if tag != "" {
		m.RepoTags = append(m.RepoTags, tag)
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		name, err := dockerName(l)
		if err != nil {
			return err
		}
		m.Layers = append(m.Layers, name)
	}
	manifest, err := json.Marshal([]dockerManifest{m})
	if err != nil {
		return err
	}
	a := newArchive(ctx, w)
	a.file(savedName, manifest)
	a.file(m.Config, config)
	a.layers(img, dockerName)
	return a.close()
}

// modTime is that of all files in archives.
var modTime = time.Unix(1, 0)

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

// layers writes the layers of an image, each once.
func (a *archive) layers(img v1.Image, name func(v1.Layer) (string, error)) {
	layers, err := img.Layers()
	a.err = errors.Join(a.err, err)
	seen := make(map[string]bool)
	for _, l := range layers {
		name, err := name(l)
		if a.err = errors.Join(a.err, err); a.err != nil {
			return
		}
		if !seen[name] {
			seen[name] = true
			a.layer(name, l)
		}
	}
}

func (a *archive) layer(name string, l v1.Layer) {
	size, err := l.Size()
	if err != nil {
		a.err = err
		return
	}
	r, err := l.Compressed()
	if err != nil {
		a.err = err
		return
	}
	a.copy(name, r, size)
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
		return fmt.Errorf("layout: archive: %w", a.err)
	}
	return nil
}
