package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/klauspost/compress/zstd"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/oci"
)

const (
	lib  = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-lib-1"
	app  = "/nix/store/3wqnbs1mvfz9nhpkhs40i6jmmrz2wbql-app-1"
	app2 = "/nix/store/4wqnbs1mvfz9nhpkhs40i6jmmrz2wbql-app-1"
)

var (
	dirFile = &fstest.MapFile{Mode: fs.ModeDir | 0o555, ModTime: time.Unix(1, 0)}
	long    = strings.Repeat("long/", 60) + "name" // too long for USTAR
)

func file(mode fs.FileMode, data string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(data), Mode: mode, ModTime: time.Unix(1, 0)}
}

// numbers is text of n bytes that does not compress to nothing.
func numbers(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintln(&b, i*i)
	}
	return b.String()[:n]
}

// storeFiles are the files of a small store, by base names.
func storeFiles() fstest.MapFS {
	l, a, a2 := filepath.Base(lib), filepath.Base(app), filepath.Base(app2)
	files := fstest.MapFS{
		l:                     dirFile,
		l + "/lib":            dirFile,
		l + "/lib/data":       file(0o444, numbers(1<<20+77)),
		l + "/lib/empty":      file(0o444, ""),
		l + "/lib/piece":      file(0o444, numbers(1<<20)),
		a:                     dirFile,
		a + "/bin":            dirFile,
		a + "/bin/app":        file(0o555, "#!"+lib+"/lib/data\n"),
		a + "/bin/applet":     {Data: []byte("app"), Mode: fs.ModeSymlink | 0o777, ModTime: time.Unix(1, 0)},
		a + "/share":          dirFile,
		a + "/share/\xff\xfe": file(0o444, "not UTF-8"),
		a + "/" + long:        file(0o444, "long"),
		a2:                    file(0o555, "another app"),
	}
	for name := a + "/" + filepath.Dir(long); name != a; name = filepath.Dir(name) {
		files[name] = dirFile
	}
	return files
}

// written returns a store on disk with the given files.
func written(t testing.TB, files fstest.MapFS) fs.FS {
	t.Helper()
	dir := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, to := files[name], filepath.Join(dir, name)
		var err error
		switch f.Mode.Type() {
		case fs.ModeDir:
			err = os.Mkdir(to, 0o700)
		case fs.ModeSymlink:
			err = os.Symlink(string(f.Data), to)
		default:
			err = os.WriteFile(to, f.Data, f.Mode&0o100|0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return closure.DirFS(dir)
}

// hashed are the objects of closures, by their roots.
var hashed = make(map[string][]closure.Object)

func testImage(t testing.TB, root string, files fs.FS) *image.Image {
	t.Helper()
	if hashed[root] == nil {
		objects := []closure.Object{{Path: lib}, {Path: closure.Path(root), References: []closure.Path{lib}}}
		hashed[root] = must(narhash.Fill(t.Context(), written(t, storeFiles()), objects, 1))
	}
	c, err := closure.New([]closure.Path{closure.Path(root)}, hashed[root])
	if err != nil {
		t.Fatal(err)
	}
	c.Files = files
	return &image.Image{Closure: c, Config: image.Config{Arch: "amd64"}}
}

func build(t testing.TB, img *image.Image, opts *oci.Options, rt *image.Runtime) *oci.Image {
	t.Helper()
	b, err := oci.Build(t.Context(), img, opts, rt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func openCache(t testing.TB, dir string) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// contents reads all layers, compressed.
func contents(t testing.TB, img v1.Image) (all [][]byte) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		all = append(all, data)
	}
	return all
}

// check compares layers, as other programs expand them, with what the image says of them.
func check(t *testing.T, codec string, img v1.Image, layers [][]byte) {
	t.Helper()
	for i, l := range must(img.Layers()) {
		r := io.Reader(bytes.NewReader(layers[i]))
		if d := v1Hash(r); d != must(l.Digest()) || int64(len(layers[i])) != must(l.Size()) {
			t.Errorf("layer %d: digest %s and %d bytes, not %s and %d", i, d, len(layers[i]), must(l.Digest()), must(l.Size()))
		}
		r = bytes.NewReader(layers[i])
		switch codec {
		case "gzip":
			r = must(gzip.NewReader(r))
		case "zstd", "zstd-go":
			r = must(zstd.NewReader(r))
		}
		if d := v1Hash(r); d != must(l.DiffID()) {
			t.Errorf("layer %d: diffID %s, not %s", i, must(l.DiffID()), d)
		}
		if d := v1Hash(must(l.Uncompressed())); d != must(l.DiffID()) {
			t.Errorf("layer %d is not what it is uncompressed", i)
		}
	}
	if codec != "gzip" {
		return // this is all that the following can read
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
}

func v1Hash(r io.Reader) v1.Hash {
	h, _, err := v1.SHA256(r)
	if err != nil {
		panic(err)
	}
	return h
}

// The bytes depend neither on the number of workers, nor on a cache, nor on what is in it.
func TestSameBytes(t *testing.T) {
	for _, codec := range []string{"gzip", "zstd-go", "none"} {
		t.Run(codec, func(t *testing.T) {
			opts := &oci.Options{Compression: codec}
			first := build(t, testImage(t, app, written(t, storeFiles())), opts, &image.Runtime{Workers: 1})
			want := contents(t, first)
			check(t, codec, first, want)
			dir := t.TempDir()
			for _, rt := range []*image.Runtime{
				{Workers: 2}, {Workers: 7, SkipVerify: true},
				{Workers: 7, Cache: openCache(t, dir)}, // cold
				{Workers: 2, Cache: openCache(t, dir)}, // warm
			} {
				b := build(t, testImage(t, app, written(t, storeFiles())), opts, rt)
				if d1, d2 := must(first.Digest()), must(b.Digest()); d1 != d2 {
					t.Errorf("%+v: digest %s, not %s", rt, d2, d1)
				}
				if got := contents(t, b); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("%+v: other bytes", rt)
				}
			}
		})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A layer has what the store has, and everything in it is as it should be.
func TestTar(t *testing.T) {
	files := storeFiles()
	b := build(t, testImage(t, app, written(t, files)), nil, nil)
	seen := make(map[string]bool)
	for i, l := range must(b.Layers()) {
		r := must(l.Uncompressed())
		tr := tar.NewReader(r)
		var first []string
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(first) < 2 {
				first = append(first, h.Name)
			}
			if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || h.ModTime.Unix() != 1 {
				t.Errorf("%s: %+v", h.Name, h)
			}
			base, ok := strings.CutPrefix(strings.TrimSuffix(h.Name, "/"), "nix/store/")
			if !ok {
				continue
			}
			if seen[base] {
				t.Errorf("%s is there twice", h.Name)
			}
			seen[base] = true
			want := files[base]
			if want == nil {
				t.Errorf("%s is not in the store", h.Name)
				continue
			}
			if m := h.FileInfo().Mode(); m != want.Mode {
				t.Errorf("%s has mode %v, not %v", h.Name, m, want.Mode)
			}
			data, err := io.ReadAll(tr)
			if h.Typeflag == tar.TypeSymlink {
				data = []byte(h.Linkname)
			}
			if err != nil || string(data) != string(want.Data) {
				t.Errorf("%s: other contents: %v", h.Name, err)
			}
			wantPAX := len(h.Name) > 256 || strings.Contains(h.Name, "\xff")
			if wantPAX != (h.Format == tar.FormatPAX) && (wantPAX || len(h.Name) <= 100) {
				t.Errorf("%s has format %v", h.Name, h.Format)
			}
		}
		if rest := must(io.ReadAll(r)); len(rest) > 0 {
			t.Errorf("layer %d: %d bytes after its end", i, len(rest))
		}
		if !slices.Equal(first, []string{"nix/", "nix/store/"}) && i < len(must(b.Layers()))-1 {
			t.Errorf("layer %d begins with %v", i, first)
		}
	}
	for name := range files {
		if !seen[name] && !strings.HasPrefix(name, filepath.Base(app2)) {
			t.Errorf("%s is in no layer", name)
		}
	}
}

// closed is a store whose files must not be asked for.
type closed struct{ t testing.TB }

func (c closed) Open(name string) (fs.File, error) {
	c.t.Errorf("%s is opened", name)
	return nil, fs.ErrPermission
}

func TestWrongFiles(t *testing.T) {
	files := storeFiles()
	files[filepath.Base(lib)+"/lib/data"].Data[734567]++
	for range 2 {
		_, err := oci.Build(t.Context(), testImage(t, app, written(t, files)), nil, &image.Runtime{Cache: openCache(t, t.TempDir())})
		e, ok := errors.AsType[*closure.HashError](err)
		if !ok || e.Path != lib {
			t.Errorf("got %v", err)
		}
	}
}

func TestWhiteouts(t *testing.T) {
	files := storeFiles()
	files[filepath.Base(lib)+"/.wh.x"] = file(0o444, "x")
	files[filepath.Base(app)+"/share/.wh..wh..opq"] = file(0o444, "x")
	_, err := oci.Build(t.Context(), testImage(t, app, written(t, files)), nil, nil)
	e, ok := errors.AsType[*oci.WhiteoutError](err)
	if !ok || !slices.Equal(e.Paths, []string{lib + "/.wh.x", app + "/share/.wh..wh..opq"}) {
		t.Errorf("got %v", err)
	}
}
