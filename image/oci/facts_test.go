package oci_test

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/inspect/inspecttest"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// gpuImage is an image with GPU code in lib, more of it than fits into what is looked at at once.
func gpuImage(t testing.TB) *image.Image {
	t.Helper()
	l, a := filepath.Base(lib), filepath.Base(app)
	code := append(gputest.SASS("sm_80"), make([]byte, 3<<20)...)
	files := fstest.MapFS{
		l:                          dirFile,
		l + "/lib":                 dirFile,
		l + "/lib/libcublas.so.12": file(0o444, string(gputest.Library(elftest.Object{Soname: "libcublas.so.12"}, append(code, gputest.SASS("sm_90")...)))),
		a:                          dirFile,
		a + "/bin":                 dirFile,
		a + "/bin/app":             file(0o555, string(elftest.Program("amd64", ""))),
	}
	objects := must(narhash.Fill(t.Context(), files, []closure.Object{{Path: lib}, {Path: app, References: []closure.Path{lib}}}, 1))
	c := must(closure.New([]closure.Path{app}, objects))
	c.Files = files
	return &image.Image{Closure: c}
}

// GPU code is found in the files, while they are compressed, in what has been compressed, or in the cache: always the same.
func TestFacts(t *testing.T) {
	full := openCache(t, t.TempDir())
	blind := openCache(t, t.TempDir())
	unaware := gpuImage(t)
	unaware.GPU = image.GPU{NV: image.No, ROCm: image.No}
	build(t, unaware, nil, &image.Runtime{Cache: blind})

	digests := make(map[string]bool)
	for _, test := range []struct {
		name  string
		early bool
		rt    image.Runtime
	}{
		{"before", true, image.Runtime{}},
		{"while", false, image.Runtime{}},
		{"while, one worker", false, image.Runtime{Workers: 1}},
		{"while, into a cache", false, image.Runtime{Cache: full}},
		{"out of the cache", false, image.Runtime{Cache: full}},
		{"of a cache without facts", false, image.Runtime{Cache: blind}},
	} {
		img := gpuImage(t)
		test.rt.AcceptFirst = test.early
		b := build(t, img, nil, &test.rt)
		if b.Record.GPU == nil || len(b.Record.GPU.SASS) != 2 {
			t.Errorf("%s: found %+v", test.name, b.Record.GPU)
		}
		digests[must(b.Digest()).String()] = true
	}
	if len(digests) != 1 {
		t.Errorf("there are %d different images", len(digests))
	}
}

// An image that its user does not accept is an error; and no file is compressed before, if the user wants to know early.
// All else that is wrong is found before in any case.
func TestAccept(t *testing.T) {
	refused := errors.New("refused")
	for _, early := range []bool{false, true} {
		img := gpuImage(t)
		read := int64(0)
		rt := &image.Runtime{AcceptFirst: early, Accept: func(*gpu.Report) error { return refused }, Progress: func(p image.Progress) { read = p.Read }}
		if _, err := oci.Build(t.Context(), img, nil, rt); !errors.Is(err, refused) {
			t.Errorf("early %v: got %v", early, err)
		}
		if early && read > 0 {
			t.Errorf("%d bytes were compressed before", read)
		}
		read = 0
		img.Files = fstest.MapFS{"etc/passwd/x": file(0o444, "in the way"), "nix/store/x": file(0o444, "not ours")}
		if _, err := oci.Build(t.Context(), img, nil, rt); err == nil || errors.Is(err, refused) && !early || read > 0 {
			t.Errorf("early %v: got %v after %d bytes", early, err, read)
		}
	}
}

// An inspector that is new, or of another version, looks at what is cached, alone and out of the blobs, and not in the store.
func TestInspectorsLookAloneAtWhatIsCached(t *testing.T) {
	dir := t.TempDir()
	open := func() *cache.Cache { return openCache(t, dir) }
	want := must(build(t, gpuImage(t), nil, &image.Runtime{Cache: open()}).Digest())
	for version := 1; version <= 2; version++ {
		for _, looks := range []int32{2, 0} { // each file once, and never again
			count := &inspecttest.Counter{V: version}
			img := gpuImage(t)
			img.Closure.Files = fstest.MapFS{}
			b := build(t, img, nil, &image.Runtime{Cache: open(), Inspectors: []inspect.Inspector{count}})
			if got := must(b.Digest()); got != want || count.Looks.Load() != looks {
				t.Errorf("version %d: got %s after %d looks, want %s after %d", version, got, count.Looks.Load(), want, looks)
			}
		}
	}
}
