package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/internal/ctxio"
)

// Media types of a SIF in a registry; the names are those of SingularityCE and Apptainer (pkg oras).
const (
	SIFConfigType types.MediaType = "application/vnd.sylabs.sif.config.v1+json"
	SIFLayerType  types.MediaType = "application/vnd.sylabs.sif.layer.v1.sif"

	// Written by Singularity 3.0; it is spelt so.
	oldSIFLayerType types.MediaType = "appliciation/vnd.sylabs.sif.layer.tar"
)

// emptyConfigType is that of {}, the "empty descriptor" of the OCI image specification.
const emptyConfigType types.MediaType = "application/vnd.oci.empty.v1+json"

const titleAnnotation = "org.opencontainers.image.title"

// ErrNotSIF is returned for an artifact that is not a SIF.
var ErrNotSIF = errors.New("not a SIF, but another kind of image or artifact")

// SIF makes an artifact of the SIF file in r, which it reads once for its digest.
// The file gets its name from title.
func SIF(ctx context.Context, r io.ReaderAt, size int64, title string) (v1.Image, error) {
	if r == nil {
		return nil, fmt.Errorf("registry: digest of %s: %w", title, errNothing)
	}
	layer, err := newFileLayer(ctx, r, size, SIFLayerType, title)
	if err != nil {
		return nil, fmt.Errorf("registry: digest of %s: %w", title, err)
	}
	return newArtifact(&v1.Manifest{}, SIFConfigType, layer)
}

// SIFLayer returns the layer of an artifact that is a SIF file, and the file's name, which may be empty.
// The error is [ErrNotSIF].
func SIFLayer(img v1.Image) (v1.Layer, string, error) {
	if img == nil {
		return nil, "", ErrNotSIF
	}
	m, err := img.Manifest()
	if err != nil {
		return nil, "", err
	}
	if len(m.Layers) != 1 || m.Layers[0].MediaType != SIFLayerType && m.Layers[0].MediaType != oldSIFLayerType {
		return nil, "", ErrNotSIF
	}
	l, err := img.LayerByDigest(m.Layers[0].Digest)
	return l, m.Layers[0].Annotations[titleAnnotation], err
}

// Document is what is said about an image or artifact.
type Document struct {
	Type  types.MediaType
	Title string // the name of the file that tools such as "oras pull" make of it
	Data  []byte
}

// Attach sends a document about the image or artifact that about describes, into the same repository.
// A document with the same contents is kept only once.
func Attach(ctx context.Context, subject name.Digest, about v1.Descriptor, doc *Document, rt *Runtime) (name.Digest, error) {
	if doc == nil || subject == (name.Digest{}) {
		return name.Digest{}, fmt.Errorf("registry: attach to %s: %w", subject, errNothing)
	}
	digest, err := attach(ctx, subject, about, doc, rt)
	if err != nil {
		return digest, fmt.Errorf("registry: attach %s to %s: %w", doc.Type, subject, err)
	}
	return digest, nil
}

func attach(ctx context.Context, subject name.Digest, about v1.Descriptor, doc *Document, rt *Runtime) (name.Digest, error) {
	layer, err := newFileLayer(ctx, bytes.NewReader(doc.Data), int64(len(doc.Data)), doc.Type, doc.Title)
	if err != nil {
		return name.Digest{}, err
	}
	img, err := newArtifact(&v1.Manifest{ArtifactType: string(doc.Type), Subject: &about}, emptyConfigType, layer)
	if err != nil {
		return name.Digest{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return name.Digest{}, err
	}
	result := subject.Context().Digest(digest.String())
	s, err := open(ctx, subject.Context(), rt, transport.PushScope)
	if err != nil {
		return result, err
	}
	// It also keeps the list of referrers, where the registry does not.
	if err := remote.Write(result, img, remote.WithContext(ctx), remote.WithTransport(s.client.Transport)); err != nil {
		return result, s.fail(ctx, err)
	}
	return result, nil
}

// Subject describes m as a document refers to it.
func Subject(m Manifest) (v1.Descriptor, error) {
	if m == nil {
		return v1.Descriptor{}, fmt.Errorf("registry: %w", errNothing)
	}
	raw, err := m.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	t, err := m.MediaType()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, size, err := v1.SHA256(bytes.NewReader(raw))
	return v1.Descriptor{MediaType: t, Size: size, Digest: digest}, err
}

// An artifact is a manifest with an empty configuration and one layer.
type artifact struct {
	raw   []byte
	layer partial.CompressedLayer
}

// newArtifact completes a manifest, and makes an image of it.
func newArtifact(m *v1.Manifest, configType types.MediaType, layer partial.CompressedLayer) (v1.Image, error) {
	a := &artifact{layer: layer}
	desc, err := partial.Descriptor(layer)
	if err != nil {
		return nil, err
	}
	config, _ := a.RawConfigFile()
	digest, size, err := v1.SHA256(bytes.NewReader(config))
	if err != nil {
		return nil, err
	}
	m.SchemaVersion = 2
	m.MediaType = types.OCIManifestSchema1
	m.Config = v1.Descriptor{MediaType: configType, Size: size, Digest: digest}
	m.Layers = []v1.Descriptor{*desc}
	if a.raw, err = json.Marshal(m); err != nil {
		return nil, err
	}
	return partial.CompressedToImage(a)
}

func (a *artifact) MediaType() (types.MediaType, error)                    { return types.OCIManifestSchema1, nil }
func (a *artifact) RawManifest() ([]byte, error)                           { return a.raw, nil }
func (a *artifact) RawConfigFile() ([]byte, error)                         { return []byte("{}"), nil }
func (a *artifact) LayerByDigest(v1.Hash) (partial.CompressedLayer, error) { return a.layer, nil }

// A fileLayer is a layer that is a file as it is.
type fileLayer struct {
	r    io.ReaderAt
	desc v1.Descriptor
}

// newFileLayer reads the file once, for its digest.
func newFileLayer(ctx context.Context, r io.ReaderAt, size int64, t types.MediaType, title string) (*fileLayer, error) {
	digest, _, err := v1.SHA256(ctxio.Reader(ctx, io.NewSectionReader(r, 0, size)))
	if err != nil {
		return nil, err
	}
	desc := v1.Descriptor{MediaType: t, Size: size, Digest: digest}
	if title != "" {
		desc.Annotations = map[string]string{titleAnnotation: title}
	}
	return &fileLayer{r, desc}, nil
}

func (l *fileLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *fileLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *fileLayer) Descriptor() (*v1.Descriptor, error) { return &l.desc, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error) {
	return fileReader{io.NewSectionReader(l.r, 0, l.desc.Size)}, nil
}

type fileReader struct{ *io.SectionReader }

func (fileReader) Close() error { return nil }
