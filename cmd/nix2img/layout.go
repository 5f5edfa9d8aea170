package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// openLayout opens what an OCI layout, DIR or DIR:TAG, has under a tag: an image, or an index of images for several platforms.
// A tag need not be given if there is but one.
func openLayout(arg string) (registry.Manifest, error) {
	dir, tag := arg, ""
	if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) {
		dir, tag, _ = strings.Cut(arg, ":")
	}
	m, err := openTag(dir, tag)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", arg, reason(err))
	}
	return m, nil
}

func openTag(dir, tag string) (registry.Manifest, error) {
	all, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	list, err := all.IndexManifest()
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, d := range list.Manifests {
		if name := d.Annotations[oci.TagAnnotation]; !slices.Contains(tags, name) {
			tags = append(tags, name)
		}
	}
	switch {
	case tag != "" && !slices.Contains(tags, tag), len(tags) == 0:
		return nil, withHint(errors.New("there is no such image"), "its tags are %q", tags)
	case tag == "" && len(tags) > 1:
		return nil, withHint(fmt.Errorf("it has images with %d tags", len(tags)), "name one of them, %s:TAG: %q", dir, tags)
	case tag == "":
		tag = tags[0]
	}
	images := slices.DeleteFunc(list.Manifests, func(d v1.Descriptor) bool { return d.Annotations[oci.TagAnnotation] != tag })
	if len(images) > 1 {
		return platformIndex(all, images)
	}
	if images[0].MediaType.IsIndex() {
		return all.ImageIndex(images[0].Digest)
	}
	return all.Image(images[0].Digest)
}

// platformIndex makes an index of a layout's images with one tag.
func platformIndex(all v1.ImageIndex, images []v1.Descriptor) (v1.ImageIndex, error) {
	byPlatform := make(map[string]v1.Descriptor)
	for _, d := range images {
		if d.Platform != nil && d.MediaType.IsImage() {
			byPlatform[d.Platform.String()] = d
		}
	}
	if len(byPlatform) < len(images) {
		return nil, errors.New("it has several images with this tag, and not each for another platform")
	}
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, platform := range slices.Sorted(maps.Keys(byPlatform)) { // whichever was built first
		d := byPlatform[platform]
		img, err := all.Image(d.Digest)
		if err != nil {
			return nil, err
		}
		// The tag is the layout's affair.
		d.Annotations = maps.Clone(d.Annotations)
		delete(d.Annotations, oci.TagAnnotation)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: d})
	}
	return index, nil
}

// saveLayout puts an image into an OCI layout, with what d says of it beyond its contents.
// It takes the place of one with the same tag and platform. Blobs that are there already are kept, if they are what their name says.
// The file index.json is written last, so that there is no layout with half an image.
func (a *app) saveLayout(ctx context.Context, dir string, d v1.Descriptor, img v1.Image) error {
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
	a.sweepBeside(filepath.Join(blobs, "layer"))
	a.sweepBeside(filepath.Join(dir, "index.json"))
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
	if d.MediaType, err = img.MediaType(); err != nil {
		return err
	}
	d.Size, d.Digest = int64(len(manifest)), digest
	list := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	if old, err := layout.ImageIndexFromPath(dir); err == nil {
		if list, err = old.IndexManifest(); err != nil {
			return fmt.Errorf("open layout %s: %w", dir, err)
		}
	}
	list.Manifests = append(slices.DeleteFunc(list.Manifests, func(o v1.Descriptor) bool {
		return o.Annotations[oci.TagAnnotation] == d.Annotations[oci.TagAnnotation] &&
			(o.Platform == nil || d.Platform == nil || o.Platform.Equals(*d.Platform))
	}), d)
	index, err := json.Marshal(list)
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
	out, err := tempfile.NewFile(name, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	if _, err := io.Copy(ctxio.Writer(ctx, out.File), r); err != nil {
		return err
	}
	return out.Commit()
}
