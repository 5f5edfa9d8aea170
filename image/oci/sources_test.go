package oci_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/internal/cas"
)

func foreignCache(t testing.TB, dir string, trusted bool) cache.Source {
	t.Helper()
	mode := cache.Foreign
	if trusted {
		mode = cache.Trusted
	}
	c, err := cache.Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What another cache has is neither read nor compressed again, and goes into the own one.
func TestFrom(t *testing.T) {
	for _, codec := range []string{"gzip", "zstd-go", "none"} {
		opts := &oci.Options{Compression: codec}
		dir := t.TempDir()
		first := build(t, testImage(t, app, written(t, storeFiles())), opts, &image.Runtime{Cache: openCache(t, dir)})
		want := contents(t, first)
		before := entries(t, dir)
		for _, trusted := range []bool{false, true} {
			for _, cached := range []bool{false, true} {
				rt := &image.Runtime{From: []cache.Source{foreignCache(t, t.TempDir(), trusted), foreignCache(t, dir, trusted)}}
				rt.Note = func(s string) { t.Error(s) }
				own := t.TempDir()
				if cached {
					rt.Cache = openCache(t, own)
				}
				b := build(t, testImage(t, app, closed{t}), opts, rt)
				if must(b.Digest()) != must(first.Digest()) || !slices.EqualFunc(contents(t, b), want, bytes.Equal) {
					t.Errorf("%s, trusted %v, cached %v: other bytes", codec, trusted, cached)
				}
				if cached {
					contents(t, build(t, testImage(t, app, closed{t}), opts, &image.Runtime{Cache: openCache(t, own)}))
				}
			}
		}
		if after := entries(t, dir); !slices.Equal(before, after) {
			t.Errorf("the other cache had %d entries, and has %d", len(before), len(after))
		}
	}
	if _, err := cache.Open(filepath.Join(t.TempDir(), "none"), cache.Foreign); err == nil {
		t.Error("no error about a cache that is not there")
	}
}

// entries are the files of a cache.
func entries(t testing.TB, dir string) (names []string) {
	t.Helper()
	for _, i := range must(must(cas.Open(dir, cas.Trusted)).List()) {
		names = append(names, i.Key.String())
	}
	slices.Sort(names)
	return names
}

// meta is what a test needs of the metadata of an entry.
type meta struct {
	Path     string           `json:"path"`
	NARHash  string           `json:"narHash"`
	NARSize  int64            `json:"narSize"`
	Encoding string           `json:"oci"`
	RawSize  int64            `json:"rawSize"`
	Members  []map[string]any `json:"members"`
	Nodes    []map[string]any `json:"nodes"`
}

// tamper changes the blob of an object in a cache, so that all checksums are right.
func tamper(t *testing.T, dir, path string, change func(m *meta, data []byte) []byte) {
	t.Helper()
	store := must(cas.Open(dir, cas.Trusted))
	for _, i := range must(store.List()) {
		e := must(store.Get(i.Key))
		if i.Key.Kind != "blob" {
			continue
		}
		data := must(io.ReadAll(io.NewSectionReader(e, 0, e.Size())))
		var m meta
		must(0, json.Unmarshal(e.Meta, &m))
		if m.Path != path {
			continue
		}
		data = change(&m, data)
		if len(m.Members) == 1 {
			m.Members = []map[string]any{{"s": len(data), "c": crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))}}
		}
		w := must(store.Create(i.Key))
		must(w.Write(data))
		must(w.Commit(must(json.Marshal(m))))
		return
	}
	t.Fatalf("there is no %s", path)
}

// header finds the header of a file in a tar archive, lets it be changed, and computes its checksum.
func header(data []byte, name string, change func(h []byte)) []byte {
	i := bytes.Index(data, []byte(name+"\x00"))
	h := data[i : i+512]
	change(h)
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// Whatever somebody has put into another cache, no image is made of it that is not that of the store.
func TestHostileCache(t *testing.T) {
	files := written(t, storeFiles())
	opts := &oci.Options{Compression: "none"} // data are tar entries
	want := build(t, testImage(t, app, files), opts, nil)
	filled := t.TempDir()
	build(t, testImage(t, app, files), opts, &image.Runtime{Cache: openCache(t, filled)})
	program := app[1:] + "/bin/app"
	node := func(m *meta, name string) map[string]any {
		for _, n := range m.Nodes {
			if n["n"] == base64.StdEncoding.EncodeToString([]byte(name)) {
				return n
			}
		}
		t.Fatal("no node " + name)
		return nil
	}
	for name, change := range map[string]func(m *meta, data []byte) []byte{
		"contents": func(_ *meta, data []byte) []byte {
			data[bytes.Index(data, []byte("#!/nix"))+1]++
			return data
		},
		"setuid": func(_ *meta, data []byte) []byte {
			return header(data, program, func(h []byte) { copy(h[100:], "0004555") })
		},
		"owner": func(_ *meta, data []byte) []byte {
			return header(data, program, func(h []byte) { copy(h[108:], "0001750") })
		},
		"time": func(_ *meta, data []byte) []byte {
			return header(data, program, func(h []byte) { h[146]++ })
		},
		"no mode": func(m *meta, data []byte) []byte {
			node(m, "share/\xff\xfe")["k"] = "-"
			i := bytes.Index(data, []byte("not UTF-8")) - 512
			copy(data[i+100:], "0000000")
			return header(data[:len(data):len(data)], string(data[i:i+bytes.IndexByte(data[i:], 0)]), func([]byte) {})
		},
		"executable":   func(m *meta, data []byte) []byte { node(m, "bin/app")["k"] = "f"; return data },
		"link":         func(m *meta, data []byte) []byte { node(m, "bin/applet")["l"] = []byte("elsewhere"); return data },
		"elsewhere":    func(m *meta, data []byte) []byte { node(m, "bin/app")["o"] = -1; return data },
		"far away":     func(m *meta, data []byte) []byte { node(m, "bin/app")["o"] = int64(1) << 62; return data },
		"no root":      func(m *meta, data []byte) []byte { node(m, "")["n"] = []byte("x"); return data },
		"no nodes":     func(m *meta, data []byte) []byte { m.Nodes = nil; return data },
		"raw size":     func(m *meta, data []byte) []byte { m.RawSize -= 512; return data },
		"no raw size":  func(m *meta, data []byte) []byte { m.RawSize = -m.RawSize; return data },
		"more at end":  func(m *meta, data []byte) []byte { return append(data, make([]byte, 512)...) },
		"more of them": func(m *meta, data []byte) []byte { m.RawSize += 512; return append(data, make([]byte, 512)...) },
		"two members": func(m *meta, data []byte) []byte {
			sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
			a, b := data[:512], data[512:]
			m.Members = []map[string]any{{"s": len(a), "c": sum(a)}, {"s": len(b), "c": sum(b)}}
			return data
		},
		"huge members": func(m *meta, data []byte) []byte {
			m.Members = []map[string]any{{"s": int64(1)<<62 + int64(len(data))}, {"s": int64(1) << 62}, {"s": int64(1) << 62}, {"s": int64(1) << 62}}
			return data
		},
		"other object": func(m *meta, data []byte) []byte { m.Path = lib; return data },
		"other file": func(m *meta, data []byte) []byte {
			// In the NAR, and in the list of files, the new name is as good as the old one.
			return header(data, program, func(h []byte) { h[len(app)-1] = '_' })
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(0, os.CopyFS(dir, os.DirFS(filled)))
			tamper(t, dir, app, change)
			for _, cached := range []bool{false, true} {
				notes := 0
				rt := &image.Runtime{From: []cache.Source{foreignCache(t, dir, false)}, Note: func(string) { notes++ }}
				if cached {
					rt.Cache = openCache(t, t.TempDir())
				}
				b := build(t, testImage(t, app, files), opts, rt)
				if notes != 1 {
					t.Errorf("%d notes", notes)
				}
				check(t, "none", b, contents(t, b))
				if must(b.Digest()) != must(want.Digest()) {
					t.Error("another image")
				}
			}
		})
	}
}

// Accidents in a trusted cache are noticed, too.
func TestDamagedTrustedCache(t *testing.T) {
	files := written(t, storeFiles())
	dir := t.TempDir()
	first := build(t, testImage(t, app, files), nil, &image.Runtime{Cache: openCache(t, dir)})
	filepath.WalkDir(filepath.Join(dir, "v2"), func(name string, d os.DirEntry, err error) error {
		if data, err := os.ReadFile(name); err == nil && len(data) > 100_000 {
			binary.BigEndian.PutUint64(data[50_000:], 1)
			must(0, os.WriteFile(name, data, 0o644))
		}
		return err
	})
	for _, cached := range []bool{false, true} {
		notes := 0
		rt := &image.Runtime{From: []cache.Source{foreignCache(t, dir, true)}, Note: func(string) { notes++ }}
		if cached {
			rt.Cache = openCache(t, t.TempDir())
		}
		b := build(t, testImage(t, app, files), nil, rt)
		check(t, "gzip", b, contents(t, b))
		if must(b.Digest()) != must(first.Digest()) || notes != 1 {
			t.Errorf("cached %v: %d notes, or another image", cached, notes)
		}
	}
}

func TestWarmCommand(t *testing.T) {
	files := written(t, storeFiles())
	img := testImage(t, app, files)
	dir := t.TempDir()
	if _, err := oci.Warm(t.Context(), img.Closure, nil, nil, 0, 1); err == nil {
		t.Error("no cache, and no error")
	}
	warm := func(dir string, i, n int) (objects, encoded int) {
		done, err := oci.Warm(t.Context(), img.Closure, nil, &image.Runtime{Cache: openCache(t, dir)}, i, n)
		if err != nil {
			t.Fatal(err)
		}
		return done.Objects, done.Encoded
	}
	sum := 0
	for i := range 2 {
		objects, encoded := warm(dir, i, 2)
		if sum += objects; objects != encoded {
			t.Errorf("shard %d: compressed %d of %d", i, encoded, objects)
		}
	}
	if objects, encoded := warm(dir, 0, 1); sum != objects || encoded != 0 {
		t.Errorf("shards had %d of %d, and %d were compressed after them", sum, objects, encoded)
	}
	if objects, encoded := warm(dir, 0, 1); objects != 2 || encoded != 0 {
		t.Errorf("compressed %d of %d again", encoded, objects)
	}
	want := build(t, img, nil, nil)
	whole := t.TempDir()
	if objects, encoded := warm(whole, 0, 1); objects != encoded {
		t.Errorf("compressed %d of %d", encoded, objects)
	}
	for _, dir := range []string{dir, whole} {
		read := int64(0)
		rt := &image.Runtime{Cache: openCache(t, dir), Progress: func(p image.Progress) { read++ }}
		b := build(t, testImage(t, app, closed{t}), nil, rt)
		if must(b.Digest()) != must(want.Digest()) {
			t.Error("another image")
		}
		if n := int64(len(must(b.Layers()))); read != n { // a layer of which nothing is read is one step
			t.Errorf("%d steps for %d layers", read, n)
		}
	}
}
