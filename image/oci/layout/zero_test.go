package layout_test

import (
	"io"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	var blob *layout.Blob
	zerotest.Check(t, map[string]func(){
		"Write": func() { layout.Write(ctx, dir, "", nil) },
		"WriteArchive": func() {
			layout.WriteArchive(ctx, nil, "", nil)
			layout.WriteArchive(ctx, io.Discard, "", nil)
			layout.WriteArchive(ctx, io.Discard, "", empty.Image)
		},
		"WriteDockerArchive": func() {
			layout.WriteDockerArchive(ctx, nil, "", nil)
			layout.WriteDockerArchive(ctx, io.Discard, "", empty.Image)
		},
		"Split":   func() { layout.Split("") },
		"Detect":  func() { layout.Detect("") },
		"Get":     func() { layout.Get("") },
		"Open":    func() { layout.Open("", nil); layout.Open(dir, nil); layout.Open(dir, &layout.Choice{}) },
		"Sweep":   func() { layout.Sweep(dir, -1) },
		"BlobDir": func() { layout.BlobDir("") },
		"OpenPlace": func() {
			if p, err := layout.OpenPlace(dir); err == nil {
				p.Close()
			}
		},
		"Place.Create":       func() { new(layout.Place).Create() },
		"Place.Close":        func() { new(layout.Place).Close() },
		"Blob.Write":         func() { blob.Write(nil); new(layout.Blob).Write(nil) },
		"Blob.ReadAt":        func() { blob.ReadAt(nil, 0); new(layout.Blob).ReadAt(nil, 0) },
		"Blob.Size":          func() { blob.Size(); new(layout.Blob).Size() },
		"Blob.Seal":          func() { blob.Seal(); new(layout.Blob).Seal() },
		"Stored.Files":       func() { new(layout.Stored).Files(ctx) },
		"Stored.Unpack":      func() { new(layout.Stored).Unpack(ctx, "") },
		"Stored.OpenLayer":   func() { new(layout.Stored).OpenLayer(0); new(layout.Stored).OpenLayer(-1) },
		"Stored.Close":       func() { new(layout.Stored).Close() },
		"Files.Close":        func() { new(layout.Files).Close() },
		"ChoiceError.Error":  func() { _ = new(layout.ChoiceError).Error() },
		"Error.Error":        func() { _ = new(layout.Error).Error() },
		"Error.Unwrap":       func() { new(layout.Error).Unwrap() },
		"FormatError.Error":  func() { _ = new(layout.FormatError).Error() },
		"FormatError.Unwrap": func() { new(layout.FormatError).Unwrap() },
	})
}
