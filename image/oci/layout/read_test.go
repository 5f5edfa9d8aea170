package layout_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"

	"github.com/nix2img/nix2img/image/oci/layout"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
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

// entry is a line of a layer: a type, a name, and contents or a target.
type entry struct {
	kind byte
	name string
	data string
}

func tarLayer(t testing.TB, entries ...entry) v1.Layer {
	t.Helper()
	return static.NewLayer(tarBytes(t, entries...), tarType)
}

func tarBytes(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: 0o755}
		switch e.kind {
		case tar.TypeReg:
			h.Size = int64(len(e.data))
		case tar.TypeXGlobalHeader:
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": "by git"}}
		default:
			h.Linkname = e.data
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			io.WriteString(w, e.data)
		}
	}
	w.Close()
	return b.Bytes()
}

// storeLayers has another library write a layout.
func storeLayers(t testing.TB, layers ...v1.Layer) string {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := ggcrlayout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img})); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Layers lie on each other as the specification says.
func TestLayersOfOthers(t *testing.T) {
	files := openFiles(t, storeLayers(t,
		tarLayer(t,
			entry{tar.TypeReg, "./etc/passwd", "old"}, entry{tar.TypeReg, "etc/gone", "x"},
			entry{tar.TypeDir, "opaque/", ""}, entry{tar.TypeReg, "opaque/below", "x"},
			entry{tar.TypeReg, "../../outside", "x"}),
		tarLayer(t,
			entry{tar.TypeReg, "etc/passwd", "new"}, entry{tar.TypeReg, "etc/.wh.gone", ""},
			entry{tar.TypeReg, "opaque/above", "x"}, entry{tar.TypeReg, "opaque/.wh..wh..opq", ""},
			entry{tar.TypeLink, "hard", "etc/passwd"}, entry{tar.TypeSymlink, "soft", "/etc/passwd"}),
	))
	var names []string
	fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			t.Error(err)
		} else if !d.IsDir() {
			names = append(names, name)
		}
		return nil
	})
	if want := []string{"etc/passwd", "hard", "opaque/above", "outside", "soft"}; !slices.Equal(names, want) {
		t.Errorf("found %q, want %q", names, want)
	}
	for _, name := range []string{"etc/passwd", "hard"} {
		if data, err := fs.ReadFile(files, name); string(data) != "new" || err != nil {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if target, err := files.ReadLink("soft"); target != "/etc/passwd" || err != nil {
		t.Errorf("soft leads to %q: %v", target, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	good := tarLayer(t, entry{tar.TypeReg, "a", "x"})
	for name, c := range map[string]struct {
		change func(dir string)
		want   string
	}{
		"no index": {func(dir string) { os.Remove(filepath.Join(dir, "index.json")) }, "neither an OCI layout"},
		"bad index": {func(dir string) { os.WriteFile(filepath.Join(dir, "index.json"), []byte("["), 0o644) },
			"index.json: "},
		"empty index": {func(dir string) { os.WriteFile(filepath.Join(dir, "index.json"), []byte("{}"), 0o644) },
			"it has no image"},
		"other bytes in a layer": {func(dir string) {
			blob := filepath.Join(dir, "blobs/sha256", must(good.Digest()).Hex)
			data := must(os.ReadFile(blob))
			data[512]++
			os.Chmod(blob, 0o644)
			os.WriteFile(blob, data, 0o644)
		}, "its diffID is "},
		"no layer": {func(dir string) { os.Remove(filepath.Join(dir, "blobs/sha256", must(good.Digest()).Hex)) }, "no such file"},
	} {
		dir := storeLayers(t, good)
		c.change(dir)
		s, err := layout.Open(dir, nil)
		if err == nil {
			_, err = s.Unpack(t.Context(), t.TempDir())
		}
		if _, ok := errors.AsType[*layout.FormatError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, layer := range map[string]v1.Layer{
		"a file as a directory":  tarLayer(t, entry{tar.TypeReg, "a", "x"}, entry{tar.TypeReg, "a/b", "x"}),
		"a link to nothing":      tarLayer(t, entry{tar.TypeLink, "a", "b"}),
		"a link to a directory":  tarLayer(t, entry{tar.TypeDir, "b/", ""}, entry{tar.TypeLink, "a", "b"}),
		"a layer that is no tar": static.NewLayer(bytes.Repeat([]byte("no tar "), 100), "application/vnd.oci.image.layer.v1.tar"),
	} {
		s, err := layout.Open(storeLayers(t, layer), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Unpack(t.Context(), t.TempDir()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, layer := range []v1.Layer{tarLayer(f, entry{tar.TypeReg, "a/b", "x"}, entry{tar.TypeLink, "c", "a/b"})} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		w.AddFS(os.DirFS(storeLayers(f, layer)))
		w.Close()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "image.tar")
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		s, err := layout.Open(name, nil)
		if err != nil {
			return
		}
		defer s.Close()
		files, err := s.Unpack(t.Context(), t.TempDir())
		if err != nil {
			return
		}
		defer files.Close()
		fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error { return err })
	})
}

// Symbolic links are followed, but not out of the image, and not for ever.
func TestFilesFollowLinks(t *testing.T) {
	files := openFiles(t, storeLayers(t, tarLayer(t,
		entry{tar.TypeReg, "usr/bin/sh", "shell"},
		entry{tar.TypeSymlink, "bin", "usr/bin"},
		entry{tar.TypeSymlink, "usr/bin/ash", "/bin/../bin/./sh"},
		entry{tar.TypeSymlink, "up", "../../../usr"},
		entry{tar.TypeSymlink, "loop", "loop"},
		entry{tar.TypeSymlink, "gone", "/nowhere"},
	)))
	for _, name := range []string{"usr/bin/sh", "bin/sh", "bin/ash", "up/bin/ash"} {
		if data, err := fs.ReadFile(files, name); err != nil || string(data) != "shell" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if info := must(files.Stat("bin")); !info.IsDir() {
		t.Errorf("bin is %v", info.Mode())
	}
	if info := must(files.Lstat("bin")); info.Mode().Type() != fs.ModeSymlink || info.Size() != 7 {
		t.Errorf("bin itself is %v, of %d bytes", info.Mode(), info.Size())
	}
	if n := len(must(files.ReadDir("up/bin"))); n != 2 {
		t.Errorf("up/bin has %d files", n)
	}
	for _, name := range []string{"loop", "loop/x", "usr/bin/sh/x"} {
		if _, err := files.Stat(name); err == nil {
			t.Errorf("no error about %s", name)
		}
	}
	if _, err := files.Open("gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
