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
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

// squashfsLayer is the media type of a layer that is a squashfs; SingularityCE's choice.
const squashfsLayer types.MediaType = "application/vnd.sylabs.image.layer.v1.squashfs"

// writeOCI writes header, descriptors, configuration, manifest and index round the layer in f,
// which partition reads, and returns the size of the file.
func writeOCI(ctx context.Context, f squashfs.File, partition io.ReaderAt, root *squash.Result) (size int64, err error) {
	created := root.Record.Config.Created
	id, err := newUUID(root.ID)
	if err != nil {
		return 0, err
	}
	// The sif library computes the digest of a blob while it copies it.
	// The copy goes nowhere: the layer lies where it belongs.
	layer, err := sif.NewDescriptorInput(sif.DataOCIBlob,
		ctxio.Reader(ctx, io.NewSectionReader(partition, 0, root.Size)), sif.OptObjectAlignment(4096))
	if err != nil {
		return 0, fmt.Errorf("sif: describe the layer: %w", err)
	}
	w := &around{w: io.NewOffsetWriter(f, 0), hole: Extent{PartitionOffset, root.Size}}
	c, err := sif.CreateContainer(container{f, w},
		sif.OptCreateWithLaunchScript(launchScript),
		sif.OptCreateWithID(id.String()),
		sif.OptCreateWithTime(created),
		sif.OptCreateWithCloseOnUnload(false),
		sif.OptCreateWithDescriptors(layer))
	if err != nil {
		return 0, fmt.Errorf("sif: write: %w", err)
	}
	first, err := c.GetDescriptor(sif.WithID(1))
	if err != nil {
		return 0, fmt.Errorf("sif: write: %w", err)
	}
	if first.Offset() != PartitionOffset {
		return 0, fmt.Errorf("sif: write: layer at offset %d, want %d", first.Offset(), PartitionOffset)
	}
	digest, err := first.OCIBlobDigest()
	if err != nil {
		return 0, fmt.Errorf("sif: write: %w", err)
	}

	add := func(t sif.DataType, mediaType types.MediaType, v any) (v1.Descriptor, error) {
		data, err := json.Marshal(v)
		if err != nil {
			return v1.Descriptor{}, err
		}
		in, err := sif.NewDescriptorInput(t, bytes.NewReader(data))
		if err != nil {
			return v1.Descriptor{}, err
		}
		if err := c.AddObject(in, sif.OptAddWithTime(created)); err != nil {
			return v1.Descriptor{}, err
		}
		digest, size, err := v1.SHA256(bytes.NewReader(data))
		return v1.Descriptor{MediaType: mediaType, Size: size, Digest: digest}, err
	}
	config, err := add(sif.DataOCIBlob, types.OCIConfigJSON, imageConfig(root.Record, digest))
	if err != nil {
		return 0, fmt.Errorf("sif: write the configuration: %w", err)
	}
	manifest, err := add(sif.DataOCIBlob, types.OCIManifestSchema1, &v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		Config:        config,
		Layers:        []v1.Descriptor{{MediaType: squashfsLayer, Size: root.Size, Digest: digest}},
	})
	if err != nil {
		return 0, fmt.Errorf("sif: write the manifest: %w", err)
	}
	manifest.Platform = &v1.Platform{OS: "linux", Architecture: root.Record.Architecture}
	if _, err := add(sif.DataOCIRootIndex, types.OCIImageIndex, &v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests:     []v1.Descriptor{manifest},
	}); err != nil {
		return 0, fmt.Errorf("sif: write the index: %w", err)
	}
	return c.DataOffset() + c.DataSize(), c.UnloadContainer()
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

// around writes to w, but for what would fall into a hole.
type around struct {
	w    *io.OffsetWriter
	hole Extent
	pos  int64
}

func (a *around) Seek(off int64, whence int) (pos int64, err error) {
	a.pos, err = a.w.Seek(off, whence)
	return a.pos, err
}

func (a *around) Write(p []byte) (int, error) {
	skip := 0
	if end := a.hole.Offset + a.hole.Size; a.pos >= a.hole.Offset && a.pos < end {
		skip = int(min(int64(len(p)), end-a.pos))
	}
	n, err := skip, error(nil)
	if skip < len(p) {
		n, err = a.w.WriteAt(p[skip:], a.pos+int64(skip))
		n += skip
	}
	a.pos += int64(n)
	return n, err
}

// findLayer finds the root file system of an OCI-SIF: the layer of its only image, if that has but one
// and it is a squashfs. Blobs are found by their digests.
func findLayer(r io.ReaderAt, root Extent, blobs map[v1.Hash]Extent) (layer Extent, arch string, err error) {
	index, err := readJSON[v1.IndexManifest](r, root)
	if err != nil {
		return Extent{}, "", fmt.Errorf("root index: %w", err)
	}
	if len(index.Manifests) != 1 {
		return Extent{}, "", nil
	}
	manifest, err := readJSON[v1.Manifest](r, blobs[index.Manifests[0].Digest])
	if err != nil {
		return Extent{}, "", fmt.Errorf("manifest: %w", err)
	}
	if len(manifest.Layers) != 1 || manifest.Layers[0].MediaType != squashfsLayer {
		return Extent{}, "", nil
	}
	config, err := readJSON[v1.ConfigFile](r, blobs[manifest.Config.Digest])
	if err != nil {
		return Extent{}, "", fmt.Errorf("configuration: %w", err)
	}
	return blobs[manifest.Layers[0].Digest], config.Architecture, nil
}

// readJSON decodes an object of a file.
func readJSON[T any](r io.ReaderAt, e Extent) (*T, error) {
	const most = 16 << 20
	if e.Size == 0 || e.Size > most {
		return nil, fmt.Errorf("%d bytes are not between 1 and %d", e.Size, most)
	}
	v := new(T)
	return v, json.NewDecoder(io.NewSectionReader(r, e.Offset, e.Size)).Decode(v)
}
