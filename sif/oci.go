package sif

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sylabs/sif/v2/pkg/sif"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// squashfsLayer is the media type of a layer that is a squashfs; SingularityCE's choice.
const squashfsLayer types.MediaType = "application/vnd.sylabs.image.layer.v1.squashfs"

// addOCI makes the root file system, which partition reads, the layer of an OCI image.
func (f *frame) addOCI(ctx context.Context, partition io.ReaderAt, r *image.Record) error {
	layer, size, err := v1.SHA256(ctxio.Reader(ctx, io.NewSectionReader(partition, 0, f.root)))
	if err != nil {
		return fmt.Errorf("sif: read back the layer: %w", err)
	}
	f.addLayer(layer)
	config, err := f.addJSON(sif.DataOCIBlob, types.OCIConfigJSON, imageConfig(r, layer))
	if err != nil {
		return err
	}
	manifest, err := f.addJSON(sif.DataOCIBlob, types.OCIManifestSchema1, &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        config,
		Layers:        []v1.Descriptor{{MediaType: squashfsLayer, Size: size, Digest: layer}},
	})
	if err != nil {
		return err
	}
	manifest.Platform = &v1.Platform{OS: "linux", Architecture: r.Architecture}
	_, err = f.addJSON(sif.DataOCIRootIndex, types.OCIImageIndex, &v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests:     []v1.Descriptor{manifest},
	})
	return err
}

// addJSON adds an object of an OCI image, and returns what refers to it.
func (f *frame) addJSON(t sif.DataType, mediaType types.MediaType, v any) (v1.Descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return v1.Descriptor{}, fmt.Errorf("sif: encode %s: %w", mediaType, err)
	}
	digest, size, err := v1.SHA256(bytes.NewReader(data))
	f.add(t, "", []byte(digest.String()), data)
	return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, err
}

// imageConfig is the configuration of an image with a single layer.
func imageConfig(r *image.Record, layer v1.Hash) *v1.ConfigFile {
	c := &r.Config
	return &v1.ConfigFile{
		Architecture: r.Architecture,
		OS:           "linux",
		Created:      v1.Time{Time: c.Created.UTC()},
		Config: v1.Config{
			Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd, WorkingDir: c.WorkingDir, Labels: c.Labels,
		},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{layer}},
	}
}

// findLayers finds the layers of an OCI-SIF. The only one of an image is its root file system, if it is a squashfs;
// else it says what there is instead.
func (f *File) findLayers() (no string) {
	index, err := readJSON[v1.IndexManifest](f, f.index)
	if err != nil {
		return fmt.Sprintf("cannot be found: root index: %v", err)
	}
	if n := len(index.Manifests); n != 1 {
		return fmt.Sprintf("cannot be told: the OCI image index has %d images", n)
	}
	manifest, err := readJSON[v1.Manifest](f, f.blobs[index.Manifests[0].Digest])
	if err != nil {
		return fmt.Sprintf("cannot be found: manifest: %v", err)
	}
	config, err := readJSON[v1.ConfigFile](f, f.blobs[manifest.Config.Digest])
	if err != nil {
		return fmt.Sprintf("cannot be found: configuration: %v", err)
	}
	f.Arch = config.Architecture
	for _, l := range manifest.Layers {
		f.Layers = append(f.Layers, Layer{string(l.MediaType), l.Digest.String(), f.blobs[l.Digest]})
	}
	if n := len(f.Layers); n != 1 {
		return fmt.Sprintf("is in %d OCI layers, and only images of a single one are supported", n)
	}
	switch l := f.Layers[0]; {
	case l.MediaType != string(squashfsLayer):
		return fmt.Sprintf("is an OCI layer of type %q, and only squashfs is supported", l.MediaType)
	case l.Size == 0:
		return fmt.Sprintf("is not there: the file has no blob %s", l.Digest)
	default:
		f.Partition, f.FSType = l.Extent, sif.FsSquash.String()
	}
	return ""
}

// readJSON decodes an object of a file.
func readJSON[T any](f *File, e Extent) (*T, error) {
	const most = 16 << 20
	if e.Size == 0 || e.Size > most {
		return nil, fmt.Errorf("%d bytes are not between 1 and %d", e.Size, most)
	}
	v := new(T)
	return v, json.NewDecoder(f.section(e)).Decode(v)
}
