package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/par"
)

// refNameAnnotation is where a layout's index.json has the tag of an image.
const refNameAnnotation = "org.opencontainers.image.ref.name"

// openLayout opens an OCI layout that holds one image, or one index.
func openLayout(dir string) (registry.Manifest, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", dir, reason(err))
	}
	list, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", dir, err)
	}
	if n := len(list.Manifests); n != 1 {
		return nil, fmt.Errorf("open layout %s: it has %s, want 1", dir, plural(n, "image"))
	}
	if d := list.Manifests[0]; d.MediaType.IsIndex() {
		return index.ImageIndex(d.Digest)
	}
	return index.Image(list.Manifests[0].Digest)
}

// saveLayout writes an image as an OCI layout. What is there already is kept if it is what its name says.
// The file index.json is written last, so that there is no layout with half an image.
func (a *app) saveLayout(ctx context.Context, dir, tag string, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o777); err != nil {
		return fmt.Errorf("create %s: %w", dir, reason(err))
	}
	var seq iter.Seq2[v1.Layer, error] = func(yield func(v1.Layer, error) bool) {
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
	}
	for _, err := range par.Map(ctx, 4, 4, seq, func(ctx context.Context, l v1.Layer) (struct{}, error) {
		return struct{}{}, a.saveLayer(ctx, blobs, l)
	}) {
		if err != nil {
			return err
		}
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	t, err := img.MediaType()
	if err != nil {
		return err
	}
	index, err := json.Marshal(&v1.IndexManifest{
		SchemaVersion: 2,
		MediaType:     types.OCIImageIndex,
		Manifests: []v1.Descriptor{{
			MediaType: t, Size: int64(len(manifest)), Digest: digest,
			Annotations: map[string]string{refNameAnnotation: tag},
		}},
	})
	if err != nil {
		return err
	}
	configName, err := img.ConfigName()
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{
		{filepath.Join(blobs, configName.Hex), config},
		{filepath.Join(blobs, digest.Hex), manifest},
		{filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`)},
		{filepath.Join(dir, "index.json"), index},
	} {
		if err := a.save(ctx, f.name, bytes.NewReader(f.data)); err != nil {
			return err
		}
	}
	return nil
}

// saveLayer writes a layer, unless it is there.
func (a *app) saveLayer(ctx context.Context, blobs string, l v1.Layer) error {
	want, err := l.Digest()
	if err != nil {
		return err
	}
	size, err := l.Size()
	if err != nil {
		return err
	}
	name := filepath.Join(blobs, want.Hex)
	if f, err := os.Open(name); err == nil {
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Size() == size {
			if got, err := digest(ctx, f, size); err == nil && got == want.String() {
				return nil
			}
		}
	}
	rc, err := l.Compressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := a.save(ctx, name, rc); err != nil {
		return fmt.Errorf("layer %s: %w", want, err)
	}
	return nil
}

// save writes a file that appears when it is complete.
func (a *app) save(ctx context.Context, name string, r io.Reader) error {
	out, err := a.create(name, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	if _, err := io.Copy(ctxio.Writer(ctx, out.File), r); err != nil {
		return err
	}
	return out.Commit()
}
