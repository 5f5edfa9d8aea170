package layout_test

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nix2img/nix2img/image/oci/layout"
)

// imageFor makes an image of another library for an architecture.
func imageFor(t testing.TB, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	config := &v1.ConfigFile{OS: "linux", Architecture: arch, RootFS: v1.RootFS{Type: "layers"}}
	return must(mutate.AppendLayers(must(mutate.ConfigFile(empty.Image, config)), layers...))
}

// indexOf returns what the index of a layout has, after another library has found it in order.
func indexOf(t testing.TB, dir string) []v1.Descriptor {
	t.Helper()
	index := must(ggcrlayout.ImageIndexFromPath(dir))
	if err := validate.Index(index, validate.Fast); err != nil {
		t.Error(err)
	}
	for _, name := range must(filepath.Glob(layout.BlobDir(dir) + "/*")) {
		if sum := sha256.Sum256(must(os.ReadFile(name))); hex.EncodeToString(sum[:]) != filepath.Base(name) {
			t.Errorf("%s has other bytes", name)
		}
	}
	return must(index.IndexManifest()).Manifests
}

// Whoever writes at the same time, each image is there in the end, and nothing else.
func TestBuildsSideBySideLoseNothing(t *testing.T) {
	const builds = 12
	for range 5 {
		dir := filepath.Join(t.TempDir(), "layout")
		var wg sync.WaitGroup
		for i := range builds {
			wg.Go(func() {
				shared, own := tarLayer(t, entry{tar.TypeReg, "shared", "x"}), tarLayer(t, entry{tar.TypeReg, "own", fmt.Sprint(i)})
				place, err := layout.OpenPlace(dir)
				if err == nil {
					defer place.Close()
					_, err = layout.Write(t.Context(), dir, fmt.Sprint(i/2), imageFor(t, []string{"amd64", "arm64"}[i%2], shared, own))
				}
				if err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { // a build that fails
				place, err := layout.OpenPlace(dir)
				if err == nil {
					_, err = place.Create()
					place.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(indexOf(t, dir)); n != builds {
			t.Errorf("%d of %d images", n, builds)
		}
		if list := must(filepath.Glob(dir + "/.*")); len(list) > 0 {
			t.Errorf("left %q", list)
		}
		if list := must(filepath.Glob(layout.BlobDir(dir) + "/.*")); len(list) > 0 {
			t.Errorf("left %q", list)
		}
	}
}

// placedLayer is a layer that has been written to a layout when it was made.
type placedLayer struct {
	v1.Layer
	blob *layout.Blob
}

func (l placedLayer) Placed() *layout.Blob { return l.blob }

// An image that could not be written can be written later.
func TestWriteThatFailedCanBeRepeated(t *testing.T) {
	for i := range 2 {
		dir := t.TempDir()
		place := must(layout.OpenPlace(dir))
		defer place.Close()
		placed := placedLayer{tarLayer(t, entry{tar.TypeReg, "a", "x"}), must(place.Create())}
		must(placed.blob.Write(must(os.ReadFile(layerFile(t, placed.Layer)))))
		placed.blob.Seal()
		layers := []v1.Layer{placed, tarLayer(t, entry{tar.TypeReg, "b", "x"})}
		img := imageFor(t, "amd64", layers...)
		inTheWay := filepath.Join(layout.BlobDir(dir), must(layers[i].Digest()).Hex)
		if err := os.MkdirAll(filepath.Join(inTheWay, "directory"), 0o777); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := layout.Write(t.Context(), dir, "", img); err == nil {
				t.Fatal("no error")
			}
		}
		if err := os.RemoveAll(inTheWay); err != nil {
			t.Fatal(err)
		}
		must(layout.Write(t.Context(), dir, "", img))
		if list := indexOf(t, dir); len(list) != 1 {
			t.Errorf("%d images", len(list))
		}
	}
}

// layerFile writes a layer's bytes to a file.
func layerFile(t testing.TB, l v1.Layer) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "layer")
	r := must(l.Compressed())
	defer r.Close()
	f := must(os.Create(name))
	defer f.Close()
	must(f.ReadFrom(r))
	return name
}

// An image takes the place of one with its tag and platform. Where the index of others has no platform, the tag decides.
func TestWriteReplaces(t *testing.T) {
	dir := t.TempDir()
	amd, arm := imageFor(t, "amd64"), imageFor(t, "arm64")
	artifact := imageFor(t, "")
	put := func(tag string, img v1.Image, want ...v1.Image) {
		t.Helper()
		must(layout.Write(t.Context(), dir, tag, img))
		var digests []v1.Hash
		for _, d := range indexOf(t, dir) {
			digests = append(digests, d.Digest)
		}
		var wanted []v1.Hash
		for _, img := range want {
			wanted = append(wanted, must(img.Digest()))
		}
		if !slices.Equal(digests, wanted) {
			t.Errorf("tag %q: there is %v, want %v", tag, digests, wanted)
		}
	}
	put("a", artifact, artifact)
	put("a", amd, amd)
	put("a", arm, amd, arm)
	put("", artifact, amd, arm, artifact)
	put("", amd, amd, arm, artifact, amd)
	put("", amd, amd, arm, artifact, amd)
	put("a", artifact, artifact, amd, artifact)
}
