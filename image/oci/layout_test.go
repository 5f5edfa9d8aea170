package oci_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nix2img/nix2img/image/oci"
)

func writeLayout(t *testing.T, b *oci.Image, dir, tag string) *oci.Written {
	t.Helper()
	w, err := b.WriteLayout(t.Context(), dir, tag)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "layout")
	files := written(t, storeFiles())
	amd := build(t, testImage(t, app, files), nil, nil)
	first := writeLayout(t, amd, dir, "v1")
	if first.Kept != 0 || first.Blobs != len(must(amd.Layers()))+1 {
		t.Errorf("wrote %+v", first)
	}
	// Another platform and another tag stay; a new image for the same ones replaces the old one.
	img := testImage(t, app, files)
	img.Config.Arch = "arm64"
	arm := build(t, img, nil, nil)
	if w := writeLayout(t, arm, dir, "v1"); w.Kept != first.Blobs-2 { // base files and configuration differ
		t.Errorf("kept %+v", w)
	}
	writeLayout(t, amd, dir, "v2")
	img = testImage(t, app, files)
	img.Config.Env = []string{"A=B"}
	changed := build(t, img, nil, nil)
	writeLayout(t, changed, dir, "v1")
	writeLayout(t, changed, dir, "v1")

	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	var got []v1.Hash
	for _, d := range must(index.IndexManifest()).Manifests {
		got = append(got, d.Digest)
	}
	want := []v1.Hash{must(arm.Digest()), must(amd.Digest()), must(changed.Digest())}
	if len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("index has %v, not %v", got, want)
	}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if info := must(d.Info()); !d.IsDir() && info.Mode().Perm()&0o444 != 0o444 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
		return err
	})
}

func TestLayoutRepairsBlobs(t *testing.T) {
	dir := t.TempDir()
	b := build(t, testImage(t, app, written(t, storeFiles())), nil, nil)
	writeLayout(t, b, dir, "")
	blob := filepath.Join(oci.BlobDir(dir), must(must(b.Layers())[0].Digest()).Hex)
	data := must(os.ReadFile(blob))
	data[len(data)/2]++
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := writeLayout(t, b, dir, ""); w.Blobs != 1 {
		t.Errorf("wrote %+v", w)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err == nil {
		err = validate.Index(index)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestLayoutLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thesis.tex"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	b := build(t, testImage(t, app, written(t, storeFiles())), nil, nil)
	if _, err := b.WriteLayout(t.Context(), dir, ""); err == nil {
		t.Error("a layout among other files")
	}
	if list := must(os.ReadDir(dir)); len(list) != 1 {
		t.Errorf("there are %v", list)
	}
}
