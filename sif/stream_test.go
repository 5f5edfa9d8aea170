package sif

import (
	"bytes"
	"testing"

	"github.com/nix2img/nix2img/image/squash"
)

func TestStreamHasTheBytesOfTheFile(t *testing.T) {
	f, img := new(memory), hello(t)
	want, err := Write(t.Context(), f, img, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := squash.OpenCache(t.TempDir(), squash.OwnCache)
	if err != nil {
		t.Fatal(err)
	}
	for name, rt := range map[string]*Runtime{
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
