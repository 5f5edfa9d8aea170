package squash

import (
	"bytes"
	"context"
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
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/inspect/inspecttest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

const (
	cublas = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-libcublas-12.4"
	app    = "/nix/store/3wqnbs1mvfz9nhpkhs40i6jmmrz2wbql-app-1"
)

// closed is a store whose files must not be asked for.
type closed struct{ t testing.TB }

func (c closed) Open(name string) (fs.File, error) {
	c.t.Errorf("%s is opened", name)
	return nil, fs.ErrPermission
}

// gpuImage is an image with a library for GPUs, whose files are in fsys, or where they belong if that is nil.
func gpuImage(t testing.TB, fsys fs.FS) *image.Image {
	t.Helper()
	file := func(mode fs.FileMode, data []byte) *fstest.MapFile {
		return &fstest.MapFile{Data: data, Mode: mode, ModTime: time.Unix(1, 0)}
	}
	lib, prog := filepath.Base(cublas), filepath.Base(app)
	files := fstest.MapFS{
		lib + "/lib/libcublas.so.12": file(0o444, gputest.Library(elftest.Object{Soname: "libcublas.so.12"}, gputest.SASS("sm_80", "sm_90"))),
		lib + "/lib/libGL.so.1":      file(0o444, gputest.Library(elftest.Object{Soname: "libGL.so.1"}, nil)),
		prog + "/bin/app":            file(0o555, elftest.Program("amd64", "")),
	}
	for _, dir := range []string{lib, lib + "/lib", prog, prog + "/bin"} {
		files[dir] = &fstest.MapFile{Mode: fs.ModeDir | 0o555, ModTime: time.Unix(1, 0)}
	}
	objects, err := narhash.Fill(t.Context(), files, []closure.Object{{Path: cublas}, {Path: app, References: []closure.Path{cublas}}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := closure.New([]closure.Path{app}, objects)
	if err != nil {
		t.Fatal(err)
	}
	if c.Files = fsys; fsys == nil {
		c.Files = files
	}
	return &image.Image{Closure: c}
}

func write(t testing.TB, img *image.Image, rt *Runtime) ([]byte, *Result, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	res, err := Write(t.Context(), f, img, nil, rt)
	if err != nil {
		return nil, nil, err
	}
	data, err := os.ReadFile(f.Name())
	return data, res, err
}

func mustWrite(t testing.TB, img *image.Image, rt *Runtime) []byte {
	t.Helper()
	data, _, err := write(t, img, rt)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openTestCache(t testing.TB, dir string, mode CacheMode) *Cache {
	t.Helper()
	c, err := OpenCache(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forge puts facts about nothing in the place of all that a cache has.
func forge(t testing.TB, dir string) {
	t.Helper()
	c := openTestCache(t, dir, OwnCache)
	for _, o := range gpuImage(t, nil).Closure.Objects() {
		if err := inspect.Kept(c.known).Put(o.NARHash, nothing(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// nothing are the facts about an object in which nothing is found.
func nothing(t testing.TB) inspect.Facts {
	t.Helper()
	f, err := inspect.Of(gpu.Inspector, &gpu.Facts{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// filesOf counts the files that facts have.
func filesOf(t testing.TB, all inspect.Facts) int {
	t.Helper()
	f, err := gpu.FactsOf(all)
	if err != nil {
		t.Fatal(err)
	}
	return len(f.Files)
}

func countFacts(t testing.TB, c *Cache) int {
	t.Helper()
	list, err := c.known.List()
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// plain is what a build without a cache gives.
func plain(t testing.TB) []byte {
	t.Helper()
	data, res, err := write(t, gpuImage(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := res.Record; !r.NV || r.ROCm || r.GPU == nil || strings.Join(r.GPU.SASS, " ") != "sm_80 sm_90" {
		t.Fatalf("the record says NV %v, ROCm %v, GPU %+v", r.NV, r.ROCm, r.GPU)
	}
	return data
}

func TestFactsAreKept(t *testing.T) {
	want, dir := plain(t), t.TempDir()
	for _, files := range []fs.FS{nil, closed{t}} {
		cache := openTestCache(t, dir, OwnCache)
		if !bytes.Equal(mustWrite(t, gpuImage(t, files), &Runtime{Cache: cache}), want) {
			t.Error("other bytes")
		}
		if n := countFacts(t, cache); n != 2 {
			t.Errorf("facts about %d objects", n)
		}
	}
	// They are what is used: forged ones give another image. Nobody but the user could have forged them.
	forge(t, dir)
	if bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &Runtime{Cache: openTestCache(t, dir, OwnCache)}), want) {
		t.Error("facts in the cache are not used")
	}
	// Without them, they are found in the segments.
	if err := os.RemoveAll(filepath.Join(dir, factsDir)); err != nil {
		t.Fatal(err)
	}
	cache := openTestCache(t, dir, OwnCache)
	if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &Runtime{Cache: cache}), want) {
		t.Error("out of segments: other bytes")
	}
	if n := countFacts(t, cache); n != 2 {
		t.Errorf("out of segments: facts about %d objects", n)
	}
}

func TestWarmKeepsFacts(t *testing.T) {
	cache := openTestCache(t, t.TempDir(), OwnCache)
	if _, _, err := Warm(t.Context(), gpuImage(t, nil).Closure, nil, &Runtime{Cache: cache}, 0, 1); err != nil {
		t.Fatal(err)
	}
	if n := countFacts(t, cache); n != 2 {
		t.Errorf("facts about %d objects", n)
	}
}

// Facts in a cache of others are believed only if it is trusted.
func TestFactsOfOthers(t *testing.T) {
	want, dir := plain(t), t.TempDir()
	mustWrite(t, gpuImage(t, nil), &Runtime{Cache: openTestCache(t, dir, OwnCache)})
	forge(t, dir)
	own := openTestCache(t, t.TempDir(), OwnCache)
	for _, rt := range []Runtime{{}, {Cache: own}, {Cache: own}} {
		rt.From = []Source{openTestCache(t, dir, ForeignCache)}
		if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &rt), want) {
			t.Error("forged facts are believed")
		}
	}
	rt := &Runtime{From: []Source{openTestCache(t, dir, TrustedCache)}}
	if bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), rt), want) {
		t.Error("facts in a trusted cache are not used")
	}
	// One of an earlier version has none.
	if err := os.RemoveAll(filepath.Join(dir, factsDir)); err != nil {
		t.Fatal(err)
	}
	rt = &Runtime{From: []Source{openTestCache(t, dir, TrustedCache)}}
	if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), rt), want) {
		t.Error("from a cache without facts: other bytes")
	}
}

func TestVerifyFacts(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, gpuImage(t, nil), &Runtime{Cache: openTestCache(t, dir, OwnCache)})
	cache := openTestCache(t, dir, OwnCache)
	orphan := closure.Hash{1}
	if err := inspect.Kept(cache.known).Put(orphan, nothing(t)); err != nil {
		t.Fatal(err)
	}
	none := func(name string, err error) { t.Errorf("%s: %v", name, err) }
	if n, bad, err := cache.Verify(t.Context(), none); n != 4 || bad != 0 || err != nil || countFacts(t, cache) != 2 {
		t.Errorf("%d entries, %d bad, facts about %d objects are left: %v", n, bad, countFacts(t, cache), err)
	}
	forge(t, dir)
	var said []string
	n, bad, err := cache.Verify(t.Context(), func(name string, err error) { said = append(said, name+": "+err.Error()) })
	if n != 4 || bad != 2 || err != nil || countFacts(t, cache) != 0 || !strings.HasPrefix(strings.Join(said, ""), "facts ") {
		t.Errorf("forged: %d entries, %d bad, facts about %d objects are left: %v, %q", n, bad, countFacts(t, cache), err, said)
	}
}

// What was found in files that are not those of the object does not get into the cache.
func TestFactsOfChangedFilesAreNotKept(t *testing.T) {
	img := gpuImage(t, nil)
	img.Closure.Files.(fstest.MapFS)[filepath.Base(cublas)+"/lib/libGL.so.1"].Data[100]++
	cache := openTestCache(t, t.TempDir(), OwnCache)
	if _, _, err := write(t, img, &Runtime{Cache: cache}); err == nil {
		t.Fatal("no error")
	}
	if _, err := inspect.Kept(cache.known).Get(img.Closure.Objects()[0].NARHash); err == nil {
		t.Error("there are facts")
	}
}

func TestInspect(t *testing.T) {
	cache := openTestCache(t, t.TempDir(), OwnCache)
	rt := &Runtime{Cache: cache}
	for _, files := range []fs.FS{nil, closed{t}} {
		facts, err := Inspect(t.Context(), gpuImage(t, files).Closure, rt, image.Inspectors()...)
		if err != nil || len(facts) != 2 || filesOf(t, facts[cublas]) != 2 {
			t.Errorf("%d facts, %v", len(facts), err)
		}
	}
	// A build does not rely on what has not been compared with a NAR hash.
	for _, o := range gpuImage(t, nil).Closure.Objects() {
		if err := inspect.KeptSeen(cache.known).Put(o.NARHash, nothing(t)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(mustWrite(t, gpuImage(t, nil), rt), plain(t)) {
		t.Error("a build relies on what has not been verified")
	}
	if facts, err := Inspect(t.Context(), gpuImage(t, closed{t}).Closure, rt, image.Inspectors()...); err != nil || filesOf(t, facts[cublas]) != 2 {
		t.Errorf("what a build has found is not used: %v", err)
	}
}

func TestPruneFacts(t *testing.T) {
	cache := openTestCache(t, t.TempDir(), OwnCache)
	mustWrite(t, gpuImage(t, nil), &Runtime{Cache: cache})
	if _, _, err := cache.Prune(0); err != nil {
		t.Fatal(err)
	}
	if info, err := cache.Info(); err != nil || info.Size != 0 || info.Entries != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// An image that its user does not accept is an error, and is not begun if the user wants to know early.
func TestAccept(t *testing.T) {
	for _, early := range []bool{false, true} {
		img := gpuImage(t, nil)
		img.GPU.Early = early
		img.GPU.Accept = func(r *gpu.Report) error {
			if len(r.Libraries) != 1 {
				t.Errorf("%d libraries", len(r.Libraries))
			}
			return context.DeadlineExceeded
		}
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := Write(t.Context(), f, img, nil, nil); err != context.DeadlineExceeded {
			t.Errorf("early %v: got %v", early, err)
		}
		if info, err := f.Stat(); err != nil || early && info.Size() != 0 {
			t.Errorf("the file has %d bytes: %v", info.Size(), err)
		}
	}
}

// What is found while files are compressed makes the same image as what is found before,
// and what is wrong with an image that has nothing to do with that is found before.
func TestEarly(t *testing.T) {
	var ids []string
	for _, early := range []bool{false, true} {
		img := gpuImage(t, nil)
		img.GPU.Early = early
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		res, err := Write(t.Context(), f, img, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.Record.GPU == nil {
			t.Errorf("early %v: nothing was found", early)
		}
		ids = append(ids, res.ID)

		img.Config.Entrypoint = []string{string(img.Closure.Roots()[0]) + "/bin/missing"}
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := Write(t.Context(), f, img, nil, nil); err == nil {
			t.Errorf("early %v: a program that is not there makes no error", early)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 0 {
			t.Errorf("early %v: %d bytes were written before the error: %v", early, info.Size(), err)
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("images differ: %s", ids)
	}
}

// An inspector that is new, or of another version, looks at what is cached, alone and out of the segments:
// not in the store, and without those whose facts are known. The image is the same.
func TestInspectorsLookAloneAtWhatIsCached(t *testing.T) {
	want, dir := plain(t), t.TempDir()
	mustWrite(t, gpuImage(t, nil), &Runtime{Cache: openTestCache(t, dir, OwnCache)})
	forge(t, dir)
	forged := mustWrite(t, gpuImage(t, closed{t}), &Runtime{Cache: openTestCache(t, dir, OwnCache)})
	if bytes.Equal(forged, want) {
		t.Fatal("it cannot be seen whether facts are looked for again")
	}
	for version := 1; version <= 2; version++ {
		for _, looks := range []int32{3, 0} { // each file once, and never again
			count := &inspecttest.Counter{V: version}
			cache := openTestCache(t, dir, OwnCache)
			if got := mustWrite(t, gpuImage(t, closed{t}), &Runtime{Cache: cache, Inspectors: []inspect.Inspector{count}}); !bytes.Equal(got, forged) {
				t.Errorf("version %d: facts that were known are looked for again", version)
			}
			if n := count.Looks.Load(); n != looks {
				t.Errorf("version %d looks at %d files, want %d", version, n, looks)
			}
			facts, err := inspect.Kept(cache.known).Get(gpuImage(t, nil).Closure.Objects()[0].NARHash)
			if err != nil {
				t.Fatal(err)
			}
			var found inspecttest.Count
			if err := facts.Decode(count, &found); err != nil || found.Files != 2 || len(facts) != 2 {
				t.Errorf("version %d: found %+v, %v, beside %d others", version, found, err, len(facts)-1)
			}
		}
	}
}

// In the pass that compresses, all inspectors look at once.
func TestInspectorsShareThePass(t *testing.T) {
	count := &inspecttest.Counter{V: 1}
	cache := openTestCache(t, t.TempDir(), OwnCache)
	if !bytes.Equal(mustWrite(t, gpuImage(t, nil), &Runtime{Cache: cache, Inspectors: []inspect.Inspector{count}}), plain(t)) {
		t.Error("a further inspector changes the image")
	}
	facts, err := inspect.Kept(cache.known).Get(gpuImage(t, nil).Closure.Objects()[0].NARHash)
	if err != nil || len(facts) != 2 || count.Looks.Load() != 3 {
		t.Errorf("facts of %d inspectors after %d looks: %v", len(facts), count.Looks.Load(), err)
	}
}
