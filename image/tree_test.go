package image

import (
	"errors"
	"io"
	"io/fs"
	"syscall"
	"testing"
	"testing/fstest"
)

func sampleTree() *tree {
	t := newTree()
	t.mkdir(0o755, "a/b", "empty")
	t.mkdir(0o777|fs.ModeSticky, "tmp")
	t.write("a/b/file", 0o644, "some text")
	t.write("a/b/none", 0o755, "")
	t.symlink("a/up", "../a/b/file")
	t.symlink("absolute", "/a/b")
	t.symlink("above", "../../../a")
	added := fstest.MapFS{"x/y": {Data: []byte("from elsewhere"), Mode: 0o600}}
	t.put("a/added", &node{mode: 0o640, fsys: added, path: "x/y", size: 14})
	return t
}

func TestTreeIsAFileSystem(t *testing.T) {
	if err := fstest.TestFS(sampleTree(), "a/b/file", "a/b/none", "a/up", "absolute", "above", "a/added", "empty", "tmp"); err != nil {
		t.Error(err)
	}
}

func TestTreeNamesAreBytes(t *testing.T) {
	tr := newTree()
	name := "dir\xff\n/\xfe"
	tr.write(name, 0o644, "text")
	text, err := fs.ReadFile(tr, name)
	if err != nil || string(text) != "text" {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestTreeErrors(t *testing.T) {
	tr := sampleTree()
	tr.symlink("circle", "circle")
	tr.symlink("dangling", "/nix/store/nothing")
	for name, want := range map[string]error{
		"":           fs.ErrInvalid,
		"/a":         fs.ErrInvalid,
		"a/":         fs.ErrInvalid,
		"a/../a":     fs.ErrInvalid,
		"a\x00":      fs.ErrInvalid,
		"b":          fs.ErrNotExist,
		"a/b/file/x": fs.ErrNotExist,
		"dangling":   fs.ErrNotExist,
		"circle":     syscall.ELOOP,
		"circle/x":   syscall.ELOOP,
	} {
		if _, err := tr.Open(name); !errors.Is(err, want) {
			t.Errorf("Open(%q): got %v, want %v", name, err, want)
		}
		if _, err := tr.Stat(name); !errors.Is(err, want) {
			t.Errorf("Stat(%q): got %v, want %v", name, err, want)
		}
	}
	for _, name := range []string{"circle", "dangling"} {
		if info, err := tr.Lstat(name); err != nil || info.Mode().Type() != fs.ModeSymlink {
			t.Errorf("Lstat(%q): got %v, %v", name, info, err)
		}
	}
	if _, err := tr.ReadLink("a"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("ReadLink of a directory: got %v", err)
	}
	if _, err := tr.ReadDir("a/b/file"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("ReadDir of a file: got %v", err)
	}
}

func TestTreeFilesAreReaderAt(t *testing.T) {
	tr := sampleTree()
	for _, name := range []string{"a/b/file", "a/added"} {
		f, err := tr.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 3)
		if n, err := f.(io.ReaderAt).ReadAt(buf, 5); n != 3 || err != nil {
			t.Errorf("%s: read %q, %v", name, buf[:n], err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestPackageName(t *testing.T) {
	for name, want := range map[string]string{
		"hello":             "hello",
		"hello-2.12":        "hello",
		"python3-3.12-env":  "python3",
		"nss-cacert-3.108":  "nss-cacert",
		"7zip":              "7zip",
		"bash-interactive":  "bash-interactive",
		"a--b":              "a",
		"ends-with-":        "ends-with-",
		"python3.11-edm-1_": "python3.11-edm",
	} {
		if got := packageName(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}
