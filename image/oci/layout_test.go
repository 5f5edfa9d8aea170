package oci_test

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/layout"
)

func writeLayout(t *testing.T, b *oci.Image, dir, tag string) *layout.Written {
	t.Helper()
	w, err := layout.Write(t.Context(), dir, tag, b)
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

	index, err := ggcrlayout.ImageIndexFromPath(dir)
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
	blob := filepath.Join(layout.BlobDir(dir), must(must(b.Layers())[0].Digest()).Hex)
	data := must(os.ReadFile(blob))
	data[len(data)/2]++
	if err := os.WriteFile(blob, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if w := writeLayout(t, b, dir, ""); w.Blobs != 1 {
		t.Errorf("wrote %+v", w)
	}
	index, err := ggcrlayout.ImageIndexFromPath(dir)
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
	if _, err := layout.Write(t.Context(), dir, "", b); err == nil {
		t.Error("a layout among other files")
	}
	if list := must(os.ReadDir(dir)); len(list) != 1 {
		t.Errorf("there are %v", list)
	}
}

// Layers that are written to a layout when they are made are those of any other build.
func TestLayoutInOnePass(t *testing.T) {
	files := written(t, storeFiles())
	want := build(t, testImage(t, app, files), nil, nil)
	wanted := contents(t, want)
	cache := t.TempDir()
	for name, rt := range map[string]*image.Runtime{
		"no cache":       {Workers: 1},
		"more workers":   {Workers: 7},
		"not verified":   {SkipVerify: true},
		"cold cache":     {Cache: openCache(t, cache)},
		"the same again": {Cache: openCache(t, cache)},
	} {
		dir := filepath.Join(t.TempDir(), "layout")
		b, w, err := oci.BuildLayout(t.Context(), dir, "", testImage(t, app, files), nil, rt)
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, b); !slices.EqualFunc(got, wanted, bytes.Equal) {
			t.Errorf("%s: other layers", name)
		}
		if w.Blobs != len(wanted)+1 || w.Kept != 0 {
			t.Errorf("%s: wrote %+v", name, w)
		}
		if w := writeLayout(t, b, dir, "again"); w.Kept != len(wanted)+1 {
			t.Errorf("%s: then wrote %+v", name, w)
		}
		writeLayout(t, b, filepath.Join(t.TempDir(), "elsewhere"), "")
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		img := must(must(ggcrlayout.ImageIndexFromPath(dir)).Image(must(want.Digest())))
		if err := validate.Image(img); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := len(must(os.ReadDir(layout.BlobDir(dir)))); got != len(wanted)+2 {
			t.Errorf("%s: %d files", name, got)
		}
	}
}

// A build that fails, or whose image is not written, leaves nothing.
func TestLayoutIsLeftAsItWas(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "layout")
	bad := storeFiles()
	bad[filepath.Base(app2)].Data = []byte("something else")
	try := func() {
		t.Helper()
		if _, _, err := oci.BuildLayout(t.Context(), dir, "", testImage(t, app2, written(t, bad)), nil, nil); err == nil {
			t.Fatal("no error")
		}
	}
	try()
	if list := must(os.ReadDir(parent)); len(list) > 0 {
		t.Errorf("there is %s", list[0].Name())
	}
	// An image that is there stays whole.
	b, _, err := oci.BuildLayout(t.Context(), dir, "", testImage(t, app, written(t, storeFiles())), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	n := len(must(os.ReadDir(layout.BlobDir(dir))))
	try()
	if got := len(must(os.ReadDir(layout.BlobDir(dir)))); got != n {
		t.Errorf("there are %d files instead of %d", got, n)
	}
	if err := validate.Index(must(ggcrlayout.ImageIndexFromPath(dir))); err != nil {
		t.Error(err)
	}
}

// openFiles opens the root file system of a stored image.
func openFiles(t testing.TB, name string) *layout.Files {
	t.Helper()
	s, err := layout.Open(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	files, err := s.Unpack(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { files.Close() })
	return files
}

// What has been written is read again, in each form.
func TestOpen(t *testing.T) {
	for _, codec := range []string{"gzip", "zstd-go", "none"} {
		b := build(t, testImage(t, app, written(t, storeFiles())), &oci.Options{Compression: codec}, nil)
		dir := t.TempDir()
		writeLayout(t, b, filepath.Join(dir, "layout"), "")
		names := []string{"layout", "oci.tar"}
		create(t, filepath.Join(dir, "oci.tar"), func(w io.Writer) error { return layout.WriteArchive(t.Context(), w, "", b) })
		if codec != "zstd-go" {
			names = append(names, "docker.tar")
			create(t, filepath.Join(dir, "docker.tar"), func(w io.Writer) error { return layout.WriteDockerArchive(t.Context(), w, "", b) })
		}
		for _, name := range names {
			name = filepath.Join(dir, name)
			if !layout.Detect(name) {
				t.Errorf("%s %s is not taken for an image", codec, name)
			}
			files := openFiles(t, name)
			for _, o := range hashed[app] {
				if got, _, err := narhash.Sum(t.Context(), files, string(o.Path)[1:]); err != nil || got != o.NARHash {
					t.Errorf("%s %s: %s has hash %s, want %s: %v", codec, name, o.Path, got, o.NARHash, err)
				}
			}
		}
	}
	if layout.Detect(t.TempDir()) || layout.Detect("layout_test.go") {
		t.Error("something else is taken for an image")
	}
}

func create(t testing.TB, name string, write func(io.Writer) error) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := write(f); err != nil {
		t.Fatal(err)
	}
}
