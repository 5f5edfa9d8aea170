package sif

import (
	"bytes"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
)

func TestStreamHasTheBytesOfTheFile(t *testing.T) {
	f, img := new(memory), hello(t)
	want, err := Write(t.Context(), f, img, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := cache.Open(t.TempDir(), cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	for name, rt := range map[string]*image.Runtime{
		"spooled": {TempDir: t.TempDir()},
		"cold":    {Cache: cache},
		"warm":    {Cache: cache},
	} {
		var out bytes.Buffer
		got, err := Stream(t.Context(), &out, img, nil, rt)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(out.Bytes(), f.data) || got.ID != want.ID || got.Size != want.Size {
			t.Errorf("%s: %d bytes of image %s, want %d of %s", name, got.Size, got.ID, want.Size, want.ID)
		}
	}
}
