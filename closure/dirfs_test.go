package closure_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/closure"
)

// makeTree makes files below a new directory.
// Names that end in a slash are directories, and "-> " starts a link's target;
// contents that start with #! are executable.
func makeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := dir + "/" + name
		if err := os.MkdirAll(filepath.Dir(strings.TrimSuffix(file, "/")+"/."), 0o755); err != nil && strings.HasSuffix(name, "/") {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			continue
		}
		os.Remove(file)
		var err error
		target, link := strings.CutPrefix(text, "-> ")
		switch {
		case link:
			err = os.Symlink(target, file)
		case strings.HasPrefix(text, "#!"):
			err = os.WriteFile(file, []byte(text), 0o700)
		default:
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDirFS(t *testing.T) {
	dir := makeTree(t, map[string]string{
		"pkg/bin/hello":   "#!/bin/sh\necho hello\n",
		"pkg/bin/again":   "-> hello",
		"pkg/lib/a/b/c/d": strings.Repeat("x", 100_000),
		"pkg/lib/up":      "-> ../bin/again",
		"pkg/lib/dir":     "-> ./a/b",
		"pkg/empty/":      "",
		"pkg/nothing":     "",
		"link":            "-> pkg/bin/hello",
		"file":            "text",
	})
	fsys := closure.DirFS(dir)
	if err := fstest.TestFS(fsys, "pkg/bin/hello", "pkg/bin/again", "pkg/lib/a/b/c/d", "pkg/lib/up", "pkg/empty", "link", "file"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"pkg/lib/dir/c/d", "pkg/lib/dir/c/../c/d"} {
		b, err := fs.ReadFile(fsys, name)
		if fs.ValidPath(name) != (err == nil && len(b) == 100_000) {
			t.Errorf("read %s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestDirFSShowsOnlyWhatANARKnows(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(old) })
	for name, mode := range map[string]fs.FileMode{
		"0600": 0o600, "0644": 0o644, "0655": 0o655, "0700": 0o700, "4755": fs.ModeSetuid | 0o755,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]fs.FileMode{"d700": 0o700, "d777": fs.ModeSticky | 0o777} {
		if err := os.Mkdir(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("0600", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{
		"0600": 0o444, "0644": 0o444, "0655": 0o444, "0700": 0o555, "4755": 0o555,
		"d700": fs.ModeDir | 0o555, "d777": fs.ModeDir | 0o555, "link": fs.ModeSymlink | 0o777,
	}
	fsys := closure.DirFS(dir)
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil || len(entries) != len(want) {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want[e.Name()] || !info.ModTime().Equal(time.Unix(1, 0)) || info.Sys() != nil {
			t.Errorf("%s: mode %v, time %v, sys %v", e.Name(), info.Mode(), info.ModTime(), info.Sys())
		}
		if info.IsDir() && info.Size() != 0 {
			t.Errorf("%s: a directory has the size %d, which depends on the file system", e.Name(), info.Size())
		}
	}
}

func TestDirFSFilesAreReaderAt(t *testing.T) {
	f, err := closure.DirFS(makeTree(t, map[string]string{"file": "0123456789"})).Open("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 3)
	if n, err := f.(io.ReaderAt).ReadAt(b, 5); n != 3 || err != nil || string(b) != "567" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

func TestDirFSTakesAnyName(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"\xff\xfe", "new\nline", "back\\slash", " ", "ä", strings.Repeat("n", 255)} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Skipf("the file system does not take %q", name)
		}
		if err := os.WriteFile(dir+"/"+name+"/"+name, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := fs.ReadFile(closure.DirFS(dir), name+"/"+name)
		if err != nil || string(b) != name {
			t.Errorf("%q: read %q, %v", name, b, err)
		}
	}
}

func TestDirFSFollowsLinksInsideOnly(t *testing.T) {
	outside := makeTree(t, map[string]string{"secret": "secret"})
	dir := makeTree(t, map[string]string{
		"file":      "text",
		"dir/":      "",
		"dir/up":    "-> ../file",
		"self":      "-> .",
		"abs":       "-> " + outside,
		"absfile":   "-> " + outside + "/secret",
		"rel":       "-> ../" + filepath.Base(outside),
		"loop":      "-> loop",
		"ping":      "-> pong",
		"pong":      "-> ./ping",
		"gone":      "-> nowhere",
		"through":   "-> file/x",
		"rootagain": "-> dir/../dir",
	})
	fsys := closure.DirFS(dir)
	for _, name := range []string{"dir/up", "self/self/dir/up", "rootagain/up"} {
		for range 2 { // the second time, directories are known
			if b, err := fs.ReadFile(fsys, name); string(b) != "text" || err != nil {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
		if info, err := fs.Stat(fsys, name); err != nil || info.Name() != "up" || !info.Mode().IsRegular() {
			t.Errorf("stat %s: %v, %v", name, info, err)
		}
	}
	for _, name := range []string{
		"abs/secret", "absfile", "rel/secret", "loop", "loop/x", "ping", "gone", "through", "file/x", "nothing",
		"", "/file", "../file", "dir/..", "./file", "file/", "dir//up", "a\x00b",
	} {
		_, err := fsys.Open(name)
		if _, ok := errors.AsType[*fs.PathError](err); !ok {
			t.Errorf("open %q: error is %v, want a PathError", name, err)
		}
		if _, err := fs.Stat(fsys, name); err == nil {
			t.Errorf("stat %q: no error", name)
		}
	}
	if _, err := fsys.Open("nothing"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error is %v, want one with the path on this machine", err)
	}
	for _, name := range []string{"loop", "abs", "gone"} {
		info, err := fs.Lstat(fsys, name)
		if err != nil || info.Mode() != fs.ModeSymlink|0o777 {
			t.Errorf("lstat %s: %v, %v", name, info, err)
		}
	}
	if target, err := fs.ReadLink(fsys, "self/gone"); target != "nowhere" || err != nil {
		t.Errorf("readlink: %q, %v", target, err)
	}
}

func TestDirFSRefusesOtherKinds(t *testing.T) {
	dir := makeTree(t, map[string]string{"pkg/": ""})
	if err := syscall.Mkfifo(filepath.Join(dir, "pkg", "pipe"), 0o644); err != nil {
		t.Skip(err)
	}
	fsys := closure.DirFS(dir)
	_, openErr := fsys.Open("pkg/pipe") // must not wait for a writer
	_, statErr := fs.Lstat(fsys, "pkg/pipe")
	_, readErr := fs.ReadDir(fsys, "pkg")
	for _, err := range []error{openErr, statErr, readErr} {
		if err == nil || !strings.Contains(err.Error(), "pipe") {
			t.Errorf("error is %v, want one that names the file", err)
		}
	}
}

func TestDirFSBehindALink(t *testing.T) {
	dir := makeTree(t, map[string]string{"store/file": "text", "link": "-> store"})
	fsys := closure.DirFS(filepath.Join(dir, "link"))
	if err := fstest.TestFS(fsys, "file"); err != nil {
		t.Error(err)
	}
}
