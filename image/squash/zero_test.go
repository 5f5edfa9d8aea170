package squash_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	zerotest.Check(t, map[string]func(){
		"Kind": func() { squash.Kind().Prove(ctx, cache.Key{}, new(cache.Entry)) },
		"Inspect": func() {
			squash.Inspect(ctx, nil, nil)
			squash.Inspect(ctx, new(closure.Closure), new(image.Runtime))
		},
		"Prepare": func() {
			squash.Prepare(ctx, nil, nil, nil)
			squash.Prepare(ctx, new(image.Image), nil, nil)
			squash.Prepare(ctx, &image.Image{Closure: new(closure.Closure)}, nil, nil)
		},
		"Write": func() {
			squash.Write(ctx, nil, nil, nil, nil)
			squash.Write(ctx, nil, new(image.Image), nil, nil)
			squash.Write(ctx, nil, &image.Image{Closure: new(closure.Closure)}, nil, nil)
		},
		"Warm": func() {
			squash.Warm(ctx, nil, nil, nil, 0, 0)
			squash.Warm(ctx, new(closure.Closure), nil, new(image.Runtime), -1, -1)
		},
		"Foresee": func() {
			squash.Foresee(ctx, nil, nil, nil)
			squash.Foresee(ctx, new(closure.Closure), nil, nil)
		},
		"OpenPrevious":     func() { squash.OpenPrevious(nil, false); squash.OpenPrevious(bytes.NewReader(nil), true) },
		"Plan.ReadAt":      func() { new(squash.Plan).ReadAt(nil, 0); new(squash.Plan).ReadAt(make([]byte, 1), 0) },
		"Plan.Check":       func() { new(squash.Plan).Check(ctx) },
		"Plan.WriteTo":     func() { new(squash.Plan).WriteTo(nil); new(squash.Plan).WriteTo(io.Discard) },
		"Plan.Close":       func() { new(squash.Plan).Close() },
		"Previous.Entry":   func() { new(squash.Previous).Entry(ctx, cache.Key{}) },
		"Previous.Trusted": func() { new(squash.Previous).Trusted() },
		"Previous.String":  func() { _ = new(squash.Previous).String() },
	})
}
