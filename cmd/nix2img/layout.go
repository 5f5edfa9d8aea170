package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/image/oci/registry"
)

// openLayout opens what an OCI layout, DIR or DIR:TAG, has under a tag: an image, or an index of images for several platforms.
// A tag need not be given if there is but one.
func openLayout(arg string) (registry.Manifest, error) {
	dir, tag := layout.Split(arg)
	m, err := openTag(dir, tag)
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", arg, reason(err))
	}
	return m, nil
}

func openTag(dir, tag string) (registry.Manifest, error) {
	all, err := ggcrlayout.ImageIndexFromPath(dir)
	if err != nil {
		return nil, err
	}
	list, err := all.IndexManifest()
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, d := range list.Manifests {
		if name := d.Annotations[layout.TagAnnotation]; !slices.Contains(tags, name) {
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
	images := slices.DeleteFunc(list.Manifests, func(d v1.Descriptor) bool { return d.Annotations[layout.TagAnnotation] != tag })
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
		delete(d.Annotations, layout.TagAnnotation)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: d})
	}
	return index, nil
}
