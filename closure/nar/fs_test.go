package nar_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure/nar"
)

func open(t testing.TB, b []byte) *nar.FS {
	t.Helper()
	fsys, err := nar.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

func TestFS(t *testing.T) {
	files := fstest.MapFS{
		"bin/hello":     {Data: []byte("hello"), Mode: 0o755},
		"bin/again":     {Data: []byte("hello"), Mode: fs.ModeSymlink},
		"lib/a/b/c/d":   {Data: bytes.Repeat([]byte("x"), 10000)},
		"lib/up":        {Data: []byte("../bin/./again"), Mode: fs.ModeSymlink},
		"lib/b":         {Data: []byte("a/b/"), Mode: fs.ModeSymlink},
		"share/nothing": {},
		"empty":         {Mode: fs.ModeDir},
	}
	fsys := open(t, dump(t, files, "."))
	if err := fstest.TestFS(fsys, "bin/hello", "bin/again", "lib/a/b/c/d", "lib/up", "share/nothing", "empty"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"lib/up", "lib/b/../../bin/hello", "lib/b/c/d"} {
		_, err := fs.ReadFile(fsys, name)
		if valid := fs.ValidPath(name); valid != (err == nil) {
			t.Errorf("read %s: %v", name, err)
		}
	}
}

func TestFSHasWhatTheArchiveHas(t *testing.T) {
	b := write(t, tree)
	fsys := open(t, b)
	if !bytes.Equal(dump(t, fsys, "."), b) {
		t.Error("the archive of the file system differs from the one it is made of")
	}
	if fsys.Size() != int64(len(b)) {
		t.Errorf("Size is %d, want %d", fsys.Size(), len(b))
	}
	if got, err := fs.ReadFile(fsys, "b\xff\n"); string(got) != "x" || err != nil {
		t.Errorf("a name that is not UTF-8: %q, %v", got, err)
	}
}

func TestFSOfOneFile(t *testing.T) {
	for _, name := range []string{"README", "abs"} {
		b := dump(t, mapFS, name)
		if !bytes.Equal(dump(t, open(t, b), "."), b) {
			t.Errorf("%s: the archive of the file system differs from the one it is made of", name)
		}
	}
	fsys := open(t, dump(t, mapFS, "README"))
	if _, err := fs.ReadDir(fsys, "."); err == nil {
		t.Error("a file was read as a directory")
	}
}

func TestFSFollowsLinksInsideOnly(t *testing.T) {
	link := func(target string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink}
	}
	fsys := open(t, dump(t, fstest.MapFS{
		"file":    {Data: []byte("text")},
		"dir/up":  link("../file"),
		"dir/out": link("../../etc/passwd"),
		"abs":     link("/etc/passwd"),
		"loop":    link("loop"),
		"ping":    link("pong"),
		"pong":    link("./ping"),
		"gone":    link("nowhere"),
		"through": link("file/x"),
		"self":    link("."),
	}, "."))
	for _, name := range []string{"dir/up", "self/dir/up", "self/self/file"} {
		if got, err := fs.ReadFile(fsys, name); string(got) != "text" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"dir/out", "abs", "loop", "ping", "gone", "through", "file/x", "nothing", "../file", "/file", ""} {
		_, err := fsys.Open(name)
		if _, ok := errors.AsType[*fs.PathError](err); !ok {
			t.Errorf("%q: error is %v, want a PathError", name, err)
		}
	}
	if _, err := fsys.Lstat("loop"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesWhatFollows(t *testing.T) {
	b := append(write(t, tree), make([]byte, 8)...)
	if _, err := nar.Open(bytes.NewReader(b), int64(len(b))); err == nil {
		t.Error("no error")
	}
}

func TestTruncatedContentsAreNoticed(t *testing.T) {
	b := write(t, tree)
	fsys, err := nar.Index(bytes.NewReader(b), bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := nar.Dump(io.Discard, fsys, "."); err == nil {
		t.Error("no error though the contents have vanished")
	}
}

func TestJoin(t *testing.T) {
	joined, err := nar.Join(map[string]*nar.FS{
		"b": open(t, dump(t, mapFS, "bin")),
		"a": open(t, dump(t, mapFS, "README")),
		"c": open(t, dump(t, mapFS, "run")),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := dump(t, fstest.MapFS{
		"a":       mapFS["README"],
		"b/hello": mapFS["bin/hello"],
		"c":       mapFS["run"],
	}, ".")
	if !bytes.Equal(dump(t, joined, "."), want) {
		t.Error("the joined file system is not what it is made of")
	}
	if _, err := nar.Join(map[string]*nar.FS{"a/b": joined}); err == nil {
		t.Error("no error for a name with a slash")
	}
}
