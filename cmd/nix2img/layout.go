package main

import (
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/image/oci/registry"
)

// openLayout opens what an OCI layout, DIR or DIR:TAG, has under a tag: an image, or an index of images for several platforms.
func openLayout(arg string) (registry.Manifest, error) {
	m, err := layout.Get(arg)
	if e, ok := errors.AsType[*layout.ChoiceError](err); ok {
		dir, _ := layout.Split(arg)
		err = withHint(err, "name one of them, %s:TAG: %q", dir, e.Tags)
	}
	if err != nil {
		return nil, fmt.Errorf("open layout %s: %w", arg, reason(err))
	}
	return m, nil
}
