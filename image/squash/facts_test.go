package squash

import (
	"bytes"
	"context"
	"errors"
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
	"github.com/nix2img/nix2img/image/cache"
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

func write(t testing.TB, img *image.Image, rt *image.Runtime) ([]byte, *Result, error) {
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

func mustWrite(t testing.TB, img *image.Image, rt *image.Runtime) []byte {
	t.Helper()
	data, _, err := write(t, img, rt)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func openTestCache(t testing.TB, dir string, mode cache.Mode) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// forge puts facts about nothing in the place of all that a cache has.
func forge(t testing.TB, dir string) {
	t.Helper()
	c := openTestCache(t, dir, cache.Own)
	for _, o := range gpuImage(t, nil).Closure.Objects() {
		if err := c.Facts().Put(o.NARHash, nothing(t)); err != nil {
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

// removeKind removes all entries of a kind.
func removeKind(dir, kind string) error {
	names, err := filepath.Glob(filepath.Join(dir, "v2", "*", "*."+kind))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func countFacts(t testing.TB, c *cache.Cache) int {
	t.Helper()
	info, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	return info.Kinds["facts"].Entries
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
		c := openTestCache(t, dir, cache.Own)
		if !bytes.Equal(mustWrite(t, gpuImage(t, files), &image.Runtime{Cache: c}), want) {
			t.Error("other bytes")
		}
		if n := countFacts(t, c); n != 2 {
			t.Errorf("facts about %d objects", n)
		}
	}
	// They are what is used: forged ones give another image. Nobody but the user could have forged them.
	forge(t, dir)
	if bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &image.Runtime{Cache: openTestCache(t, dir, cache.Own)}), want) {
		t.Error("facts in the cache are not used")
	}
	// Without them, they are found in the segments.
	if err := removeKind(dir, "facts"); err != nil {
		t.Fatal(err)
	}
	c := openTestCache(t, dir, cache.Own)
	if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &image.Runtime{Cache: c}), want) {
		t.Error("out of segments: other bytes")
	}
	if n := countFacts(t, c); n != 2 {
		t.Errorf("out of segments: facts about %d objects", n)
	}
}

func TestWarmKeepsFacts(t *testing.T) {
	c := openTestCache(t, t.TempDir(), cache.Own)
	if _, err := Warm(t.Context(), gpuImage(t, nil).Closure, nil, &image.Runtime{Cache: c}, 0, 1); err != nil {
		t.Fatal(err)
	}
	if n := countFacts(t, c); n != 2 {
		t.Errorf("facts about %d objects", n)
	}
}

// Facts in a cache of others are believed only if it is trusted.
func TestFactsOfOthers(t *testing.T) {
	want, dir := plain(t), t.TempDir()
	mustWrite(t, gpuImage(t, nil), &image.Runtime{Cache: openTestCache(t, dir, cache.Own)})
	forge(t, dir)
	own := openTestCache(t, t.TempDir(), cache.Own)
	for _, rt := range []image.Runtime{{}, {Cache: own}, {Cache: own}} {
		rt.From = []cache.Source{openTestCache(t, dir, cache.Foreign)}
		if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), &rt), want) {
			t.Error("forged facts are believed")
		}
	}
	rt := &image.Runtime{From: []cache.Source{openTestCache(t, dir, cache.Trusted)}}
	if bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), rt), want) {
		t.Error("facts in a trusted cache are not used")
	}
	// One of an earlier version has none.
	if err := removeKind(dir, "facts"); err != nil {
		t.Fatal(err)
	}
	rt = &image.Runtime{From: []cache.Source{openTestCache(t, dir, cache.Trusted)}}
	if !bytes.Equal(mustWrite(t, gpuImage(t, closed{t}), rt), want) {
		t.Error("from a cache without facts: other bytes")
	}
}

func TestVerifyFacts(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, gpuImage(t, nil), &image.Runtime{Cache: openTestCache(t, dir, cache.Own)})
	c := openTestCache(t, dir, cache.Own)
	orphan := closure.Hash{1}
	if err := c.Facts().Put(orphan, nothing(t)); err != nil {
		t.Fatal(err)
	}
	kinds := []cache.Kind{Kind()}
	none := func(k cache.Key, err error) { t.Errorf("%s: %v", k, err) }
	if done, err := c.Verify(t.Context(), kinds, image.Inspectors(), none); err != nil || *done != (cache.Verified{Checked: 4}) || countFacts(t, c) != 2 {
		t.Errorf("%+v, facts about %d objects are left: %v", done, countFacts(t, c), err)
	}
	forge(t, dir)
	var said []string
	done, err := c.Verify(t.Context(), kinds, image.Inspectors(), func(k cache.Key, err error) { said = append(said, k.Kind+": "+err.Error()) })
	if err != nil || *done != (cache.Verified{Checked: 4, Removed: 2}) || countFacts(t, c) != 0 || !strings.HasPrefix(strings.Join(said, ""), "facts: ") {
		t.Errorf("forged: %+v, facts about %d objects are left: %v, %q", done, countFacts(t, c), err, said)
	}
}

// What was found in files that are not those of the object does not get into the cache.
func TestFactsOfChangedFilesAreNotKept(t *testing.T) {
	img := gpuImage(t, nil)
	img.Closure.Files.(fstest.MapFS)[filepath.Base(cublas)+"/lib/libGL.so.1"].Data[100]++
	c := openTestCache(t, t.TempDir(), cache.Own)
	if _, _, err := write(t, img, &image.Runtime{Cache: c}); err == nil {
		t.Fatal("no error")
	}
	if _, err := c.Facts().Get(img.Closure.Objects()[0].NARHash); err == nil {
		t.Error("there are facts")
	}
}

func TestInspect(t *testing.T) {
	c := openTestCache(t, t.TempDir(), cache.Own)
	rt := &image.Runtime{Cache: c}
	for _, files := range []fs.FS{nil, closed{t}} {
		facts, err := Inspect(t.Context(), gpuImage(t, files).Closure, rt, image.Inspectors()...)
		if err != nil || len(facts) != 2 || filesOf(t, facts[cublas]) != 2 {
			t.Errorf("%d facts, %v", len(facts), err)
		}
	}
	// A build does not rely on what has not been compared with a NAR hash.
	for _, o := range gpuImage(t, nil).Closure.Objects() {
		if err := c.Seen().Put(o.NARHash, nothing(t)); err != nil {
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
	c := openTestCache(t, t.TempDir(), cache.Own)
	mustWrite(t, gpuImage(t, nil), &image.Runtime{Cache: c})
	if _, err := c.Prune(0); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Info(); err != nil || info.Size != 0 || info.Entries != 0 {
		t.Errorf("%+v, %v", info, err)
	}
}

// An image that its user does not accept is an error, and is not begun if the user wants to know early.
func TestAccept(t *testing.T) {
	for _, early := range []bool{false, true} {
		img := gpuImage(t, nil)
		rt := &image.Runtime{AcceptFirst: early}
		rt.Accept = func(r *gpu.Report) error {
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
		if _, err := Write(t.Context(), f, img, nil, rt); err != context.DeadlineExceeded {
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
		rt := &image.Runtime{AcceptFirst: early}
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		res, err := Write(t.Context(), f, img, nil, rt)
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
		if _, err := Write(t.Context(), f, img, nil, rt); err == nil {
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
	mustWrite(t, gpuImage(t, nil), &image.Runtime{Cache: openTestCache(t, dir, cache.Own)})
	forge(t, dir)
	forged := mustWrite(t, gpuImage(t, closed{t}), &image.Runtime{Cache: openTestCache(t, dir, cache.Own)})
	if bytes.Equal(forged, want) {
		t.Fatal("it cannot be seen whether facts are looked for again")
	}
	for version := 1; version <= 2; version++ {
		for _, looks := range []int32{3, 0} { // each file once, and never again
			count := &inspecttest.Counter{V: version}
			c := openTestCache(t, dir, cache.Own)
			if got := mustWrite(t, gpuImage(t, closed{t}), &image.Runtime{Cache: c, Inspectors: []inspect.Inspector{count}}); !bytes.Equal(got, forged) {
				t.Errorf("version %d: facts that were known are looked for again", version)
			}
			if n := count.Looks.Load(); n != looks {
				t.Errorf("version %d looks at %d files, want %d", version, n, looks)
			}
			facts, err := c.Facts().Get(gpuImage(t, nil).Closure.Objects()[0].NARHash)
			if err != nil {
				t.Fatal(err)
			}
			var found inspecttest.Count
			if err := facts.Decode(count, &found); err != nil || found.Files != 2 || len(facts) != len(image.Inspectors())+1 {
				t.Errorf("version %d: found %+v, %v, beside %d others", version, found, err, len(facts)-1)
			}
		}
	}
}

// In the pass that compresses, all inspectors look at once.
func TestInspectorsShareThePass(t *testing.T) {
	count := &inspecttest.Counter{V: 1}
	c := openTestCache(t, t.TempDir(), cache.Own)
	if !bytes.Equal(mustWrite(t, gpuImage(t, nil), &image.Runtime{Cache: c, Inspectors: []inspect.Inspector{count}}), plain(t)) {
		t.Error("a further inspector changes the image")
	}
	facts, err := c.Facts().Get(gpuImage(t, nil).Closure.Objects()[0].NARHash)
	if err != nil || len(facts) != len(image.Inspectors())+1 || count.Looks.Load() != 3 {
		t.Errorf("facts of %d inspectors after %d looks: %v", len(facts), count.Looks.Load(), err)
	}
}
