package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"
)

func sampleTree(t testing.TB) *Tree {
	t.Helper()
	tree := &Tree{Root: NewDir(0o755)}
	elsewhere := fstest.MapFS{"x/y": {Data: []byte("from elsewhere"), Mode: 0o600}}
	for name, n := range map[string]*Node{
		"empty": NewDir(0o700), "a/b/file": NewFile(0o644, "some text"), "a/b/none": NewFile(0o755, ""),
		"a/up": NewSymlink("../a/b/file"), "absolute": NewSymlink("/a/b"), "above": NewSymlink("../../../a"),
		"a/section": NewSection(0o444, strings.NewReader("0123456789"), 2, 5),
		"a/opened":  NewOpened(0o640, 14, func() (io.ReadCloser, error) { return elsewhere.Open("x/y") }),
	} {
		if err := tree.Put(name, n); err != nil {
			t.Fatal(err)
		}
	}
	tree.Root.Put("hard", tree.Root.Entry("a").Entry("b").Entry("file"))
	return tree
}

func TestATreeIsAFileSystem(t *testing.T) {
	err := fstest.TestFS(sampleTree(t), "a/b/file", "a/b/none", "a/up", "absolute", "above", "a/opened", "a/section", "empty", "hard")
	if err != nil {
		t.Error(err)
	}
}

func TestContentsComeFromAnywhere(t *testing.T) {
	tree := sampleTree(t)
	for name, want := range map[string]string{"hard": "some text", "a/section": "23456", "a/opened": "from elsewhere"} {
		f, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(f)
		if err != nil || string(text) != want {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
		at := make([]byte, 3)
		if n, err := f.(io.ReaderAt).ReadAt(at, 2); n != 3 || string(at) != want[2:5] || err != nil && err != io.EOF {
			t.Errorf("%s: got %q, %v", name, at[:n], err)
		}
		if info, err := f.Stat(); err != nil || info.Size() != int64(len(want)) || info.Name() != path.Base(name) {
			t.Errorf("%s: got %v, %v", name, info, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	tree.Root.Put("broken", NewOpened(0o644, 1, func() (io.ReadCloser, error) { return nil, io.ErrClosedPipe }))
	if _, err := tree.Open("broken"); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestMetadataAreThoseOfTheNode(t *testing.T) {
	tree := sampleTree(t)
	hard := tree.Root.Entry("hard")
	if got := hard; got.Mode() != 0o644 {
		t.Errorf("mode %v", got.Mode())
	}
	hard.Chmod(fs.ModeDir | fs.ModeSetuid | 0o755) // the type stays
	hard.SetModTime(time.Unix(1<<33, 5))
	hard.SetSys("owner")
	for _, name := range []string{"hard", "a/b/file", "a/up"} {
		info, err := tree.Stat(name)
		if err != nil || info.Mode() != fs.ModeSetuid|0o755 || !info.ModTime().Equal(time.Unix(1<<33, 5)) || info.Sys() != "owner" {
			t.Errorf("%s: got %v, %v", name, info, err)
		}
	}
	if info, _ := tree.Stat("empty"); !info.ModTime().Equal(time.Unix(1, 0)) || info.Sys() != nil {
		t.Errorf("got %v", info)
	}
}

func TestOtherKindsHaveNoContents(t *testing.T) {
	tree := sampleTree(t)
	tree.Root.Put("pipe", NewSpecial(fs.ModeNamedPipe|0o600))
	for name, want := range map[string]error{"pipe": fs.ErrInvalid, "a": syscall.EISDIR} {
		f, err := tree.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := tree.ReadDir("hard"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	if _, err := tree.ReadLink("a"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("got %v", err)
	}
}

func TestARootNeedNotBeADirectory(t *testing.T) {
	file := &Tree{Root: NewFile(0o644, "text"), Part: true}
	if text, err := fs.ReadFile(file, "."); err != nil || string(text) != "text" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := file.Open("x"); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
	link := &Tree{Root: NewSymlink("x"), Part: true}
	if target, err := link.ReadLink("."); err != nil || target != "x" {
		t.Errorf("got %q, %v", target, err)
	}
	for _, name := range []string{".", "x"} {
		if _, err := link.Stat(name); !errors.Is(err, ErrOutside) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestDirectoriesAreMadeThroughLinksOnlyIfAskedFor(t *testing.T) {
	make := func(follow bool, name string) (string, error) {
		tree := &Tree{Root: NewDir(0o755)}
		tree.Root.Put("bin", NewSymlink("usr/bin"))
		tree.Root.Put("file", NewFile(0o644, ""))
		dir, err := tree.MakeDirs(name, 0o700, follow)
		if err != nil {
			return "", err
		}
		dir.Put("here", NewFile(0o644, ""))
		return strings.Join(slices.Sorted(maps.Keys(flat(tree.Root))), " "), nil
	}
	for _, tt := range []struct {
		follow     bool
		name, want string
	}{
		{false, "a/b", "a a/b a/b/here bin file"},
		{true, "bin/x", "bin file usr usr/bin usr/bin/x usr/bin/x/here"},
		{true, "bin", "bin file usr usr/bin usr/bin/here"},
		{true, ".", "bin file here"},
		{false, "bin/x", "mkdir bin: not a directory"},
		{false, "bin", "mkdir bin: not a directory"},
		{false, "file/x/y", "mkdir file: not a directory"},
		{true, "file/x/y", "mkdir file/x/y: not a directory"},
		{true, "file", "mkdir file: not a directory"},
		{true, "a/../b", "mkdir a/../b: invalid argument"},
	} {
		got, err := make(tt.follow, tt.name)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s, %v: got %q, want %q", tt.name, tt.follow, got, tt.want)
		}
	}
	tree := &Tree{Root: NewDir(0o755)}
	for _, name := range []string{".", "", "a/..", "/a"} {
		if err := tree.Put(name, NewFile(0o644, "")); !errors.Is(err, fs.ErrInvalid) || tree.Root.Len() > 0 {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

// flat returns all that lies below a directory.
func flat(n *Node) map[string]*Node {
	all := make(map[string]*Node)
	for name, entry := range n.Entries() {
		all[name] = entry
		for below, n := range flat(entry) {
			all[name+"/"+below] = n
		}
	}
	return all
}

// A directory is compared with a map, over the size at which it becomes one itself.
func TestADirectoryIsAMap(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, size := range []int{4, fewEntries, 4 * fewEntries} {
		dir, model := NewDir(0o755), make(map[string]*Node)
		for range 20 * size {
			name := fmt.Sprintf("%02x", r.IntN(size))
			switch r.IntN(8) {
			case 0, 1, 2:
				dir.Remove(name)
				delete(model, name)
			case 3:
				if r.IntN(size) > 0 {
					break
				}
				odd := func(name string, _ *Node) bool { return name[1]&1 != 0 }
				dir.RemoveFunc(odd)
				maps.DeleteFunc(model, odd)
			default:
				n := NewFile(0o644, name)
				dir.Put(name, n)
				model[name] = n
			}
			if dir.Len() != len(model) || dir.Entry(name) != model[name] {
				t.Fatalf("%s: got %v of %d, want %v of %d", name, dir.Entry(name), dir.Len(), model[name], len(model))
			}
		}
		var names []string
		for name, n := range dir.Entries() {
			if names = append(names, name); n != model[name] {
				t.Errorf("%s is another node", name)
			}
		}
		if want := slices.Sorted(maps.Keys(model)); !slices.Equal(names, want) {
			t.Errorf("got %q, want %q", names, want)
		}
	}
	if file := NewFile(0o644, ""); file.Len() != 0 || file.Entry("x") != nil || len(flat(file)) > 0 {
		t.Error("a file has entries")
	}
}

func TestLargeDirectoriesAreFast(t *testing.T) {
	const count = 100_000
	begin := time.Now()
	for _, step := range []int{1, 37_501, count - 1} { // in order, mixed, and from the end to the beginning
		dir := NewDir(0o755)
		for i := range count {
			dir.Put(fmt.Sprintf("%06d", i*step%count), NewFile(0o644, ""))
		}
		for i := range count {
			if i%2 == 0 {
				dir.Remove(fmt.Sprintf("%06d", i))
			}
		}
		tree := &Tree{Root: dir}
		if entries, err := tree.ReadDir("."); err != nil || len(entries) != count/2 || entries[7].Name() != "000015" {
			t.Errorf("step %d: %d entries, %v", step, len(entries), err)
		}
	}
	if took := time.Since(begin); took > 20*time.Second { // it takes a fraction of a second
		t.Errorf("it took %v", took)
	}
}

func TestReadersShareATree(t *testing.T) {
	tree := &Tree{Root: NewDir(0o755)}
	for i := range 2 * fewEntries {
		tree.Root.Put(fmt.Sprint(1000-i), NewFile(0o644, fmt.Sprint(i)))
	}
	failed := make(chan error)
	for range 4 {
		go func() {
			entries, err := tree.ReadDir(".")
			if err == nil && len(entries) != 2*fewEntries {
				err = fmt.Errorf("%d entries", len(entries))
			}
			var text []byte
			if err == nil {
				text, err = fs.ReadFile(tree, "1000")
			}
			if err == nil && !bytes.Equal(text, []byte("0")) {
				err = fmt.Errorf("got %q", text)
			}
			failed <- err
		}()
	}
	for range 4 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
