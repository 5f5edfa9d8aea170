package layout

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
)

// A Manifest is a [v1.Image] or a [v1.ImageIndex].
type Manifest interface {
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
	RawManifest() ([]byte, error)
}

// Get returns what a layout, DIR or DIR:TAG, has under a tag, for clients of registries: an image,
// or an index of the images for several platforms. A tag need not be given if there is but one;
// signatures do not count. If there are several, or not this one, the error is a [*ChoiceError].
func Get(name string) (Manifest, error) {
	dir, tag := Split(name)
	all, err := ggcrlayout.ImageIndexFromPath(dir) // it reads the blobs
	if err != nil {
		return nil, err
	}
	index, err := readIndex(dir)
	if err != nil {
		return nil, err
	}
	images, err := underTag(index.Manifests, tag)
	if err != nil {
		return nil, err
	}
	if len(images) > 1 {
		return platformIndex(all, images)
	}
	if images[0].MediaType.IsIndex() {
		return all.ImageIndex(images[0].Digest)
	}
	return all.Image(images[0].Digest)
}

// underTag returns what there is under a tag, or under the only one.
func underTag(list []v1.Descriptor, tag string) (images []v1.Descriptor, err error) {
	var tags []string
	for _, d := range list {
		t := d.Annotations[TagAnnotation]
		if signature := isSignature(&d, t); !signature {
			tags = append(tags, t)
		} else if tag == "" {
			continue
		}
		if tag == "" || t == tag {
			images = append(images, d)
		}
	}
	slices.Sort(tags)
	tags = slices.Compact(tags)
	switch {
	case len(images) == 0:
		return nil, &ChoiceError{Tags: tags, msg: "there is no such image"}
	case tag == "" && len(tags) > 1:
		return nil, &ChoiceError{Tags: tags, msg: fmt.Sprintf("it has images with %d tags", len(tags))}
	}
	return images, nil
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
		delete(d.Annotations, TagAnnotation)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: d})
	}
	return index, nil
}
