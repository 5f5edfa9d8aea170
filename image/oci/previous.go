package oci

import (
	"errors"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ManifestPaths returns the base names of the store objects in each layer of an image, for [layering.Options].
// An image that this package has not made is an error.
func ManifestPaths(m *v1.Manifest) (layers [][]string, err error) {
	if m == nil {
		m = new(v1.Manifest)
	}
	for _, l := range m.Layers {
		if names := l.Annotations[PathsAnnotation]; names != "" {
			layers = append(layers, strings.Fields(names))
		}
	}
	if layers == nil {
		return nil, errors.New("oci: nix2img did not make this image: its layers do not tell what is in them")
	}
	return layers, nil
}
