package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
)

// anEntry returns a blob as a cache has it, and the coding and the object that it is of.
func anEntry(t testing.TB, compression string) (c *coding, o closure.Object, meta, data []byte) {
	t.Helper()
	const path = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-lib-1"
	root := strings.TrimPrefix(path, "/nix/store/")
	files := fstest.MapFS{
		root + "/a/empty": {Mode: 0o444},
		root + "/a/x":     {Mode: 0o555, Data: []byte("#!x")},
		root + "/b":       {Mode: 0o444, Data: []byte(strings.Repeat("data ", 300_000))},
		root + "/link":    {Mode: fs.ModeSymlink | 0o777, Data: []byte("b")},
	}
	objects, err := narhash.Fill(t.Context(), files, []closure.Object{{Path: path}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := closure.New([]closure.Path{path}, objects)
	if err != nil {
		t.Fatal(err)
	}
	cl.Files = files
	kept, err := cache.Open(t.TempDir(), cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if _, err := Warm(t.Context(), cl, &Options{Compression: compression}, &image.Runtime{Cache: kept}, 0, 1); err != nil {
		t.Fatal(err)
	}
	if c, err = newCoding(compression, 0); err != nil {
		t.Fatal(err)
	}
	o = objects[0]
	e, err := kept.Entry(t.Context(), c.blobKey(&o))
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(io.NewSectionReader(e.Data, 0, e.Size)); err != nil {
		t.Fatal(err)
	}
	return c, o, e.Meta, data
}

// Metadata are judged before anything follows them.
func TestBlobsThatMakeNoSense(t *testing.T) {
	c, _, meta, data := anEntry(t, "gzip")
	for what, change := range map[string]func(*blobMeta){
		"":                           func(*blobMeta) {},
		"no member":                  func(m *blobMeta) { m.Members = nil },
		"one more member":            func(m *blobMeta) { m.Members = append(m.Members, member{1, 0}) },
		"an empty member":            func(m *blobMeta) { m.Members[0].Size = 0 },
		"a huge member":              func(m *blobMeta) { m.Members[0].Size = 1 << 40 },
		"no tar":                     func(m *blobMeta) { m.RawSize, m.Members = 0, nil },
		"less than no tar":           func(m *blobMeta) { m.RawSize = -1 << 63 },
		"more tar":                   func(m *blobMeta) { m.RawSize = 1 << 62 },
		"no files":                   func(m *blobMeta) { m.Nodes = nil },
		"no root":                    func(m *blobMeta) { m.Nodes = m.Nodes[1:] },
		"a root below itself":        func(m *blobMeta) { m.Nodes[1].Name = nil },
		"a name that leads up":       func(m *blobMeta) { m.Nodes[1].Name = []byte("..") },
		"a name that leads nowhere":  func(m *blobMeta) { m.Nodes[2].Name = []byte("a/.") },
		"an empty name":              func(m *blobMeta) { m.Nodes[2].Name = []byte("a/") },
		"an absolute name":           func(m *blobMeta) { m.Nodes[1].Name = []byte("/a") },
		"a file with files":          func(m *blobMeta) { m.Nodes[1].Kind = "f" },
		"a file twice":               func(m *blobMeta) { m.Nodes[3].Name = m.Nodes[2].Name },
		"another order":              func(m *blobMeta) { m.Nodes[2], m.Nodes[3] = m.Nodes[3], m.Nodes[2] },
		"another kind":               func(m *blobMeta) { m.Nodes[2].Kind = "device" },
		"contents before the begin":  func(m *blobMeta) { m.Nodes[2].Off = -1 },
		"contents beyond the end":    func(m *blobMeta) { m.Nodes[2].Off = m.RawSize + 1 },
		"contents of negative size":  func(m *blobMeta) { m.Nodes[2].Size = -1 },
		"contents that are too long": func(m *blobMeta) { m.Nodes[2].Size = 1<<63 - 1 },
	} {
		var m blobMeta
		if err := json.Unmarshal(meta, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		changed, err := json.Marshal(&m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.readBlob(&cache.Entry{Data: bytes.NewReader(data), Size: int64(len(data)), Meta: changed})
		if what == "" {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.Is(err, errNodes) && !errors.Is(err, errLength) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

// Whatever a cache has in the place of a blob, it is refused, or can be read to its end.
// What is proved has the object's NAR hash.
func FuzzBlob(f *testing.F) {
	for _, compression := range []string{"gzip", "zstd-go", "none"} {
		_, _, meta, data := anEntry(f, compression)
		f.Add(meta, data)
		f.Add(meta[:len(meta)/2], data)
		f.Add(meta, data[1:])
		f.Add(bytes.ReplaceAll(meta, []byte(`"k":"f"`), []byte(`"k":"d"`)), data)
	}
	f.Fuzz(func(t *testing.T, meta, data []byte) {
		e := &cache.Entry{Data: bytes.NewReader(data), Size: int64(len(data)), Meta: meta}
		var m blobMeta
		if json.Unmarshal(meta, &m) != nil {
			return
		}
		o := &closure.Object{Path: m.Path, NARHash: m.NARHash, NARSize: m.NARSize}
		tree, err := proveEntry(t.Context(), blobKey(m.Encoding, o), e)
		if err != nil {
			return
		}
		fsys, root, err := tree.Files(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fs.WalkDir(fsys, root, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			file, err := fsys.Open(name)
			if err != nil {
				return err
			}
			defer file.Close()
			_, err = io.Copy(io.Discard, file)
			return err // contents may lie elsewhere than the nodes say
		})
	})
}
