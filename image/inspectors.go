package image

import (
	"slices"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/inspect"
)

// inspectors look at the trees of all images. A new one needs its own package, and a line here.
var inspectors = []inspect.Inspector{
	gpu.Inspector,
}

// Inspectors returns all inspectors: what they find is kept in caches.
func Inspectors() []inspect.Inspector { return slices.Clone(inspectors) }

// Inspectors returns those that are to look at the objects of the image while they are compressed:
// all, but for GPU code if nobody wants to know of it, and none if there are Facts already.
func (img *Image) Inspectors() []inspect.Inspector {
	if img.Facts != nil {
		return nil
	}
	return slices.DeleteFunc(Inspectors(), func(i inspect.Inspector) bool { return i == gpu.Inspector && img.GPU.None() })
}
