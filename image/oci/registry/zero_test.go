package registry_test

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
	"github.com/nix2img/nix2img/internal/zerotest"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	ref, err := name.ParseReference(registrytest.New(t).Host + "/zero:1")
	if err != nil {
		t.Fatal(err)
	}
	// Each is an error.
	fails := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
		}
	}
	zerotest.Check(t, map[string]func(){
		"Push": func() {
			_, err := registry.Push(ctx, nil, empty.Image, nil)
			fails(err)
			_, err = registry.Push(ctx, ref, nil, nil)
			fails(err)
			_, err = registry.Push(ctx, ref, empty.Image, &registry.Runtime{})
			if err != nil {
				t.Error(err)
			}
		},
		"Compare": func() {
			_, err := registry.Compare(ctx, nil, empty.Image, nil)
			fails(err)
			_, err = registry.Compare(ctx, ref, nil, nil)
			fails(err)
		},
		"CheckPush": func() { fails(registry.CheckPush(ctx, nil, nil)) },
		"Pull": func() {
			_, _, err := registry.Pull(ctx, nil, v1.Platform{}, nil)
			fails(err)
			_, _, err = registry.Pull(ctx, ref, v1.Platform{}, &registry.Runtime{}) // before there is one
			fails(err)
		},
		"SIF": func() {
			_, err := registry.SIF(ctx, nil, 0, "")
			fails(err)
		},
		"SIFLayer": func() {
			_, _, err := registry.SIFLayer(nil)
			fails(err)
			_, _, err = registry.SIFLayer(empty.Image)
			fails(err)
		},
		"Subject": func() {
			_, err := registry.Subject(nil)
			fails(err)
		},
		"Attach": func() {
			_, err := registry.Attach(ctx, name.Digest{}, v1.Descriptor{}, nil, nil)
			fails(err)
			_, err = registry.Attach(ctx, name.Digest{}, v1.Descriptor{}, &registry.Document{}, nil)
			fails(err)
			_, err = registry.Attach(ctx, ref.Context().Digest("sha256:"+zeros), v1.Descriptor{}, nil, &registry.Runtime{})
			fails(err)
		},
		"State.String":        func() { _ = registry.State(-1).String() },
		"Error.Error":         func() { _ = new(registry.Error).Error() },
		"Error.Unwrap":        func() { new(registry.Error).Unwrap() },
		"NotFoundError.Error": func() { _ = new(registry.NotFoundError).Error() },
		"DigestError.Error":   func() { _ = new(registry.DigestError).Error() },
		"RealmError.Error":    func() { _ = new(registry.RealmError).Error() },
	})
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
