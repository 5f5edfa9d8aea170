package squash_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/squash"
	"github.com/nix2img/nix2img/squashfs"
)

func openCache(t testing.TB, dir string, mode cache.Mode) *cache.Cache {
	t.Helper()
	c, err := cache.Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unreadable is a store whose files must not be asked for.
type unreadable struct{ t testing.TB }

func (u unreadable) Open(name string) (fs.File, error) {
	u.t.Errorf("%s is opened", name)
	return nil, fs.ErrPermission
}

func TestSameBytesColdAndWarm(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	dir := t.TempDir()
	for _, files := range []fs.FS{storeFiles(), unreadable{t}} {
		rt := &image.Runtime{Cache: openCache(t, dir, cache.Own)}
		if got, _ := build(t, testImage(t, files), nil, rt); !bytes.Equal(got, want) {
			t.Errorf("with files from %T: other bytes", files)
		}
	}
	for _, limit := range []int64{1 << 40, 0} {
		cache := openCache(t, dir, cache.Own)
		if _, err := cache.Prune(limit); err != nil {
			t.Fatal(err)
		}
		info, err := cache.Info()
		if err != nil || (info.Kinds["segment"].Entries == 2) != (limit > 0) {
			t.Errorf("pruned to %d bytes, there are %v: %v", limit, info.Kinds, err)
		}
	}
}

func TestForeignCachesAreChecked(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	foreign := t.TempDir()
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: openCache(t, foreign, cache.Own)})

	own := t.TempDir()
	rt := &image.Runtime{
		Cache: openCache(t, own, cache.Own),
		From:  []cache.Source{openCache(t, foreign, cache.Foreign)},
		Note:  func(s string) { t.Error(s) },
	}
	if got, _ := build(t, testImage(t, unreadable{t}), nil, rt); !bytes.Equal(got, want) {
		t.Error("from a foreign cache: other bytes")
	}
	// Now it is in the user's own, and nobody is asked.
	rt = &image.Runtime{Cache: openCache(t, own, cache.Own)}
	if got, _ := build(t, testImage(t, unreadable{t}), nil, rt); !bytes.Equal(got, want) {
		t.Error("from the cache that was filled: other bytes")
	}
	// Without a cache of one's own.
	for _, mode := range []cache.Mode{cache.Foreign, cache.Trusted} {
		rt := &image.Runtime{From: []cache.Source{openCache(t, foreign, mode)}}
		if got, _ := build(t, testImage(t, unreadable{t}), nil, rt); !bytes.Equal(got, want) {
			t.Error("straight from a foreign cache: other bytes")
		}
	}
}

// An object may be a single file, or a link that leads nowhere.
func TestObjectsThatAreNoDirectoriesAreProved(t *testing.T) {
	for name, file := range map[string]*fstest.MapFile{
		"link": {Data: []byte("../elsewhere"), Mode: fs.ModeSymlink | 0o777, ModTime: time.Unix(1, 0)},
		"file": {Data: []byte("text"), Mode: 0o444, ModTime: time.Unix(1, 0)},
	} {
		files := fstest.MapFS{filepath.Base(lib): file}
		img := func(files fs.FS) *image.Image {
			objects, err := narhash.Fill(t.Context(), fstest.MapFS{filepath.Base(lib): file}, []closure.Object{{Path: lib}}, 1)
			if err != nil {
				t.Fatal(err)
			}
			c, err := closure.New([]closure.Path{lib}, objects)
			if err != nil {
				t.Fatal(err)
			}
			c.Files = files
			return &image.Image{Closure: c, Config: image.Config{Arch: "amd64"}}
		}
		foreign := t.TempDir()
		want, _ := build(t, img(files), nil, &image.Runtime{Cache: openCache(t, foreign, cache.Own)})
		rt := &image.Runtime{From: []cache.Source{openCache(t, foreign, cache.Foreign)}, Note: func(s string) { t.Errorf("%s: %s", name, s) }}
		if got, _ := build(t, img(unreadable{t}), nil, rt); !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes", name)
		}
	}
}

// entries lists the files of a cache.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestDamagedEntriesAreMadeAgain(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	dir := t.TempDir()
	fill := func() []string {
		build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: openCache(t, dir, cache.Own)})
		return entries(t, dir)
	}
	names := fill()
	if len(names) != 4 { // two segments, and facts about two objects
		t.Fatalf("the cache has %d entries", len(names))
	}
	for _, name := range names {
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		damage := map[string][]byte{
			"empty":     {},
			"truncated": good[:len(good)-1],
			"longer":    append(bytes.Clone(good), 0),
			"garbage":   bytes.Repeat([]byte("x"), len(good)),
		}
		for i := 0; i < len(good); i += 1 + len(good)/40 {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			damage[fmt.Sprint("byte ", i)] = bad
		}
		for what, bad := range damage {
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			notes := 0
			got, _ := build(t, testImage(t, storeFiles()), nil, &image.Runtime{
				Cache: openCache(t, dir, cache.Own),
				Note:  func(string) { notes++ },
			})
			if !bytes.Equal(got, want) {
				t.Errorf("%s: other bytes", what)
			}
			if notes != 1 {
				t.Errorf("%s: %d notes", what, notes)
			}
			if now, err := os.ReadFile(name); err != nil || !bytes.Equal(now, good) {
				t.Errorf("%s: the entry is not what it was: %v", what, err)
			}
		}
	}
}

// A cache of others is trusted, but its checksums are compared all the same.
func TestDamagedEntriesOfTrustedCaches(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	foreign := t.TempDir()
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: openCache(t, foreign, cache.Own)})
	for _, name := range segments(t, foreign) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b[10] ^= 1
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, own := range []*cache.Cache{nil, openCache(t, t.TempDir(), cache.Own)} {
		notes := 0
		got, _ := build(t, testImage(t, storeFiles()), nil, &image.Runtime{
			Cache: own,
			From:  []cache.Source{openCache(t, foreign, cache.Trusted)},
			Note:  func(string) { notes++ },
		})
		if !bytes.Equal(got, want) || notes != 2 {
			t.Errorf("with a cache: %v: %d notes, same bytes: %v", own != nil, notes, bytes.Equal(got, want))
		}
	}
}

func TestVerifyFindsForgedEntries(t *testing.T) {
	dir := t.TempDir()
	c := openCache(t, dir, cache.Own)
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: c})
	kinds := []cache.Kind{squash.Kind()}
	none := func(k cache.Key, err error) { t.Errorf("%s: %v", k, err) }
	if done, err := c.Verify(t.Context(), kinds, image.Inspectors(), none); err != nil || *done != (cache.Verified{Checked: 4}) {
		t.Errorf("%+v, %v", done, err)
	}
	// An entry in the place of another has good checksums, and yet is wrong.
	names := segments(t, dir)
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[1], b, 0o600); err != nil {
		t.Fatal(err)
	}
	// The facts about the other object are still right, but nothing shows it.
	if done, err := c.Verify(t.Context(), kinds, image.Inspectors(), func(cache.Key, error) {}); err != nil || *done != (cache.Verified{Checked: 3, Removed: 1}) {
		t.Errorf("%+v, %v", done, err)
	}
	if names := entries(t, dir); len(names) != 2 {
		t.Errorf("%q are left", names)
	}
}

// segments lists the files of a cache that are segments.
func segments(t testing.TB, dir string) (names []string) {
	for _, name := range entries(t, dir) {
		if strings.HasSuffix(name, ".segment") {
			names = append(names, name)
		}
	}
	return names
}

func TestChangedFilesDoNotGetIntoTheCache(t *testing.T) {
	files := storeFiles()
	img := testImage(t, files)
	files[filepath.Base(app)+"/bin/app"].Data[3] = 'x'
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = squash.Write(t.Context(), f, img, nil, &image.Runtime{Cache: openCache(t, dir, cache.Own), SkipVerify: true})
	if _, ok := errors.AsType[*closure.HashError](err); !ok {
		t.Errorf("got %v", err)
	}
	for _, name := range entries(t, dir) {
		if strings.HasSuffix(name, ".tmp") {
			t.Errorf("%s is left", name)
		}
	}
	// What came before it was good.
	if info, _ := openCache(t, dir, cache.Own).Info(); info.Kinds["segment"].Entries != 1 {
		t.Errorf("%v", info.Kinds)
	}
}

func TestCachesOfOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	_, err := cache.Open(dir, cache.Own)
	if _, ok := errors.AsType[*cache.TrustError](err); !ok {
		t.Errorf("got %v", err)
	}
	if _, err := cache.Open(filepath.Join(dir, "none"), cache.Foreign); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a foreign cache that does not exist: %v", err)
	}
}

func TestBuildsSideBySide(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		cache := openCache(t, dir, cache.Own)
		wg.Go(func() {
			if got, _ := build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: cache, Workers: 2}); !bytes.Equal(got, want) {
				t.Error("other bytes")
			}
		})
	}
	wg.Wait()
	if names := entries(t, dir); len(names) != 4 {
		t.Errorf("the cache has %q", names)
	}
}

func TestWarmInShards(t *testing.T) {
	img := testImage(t, storeFiles())
	dir := t.TempDir()
	total := 0
	for i := range 3 {
		cache := openCache(t, dir, cache.Own)
		done, err := squash.Warm(t.Context(), img.Closure, nil, &image.Runtime{Cache: cache}, i, 3)
		if err != nil || done.Objects != done.Encoded {
			t.Errorf("shard %d: %+v, %v", i, done, err)
		}
		total += done.Objects
	}
	if total != 2 {
		t.Errorf("the shards have %d objects", total)
	}
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	got, _ := build(t, testImage(t, unreadable{t}), nil, &image.Runtime{Cache: openCache(t, dir, cache.Own)})
	if !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
}

func TestReserveComesFirst(t *testing.T) {
	full := errors.New("full")
	cache := openCache(t, t.TempDir(), cache.Own)
	data, _ := build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: cache})
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var size int64
	rt := &image.Runtime{
		Cache:   cache,
		Reserve: func(n int64) error { size = n; return full },
	}
	if _, err := squash.Write(t.Context(), f, testImage(t, storeFiles()), nil, rt); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}
	if info, _ := f.Stat(); info.Size() != 0 {
		t.Errorf("%d bytes are there", info.Size())
	}
	if size != int64(len(data)) {
		t.Errorf("asked for %d bytes, want %d", size, len(data))
	}
}

func TestPreviousImageAsCache(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	for _, trust := range []bool{false, true} {
		previous, err := squash.OpenPrevious(bytes.NewReader(want), trust)
		if err != nil {
			t.Fatal(err)
		}
		rt := &image.Runtime{From: []cache.Source{previous}, Note: func(s string) { t.Error(s) }}
		if got, _ := build(t, testImage(t, unreadable{t}), nil, rt); !bytes.Equal(got, want) {
			t.Errorf("trust %v: other bytes", trust)
		}
		// Of other options, nothing can be taken.
		opts := &squashfs.Options{}
		opts.Compression.Codec = "lz4"
		direct, _ := build(t, testImage(t, storeFiles()), opts, nil)
		if got, _ := build(t, testImage(t, storeFiles()), opts, rt); !bytes.Equal(got, direct) {
			t.Errorf("trust %v: other bytes with other options", trust)
		}
	}
}

// An image that has been tampered with must not find its way into another.
func TestPreviousImageIsChecked(t *testing.T) {
	want, res := build(t, testImage(t, storeFiles()), nil, nil)
	bad := bytes.Clone(want)
	s := res.Record.Segments[0]
	bad[s.Offset+s.Size/2] ^= 1
	previous, err := squash.OpenPrevious(bytes.NewReader(bad), false)
	if err != nil {
		t.Fatal(err)
	}
	notes := 0
	rt := &image.Runtime{From: []cache.Source{previous}, Note: func(string) { notes++ }}
	got, _ := build(t, testImage(t, storeFiles()), nil, rt)
	if !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
	if notes == 0 {
		t.Error("nothing was said")
	}
}

// What another process removes while a build relies on it is made again.
func TestEntriesThatVanishAreMadeAgain(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	dir := t.TempDir()
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: openCache(t, dir, cache.Own)})
	own, times := openCache(t, dir, cache.Own), 0
	rt := &image.Runtime{
		Cache: own,
		Reserve: func(int64) error {
			if times++; times > 1 {
				return nil
			}
			own.Close() // files that are open could still be read
			_, err := openCache(t, dir, cache.Own).Prune(0)
			return err
		},
	}
	if got, _ := build(t, testImage(t, storeFiles()), nil, rt); !bytes.Equal(got, want) {
		t.Error("other bytes")
	}
	if info, err := own.Info(); err != nil || info.Kinds["segment"].Entries != 2 || times == 0 {
		t.Errorf("%+v, after %d times: %v", info, times, err)
	}
}

// An entry that cannot be read is no reason to remove it, nor to fail.
func TestUnreadableEntriesStay(t *testing.T) {
	want, _ := build(t, testImage(t, storeFiles()), nil, nil)
	dir := t.TempDir()
	build(t, testImage(t, storeFiles()), nil, &image.Runtime{Cache: openCache(t, dir, cache.Own)})
	names := segments(t, dir)
	for _, name := range names {
		folder := filepath.Dir(name)
		if err := os.Rename(folder, folder+".moved"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Base(folder)+".moved", folder); err != nil { // a folder that is a link is not followed
			t.Fatal(err)
		}
	}
	var notes []string
	got, _ := build(t, testImage(t, storeFiles()), nil, &image.Runtime{
		Cache: openCache(t, dir, cache.Own),
		Note:  func(s string) { notes = append(notes, s) },
	})
	if !bytes.Equal(got, want) || len(notes) == 0 || !strings.Contains(notes[0], "cannot be read") {
		t.Errorf("same bytes: %v, notes %q", bytes.Equal(got, want), notes)
	}
	for _, name := range names {
		if _, err := os.Stat(name); err != nil {
			t.Error(err)
		}
	}
}
