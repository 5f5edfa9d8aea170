package image_test

import (
	"io"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	var (
		r      image.Resolved
		record image.Record
		rt     *image.Runtime
	)
	zerotest.Check(t, map[string]func(){
		"Image.Resolve": func() {
			(*image.Image)(nil).Resolve(ctx, nil)
			new(image.Image).Resolve(ctx, nil)
			new(image.Image).Resolve(ctx, new(image.Runtime))
		},
		"Config.Validate":       func() { new(image.Config).Validate() },
		"GPU.None":              func() { image.GPU{}.None() },
		"Inspectors":            func() { image.Inspectors() },
		"Resolved.Base":         func() { r.Base(ctx, nil); r.Base(ctx, &record) },
		"Resolved.OCIEnv":       func() { r.OCIEnv() },
		"Resolved.Record":       func() { r.Record() },
		"Record.Placed":         func() { record.Placed("", nil) },
		"Record.WriteTo":        func() { record.WriteTo(io.Discard) },
		"ReadRecord":            func() { image.ReadRecord(nil) },
		"Object.UnmarshalJSON":  func() { new(image.Object).UnmarshalJSON(nil) },
		"Segment.UnmarshalJSON": func() { new(image.Segment).UnmarshalJSON(nil) },
		"Runtime.Foresee": func() {
			rt.Foresee(ctx, nil, nil)
			new(image.Runtime).Foresee(ctx, []closure.Object{{}}, func(*closure.Object) cache.Key { return cache.Key{} })
		},
		"Resolved.HasShell": func() { r.HasShell() },
		"Runtime.Notef":     func() { rt.Notef("note"); new(image.Runtime).Notef("note") },
		"Runtime.Shelf":     func() { rt.Shelf().Close(); new(image.Runtime).Shelf().Close() },
		"Runtime.Survey": func() {
			rt.Survey(nil, image.GPU{}).Close()
			new(image.Runtime).Survey(new(image.Runtime).Shelf(), image.GPU{}).Close()
		},
		"ArchError.Error":     func() { _ = new(image.ArchError).Error() },
		"ConflictError.Error": func() { _ = new(image.ConflictError).Error() },
		"ConfigError.Error":   func() { _ = new(image.ConfigError).Error() },
		"SchemaError.Error":   func() { _ = new(image.SchemaError).Error() },
	})
}
