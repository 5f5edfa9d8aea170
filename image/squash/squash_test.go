package squash_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/squashfs"
)

const (
	lib = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-lib-1"
	app = "/nix/store/3wqnbs1mvfz9nhpkhs40i6jmmrz2wbql-app-1"
)

// storeFiles are the files of a small store, by base names.
func storeFiles() fstest.MapFS {
	file := func(mode fs.FileMode, data string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(data), Mode: mode, ModTime: time.Unix(1, 0)}
	}
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o555, ModTime: time.Unix(1, 0)}
	l, a := filepath.Base(lib), filepath.Base(app)
	return fstest.MapFS{
		l:                 dir,
		l + "/lib":        dir,
		l + "/lib/data":   file(0o444, strings.Repeat("data ", 100_000)),
		l + "/lib/empty":  file(0o444, ""),
		a:                 dir,
		a + "/bin":        dir,
		a + "/bin/app":    file(0o555, "#!"+lib+"/lib/data\n"),
		a + "/bin/applet": {Data: []byte("app"), Mode: fs.ModeSymlink | 0o777, ModTime: time.Unix(1, 0)},
		a + "/share":      dir,
		a + "/share/same": file(0o444, strings.Repeat("data ", 100_000)),
	}
}

func testImage(t testing.TB, files fs.FS) *image.Image {
	t.Helper()
	objects, err := narhash.Fill(t.Context(), storeFiles(), []closure.Object{
		{Path: lib},
		{Path: app, References: []closure.Path{lib}},
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := closure.New([]closure.Path{app}, objects)
	if err != nil {
		t.Fatal(err)
	}
	c.Files = files
	return &image.Image{Closure: c, Config: image.Config{Arch: "amd64"}}
}

// build returns the squashfs and what Write says of it.
func build(t testing.TB, img *image.Image, opts *squashfs.Options, rt *image.Runtime) ([]byte, *squash.Result) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := squash.Write(t.Context(), f, img, opts, rt)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(data)) != res.Size {
		t.Errorf("the file has %d bytes, Write says %d", len(data), res.Size)
	}
	return data, res
}

func TestSameBytes(t *testing.T) {
	want, first := build(t, testImage(t, storeFiles()), nil, &image.Runtime{Workers: 1})
	for _, rt := range []image.Runtime{{Workers: 2}, {Workers: 7}, {}, {SkipVerify: true}} {
		got, res := build(t, testImage(t, storeFiles()), nil, &rt)
		if !bytes.Equal(got, want) || res.ID != first.ID {
			t.Errorf("%+v gives other bytes, or the ID %s instead of %s", rt, res.ID, first.ID)
		}
	}
}

// The digests change only with an entry under "Output" in the changelog.
func TestGolden(t *testing.T) {
	data, res := build(t, testImage(t, storeFiles()), nil, nil)
	const wantID = "sha256:3a0b407bdbe8628352ba294e70cfdd0cdb6e9ae3c8cd05cbe6fdcb07392f6bdb"
	const wantDigest = "sha256:ab87a39da442442e5bafcdd90479ba713e731d22c9505c883076a974019fe7b1"
	if res.ID != wantID {
		t.Errorf("image ID %s, want %s", res.ID, wantID)
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != wantDigest {
		t.Errorf("digest %s, want %s", got, wantDigest)
	}
}

func TestIDFollowsWhatDecidesTheBytes(t *testing.T) {
	seen := make(map[string]string)
	for name, change := range map[string]func(*image.Image, *squashfs.Options){
		"nothing":     func(*image.Image, *squashfs.Options) {},
		"codec":       func(_ *image.Image, o *squashfs.Options) { o.Compression.Codec = "lz4" },
		"level":       func(_ *image.Image, o *squashfs.Options) { o.Compression.Level = 1 },
		"block size":  func(_ *image.Image, o *squashfs.Options) { o.BlockSize = 64 << 10 },
		"time":        func(i *image.Image, _ *squashfs.Options) { i.Config.Created = time.Unix(1e9, 0) },
		"label":       func(i *image.Image, _ *squashfs.Options) { i.Config.Labels = map[string]string{"a": "b"} },
		"environment": func(i *image.Image, _ *squashfs.Options) { i.Config.Env = []string{"A=b"} },
		"file": func(i *image.Image, _ *squashfs.Options) {
			i.Files = fstest.MapFS{"etc/motd": {Data: []byte("x"), Mode: 0o644}}
		},
		"mode of file": func(i *image.Image, _ *squashfs.Options) {
			i.Files = fstest.MapFS{"etc/motd": {Data: []byte("x"), Mode: 0o640}}
		},
	} {
		img, opts := testImage(t, storeFiles()), &squashfs.Options{}
		change(img, opts)
		_, res := build(t, img, opts, nil)
		if other, ok := seen[res.ID]; ok {
			t.Errorf("%s and %s give the same ID", name, other)
		}
		seen[res.ID] = name
	}
}

func TestRecordIsInTheImage(t *testing.T) {
	data, res := build(t, testImage(t, storeFiles()), nil, nil)
	fsys, err := squashfs.Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	f, err := fsys.Open(image.RecordPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	inside, err := image.ReadRecord(f)
	if err != nil {
		t.Fatal(err)
	}
	if inside.ImageID != "" || len(inside.Segments) > 0 {
		t.Error("the record inside the image speaks of where things lie")
	}
	var a, b bytes.Buffer
	inside.Placed(res.ID, res.Record.Segments).WriteTo(&a)
	res.Record.WriteTo(&b)
	if a.String() != b.String() {
		t.Errorf("the record inside is\n%s\nthe one outside\n%s", &a, &b)
	}
	names := ""
	for _, s := range res.Record.Segments {
		names += s.Name + "\n"
	}
	if want := lib[1:] + "\n" + app[1:] + "\n.\n"; names != want {
		t.Errorf("segments are\n%swant\n%s", names, want)
	}
	// What both objects have is in the image once.
	if s := res.Record.Segments[1]; s.Size > 4096 {
		t.Errorf("the application takes %d bytes", s.Size)
	}
}

func TestChangedFilesAreFound(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"contents":   func(m fstest.MapFS) { m[filepath.Base(lib)+"/lib/data"].Data[77] ^= 1 },
		"executable": func(m fstest.MapFS) { m[filepath.Base(lib)+"/lib/data"].Mode = 0o555 },
		"size":       func(m fstest.MapFS) { m[filepath.Base(lib)+"/lib/empty"].Data = []byte("x") },
		"missing":    func(m fstest.MapFS) { delete(m, filepath.Base(lib)+"/lib/empty") },
		"new":        func(m fstest.MapFS) { m[filepath.Base(lib)+"/lib/new"] = m[filepath.Base(lib)+"/lib/empty"] },
	} {
		files := storeFiles()
		img := testImage(t, files)
		change(files)
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var mismatch *closure.HashError
		_, err = squash.Write(t.Context(), f, img, nil, nil)
		if !errors.As(err, &mismatch) || mismatch.Path != lib {
			t.Errorf("%s: got %v, want a hash mismatch of %s", name, err, lib)
		}
		if _, err := squash.Write(t.Context(), f, img, nil, &image.Runtime{SkipVerify: true}); err != nil {
			t.Errorf("%s: not verified, and yet %v", name, err)
		}
	}
}

func TestProgressEndsAtTotal(t *testing.T) {
	var last image.Progress
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Progress: func(p image.Progress) {
		if p.Read < last.Read || p.Written < last.Written || p.Total < p.Read {
			t.Errorf("%+v follows %+v", p, last)
		}
		last = p
	}})
	if last.Object != "base files" || last.Read < 1_000_000 {
		t.Errorf("the last progress is %+v", last)
	}
}
