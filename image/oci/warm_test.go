package oci_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/layering"
)

// only is a store of which just the objects with the given name may be asked for.
type only struct {
	t    testing.TB
	fsys fs.FS
	base string
}

func (o only) check(name string) {
	if name != o.base && !strings.HasPrefix(name, o.base+"/") {
		o.t.Errorf("%s is asked for", name)
	}
}

func (o only) Open(name string) (fs.File, error) {
	o.check(name)
	return o.fsys.Open(name)
}

func (o only) Lstat(name string) (fs.FileInfo, error) {
	o.check(name)
	return fs.Lstat(o.fsys, name)
}

func (o only) ReadLink(name string) (string, error) {
	o.check(name)
	return fs.ReadLink(o.fsys, name)
}

// What has been compressed is not read again: not in the same image, nor in one of which a part has changed.
func TestWarm(t *testing.T) {
	dir := t.TempDir()
	build(t, testImage(t, app, written(t, storeFiles())), nil, &image.Runtime{Cache: openCache(t, dir)})

	again := build(t, testImage(t, app, closed{t}), nil, &image.Runtime{Cache: openCache(t, dir)})
	contents(t, again)

	files := written(t, storeFiles())
	one := &oci.Options{Layering: layering.Options{Max: 2}} // so the layer begins with what is known
	b := build(t, testImage(t, app2, only{t, files, filepath.Base(app2)}), one, &image.Runtime{Cache: openCache(t, dir)})
	contents(t, b)
	cold := build(t, testImage(t, app2, files), one, nil)
	if d1, d2 := must(cold.Digest()), must(b.Digest()); d1 != d2 {
		t.Errorf("digest %s, not %s", d2, d1)
	}
}

// A layer goes on from the state of another one that begins alike.
func TestResume(t *testing.T) {
	dir := t.TempDir()
	one := &oci.Options{Layering: layering.Options{Max: 2}}
	files := written(t, storeFiles())
	read := func(root string, cache *cache.Cache) (digest string, bytes int64) {
		rt := &image.Runtime{Cache: cache, Progress: func(p image.Progress) { bytes = p.Written }}
		return must(build(t, testImage(t, root, files), one, rt).Digest()).String(), bytes
	}
	_, first := read(app, openCache(t, dir))
	digest, second := read(app2, openCache(t, dir))
	if want, _ := read(app2, nil); digest != want {
		t.Errorf("digest %s, not %s", digest, want)
	}
	if second > first/10 {
		t.Errorf("went through %d bytes, after %d", second, first)
	}
}

func TestVerifyCache(t *testing.T) {
	dir := t.TempDir()
	files := written(t, storeFiles())
	for _, codec := range []string{"gzip", "zstd-go", "none"} {
		build(t, testImage(t, app, files), &oci.Options{Compression: codec}, &image.Runtime{Cache: openCache(t, dir)})
	}
	verify := func() (n, bad, told int) {
		done, err := openCache(t, dir).Verify(t.Context(), []cache.Kind{oci.Kind()}, nil, func(cache.Key, error) { told++ })
		if err != nil {
			t.Fatal(err)
		}
		return done.Checked, done.Removed, told
	}
	// Two blobs for each compression, and the facts about both objects.
	if n, bad, _ := verify(); n != 8 || bad != 0 {
		t.Errorf("%d of %d entries are bad", bad, n)
	}
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if info := must(d.Info()); !d.IsDir() && info.Size() > 100_000 {
			data := must(os.ReadFile(name))
			data[50_000]++
			must(0, os.WriteFile(name, data, 0o644))
		}
		return err
	})
	if n, bad, told := verify(); n != 7 || bad != 3 || told != 3 {
		t.Errorf("%d of %d entries are bad, and %d were told of", bad, n, told)
	}
	if n, bad, _ := verify(); n != 4 || bad != 0 {
		t.Errorf("then, %d of %d entries are bad", bad, n)
	}
}

// What is damaged or gone is made again.
func TestDamagedCache(t *testing.T) {
	dir := t.TempDir()
	files := written(t, storeFiles())
	first := build(t, testImage(t, app, files), nil, &image.Runtime{Cache: openCache(t, dir)})
	want := contents(t, first)
	entries := func() (names []string) {
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				names = append(names, name)
			}
			return err
		})
		return names
	}
	for i, name := range entries() {
		for _, how := range []string{"gone", "short", "begin", "end"} {
			data := must(os.ReadFile(name))
			err := error(nil)
			switch how {
			case "gone":
				err = os.Remove(name)
			case "short":
				err = os.WriteFile(name, data[:len(data)/2], 0o644)
			case "begin":
				bad := slices.Clone(data)
				bad[len(bad)/3] ^= 1
				err = os.WriteFile(name, bad, 0o644)
			case "end":
				bad := slices.Clone(data)
				bad[len(bad)-70] ^= 1
				err = os.WriteFile(name, bad, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			b := build(t, testImage(t, app, files), nil, &image.Runtime{Cache: openCache(t, dir)})
			got := contents(t, b)
			if must(b.Digest()) != must(first.Digest()) || len(got) != len(want) {
				t.Errorf("entry %d %s: other digest", i, how)
			}
			for j := range got {
				if string(got[j]) != string(want[j]) {
					t.Errorf("entry %d %s: layer %d has other bytes", i, how, j)
				}
			}
			if err := os.WriteFile(name, data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What another process removes before a layer is read is made again. A cache that takes nothing is passed over.
func TestEntriesThatVanishAreMadeAgain(t *testing.T) {
	dir := t.TempDir()
	own := openCache(t, dir)
	b := build(t, testImage(t, app, written(t, storeFiles())), nil, &image.Runtime{Cache: own})
	want := contents(t, b)
	for _, full := range []bool{false, true} {
		if full {
			must(0, os.RemoveAll(filepath.Join(dir, "tmp")))
			must(0, os.WriteFile(filepath.Join(dir, "tmp"), nil, 0o644))
		}
		own.Close() // files that are open could still be read
		must(openCache(t, dir).Prune(0))
		for j, got := range contents(t, b) {
			if string(got) != string(want[j]) {
				t.Errorf("layer %d has other bytes", j)
			}
		}
		if info := must(own.Info()); (info.Kinds["blob"].Entries > 0) == full {
			t.Errorf("cache that takes nothing: %v, and it has %v", full, info.Kinds)
		}
	}
}

// The context of a build is that of reading its layers.
func TestReadingLayersEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := must(oci.Build(ctx, testImage(t, app, written(t, storeFiles())), nil, nil))
	defer b.Close()
	for _, l := range must(b.Layers()) {
		r := must(l.Compressed())
		must(io.ReadFull(r, make([]byte, 10)))
		defer func() {
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}()
	}
	cancel()
}
