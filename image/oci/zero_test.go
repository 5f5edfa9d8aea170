package oci_test

import (
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	var (
		options *oci.Options
		img     oci.Image
		layer   oci.Layer
	)
	zerotest.Check(t, map[string]func(){
		"Kind":             func() { oci.Kind().Prove(ctx, cache.Key{}, new(cache.Entry)) },
		"Options.Validate": func() { options.Validate(); new(oci.Options).Validate() },
		"Build": func() {
			oci.Build(ctx, nil, nil, nil)
			oci.Build(ctx, new(image.Image), nil, nil)
			oci.Build(ctx, &image.Image{Closure: new(closure.Closure)}, new(oci.Options), new(image.Runtime))
		},
		"BuildLayout": func() {
			oci.BuildLayout(ctx, "", "", nil, nil, nil)
			oci.BuildLayout(ctx, dir, "", new(image.Image), nil, nil)
		},
		"Warm": func() {
			oci.Warm(ctx, nil, nil, nil, 0, 0)
			oci.Warm(ctx, new(closure.Closure), new(oci.Options), new(image.Runtime), -1, -1)
		},
		"Foresee":             func() { oci.Foresee(ctx, nil, nil, nil); oci.Foresee(ctx, new(closure.Closure), nil, nil) },
		"ManifestPaths":       func() { oci.ManifestPaths(nil); oci.ManifestPaths(new(v1.Manifest)) },
		"Image.Close":         func() { new(oci.Image).Close() },
		"Image.Layers":        func() { img.Layers() },
		"Image.MediaType":     func() { img.MediaType() },
		"Image.Size":          func() { img.Size() },
		"Image.ConfigName":    func() { img.ConfigName() },
		"Image.ConfigFile":    func() { img.ConfigFile() },
		"Image.RawConfigFile": func() { img.RawConfigFile() },
		"Image.Digest":        func() { img.Digest() },
		"Image.Manifest":      func() { img.Manifest() },
		"Image.RawManifest":   func() { img.RawManifest() },
		"Image.LayerByDigest": func() { img.LayerByDigest(v1.Hash{}) },
		"Image.LayerByDiffID": func() { img.LayerByDiffID(v1.Hash{}) },
		"Layer.Descriptor":    func() { layer.Descriptor() },
		"Layer.Paths":         func() { layer.Paths() },
		"Layer.Digest":        func() { layer.Digest() },
		"Layer.DiffID":        func() { layer.DiffID() },
		"Layer.Size":          func() { layer.Size() },
		"Layer.MediaType":     func() { layer.MediaType() },
		"Layer.Placed":        func() { layer.Placed() },
		"Layer.Compressed":    func() { layer.Compressed() },
		"Layer.Uncompressed":  func() { layer.Uncompressed() },
		"WhiteoutError.Error": func() { _ = new(oci.WhiteoutError).Error() },
		"SourceError.Error":   func() { _ = new(oci.SourceError).Error() },
		"SourceError.Unwrap":  func() { new(oci.SourceError).Unwrap() },
	})
}
