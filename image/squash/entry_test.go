package squash

import (
	"bytes"
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
	"github.com/nix2img/nix2img/squashfs"
)

// anEntry returns the metadata and data of a segment as a cache has it.
func anEntry(t testing.TB, codec string) (meta, data []byte) {
	t.Helper()
	const path = "/nix/store/1b9p07z77phvv2hf6gm9f28syp39f1ag-lib-1"
	root := strings.TrimPrefix(path, "/nix/store/")
	files := fstest.MapFS{
		root + "/a/empty": {Mode: 0o444},
		root + "/a/x":     {Mode: 0o555, Data: []byte("#!x")},
		root + "/b":       {Mode: 0o444, Data: []byte(strings.Repeat("data ", 60_000))},
		root + "/link":    {Mode: fs.ModeSymlink | 0o777, Data: []byte("b")},
	}
	objects, err := narhash.Fill(t.Context(), files, []closure.Object{{Path: path}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := closure.New([]closure.Path{path}, objects)
	if err != nil {
		t.Fatal(err)
	}
	c.Files = files
	kept, err := cache.Open(t.TempDir(), cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	opts := &squashfs.Options{Compression: squashfs.Compression{Codec: codec}}
	if _, err := Warm(t.Context(), c, opts, &image.Runtime{Cache: kept}, 0, 1); err != nil {
		t.Fatal(err)
	}
	_, encoding, err := complete(opts, squashfs.DefaultModTime)
	if err != nil {
		t.Fatal(err)
	}
	e, err := kept.Entry(t.Context(), (&entryMeta{objects[0].NARHash, encoding}).key())
	if err != nil {
		t.Fatal(err)
	}
	if data, err = io.ReadAll(io.NewSectionReader(e.Data, 0, e.Size)); err != nil {
		t.Fatal(err)
	}
	return e.Meta, data
}

// What is larger than the object that it should be is refused before it is read.
func TestSegmentsThatAreTooLarge(t *testing.T) {
	meta, data := anEntry(t, "gzip")
	for size, want := range map[int64]string{100: "larger than the object", 1 << 20: "is not to be read", 0: "is not to be read"} {
		s, m, err := readEntry(&cache.Entry{Data: io.NewSectionReader(untouchable{}, 0, int64(len(data))), Size: int64(len(data)), Meta: meta})
		if err != nil {
			t.Fatal(err)
		}
		err = s.verify(t.Context(), closure.Object{NARHash: m.narHash, NARSize: size}, m.options())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%d bytes: got %v", size, err)
		}
	}
}

type untouchable struct{}

func (untouchable) ReadAt([]byte, int64) (int, error) { return 0, errors.New("it is not to be read") }

// Whatever a cache has in the place of a segment, it is refused, or can be read to its end.
func FuzzSegment(f *testing.F) {
	for _, codec := range []string{"gzip", "zstd-go", "lz4"} {
		meta, data := anEntry(f, codec)
		f.Add(meta, data)
		f.Add(meta[:len(meta)/2], data)
		f.Add(meta[:len(meta)-1], data)
		f.Add(meta, data[1:])
		f.Add(bytes.Replace(meta, []byte(codec), []byte("none"), 1), data)
	}
	f.Fuzz(func(t *testing.T, meta, data []byte) {
		e := &cache.Entry{Data: bytes.NewReader(data), Size: int64(len(data)), Meta: meta}
		s, m, err := readEntry(e)
		if err != nil {
			return
		}
		if s.check(t.Context()) == nil && s.Size() != e.Size {
			t.Errorf("a segment of %d bytes in %d", s.Size(), e.Size)
		}
		tree, err := prove(t.Context(), m.key(), e)
		if err != nil {
			return
		}
		fsys, root, err := tree.Files(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		hash, _, err := narhash.Sum(t.Context(), fsys, root)
		if err != nil || hash != tree.NARHash {
			t.Errorf("proved as %s, it has the hash %s: %v", tree.NARHash, hash, err)
		}
	})
}
