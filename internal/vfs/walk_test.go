package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestNamesAreBytes(t *testing.T) {
	for name, want := range map[string]bool{
		".": true, "a": true, "a/b": true, "\xff/\n": true, "..a": true, "a/...": true,
		"": false, "/": false, "/a": false, "a/": false, "a//b": false, "..": false, "a/../b": false, "./a": false, "a/.": false,
		"a\x00": false, "a/\x00/b": false,
	} {
		if got := ValidName(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

// links returns a tree with the given symbolic links, a directory "dir" and files "file" and "dir/file".
func links(part bool, targets map[string]string) *Tree {
	t := &Tree{Root: NewDir(0o755), Part: part}
	for _, name := range []string{"file", "dir/file"} {
		if err := t.Put(name, NewFile(0o644, name)); err != nil {
			panic(err)
		}
	}
	for name, target := range targets {
		if err := t.Put(name, NewSymlink(target)); err != nil {
			panic(err)
		}
	}
	return t
}

func TestAWalkEndsInTheRoot(t *testing.T) {
	targets := map[string]string{"dir/above": "../../../../file", "dir/absolute": "/dir/file", "dir/up": "../file", "self": "."}
	for name, want := range map[string]string{
		"dir/above": "file", "dir/absolute": "dir/file", "dir/up": "file", "self/self/dir/up": "file",
	} {
		text, err := fs.ReadFile(links(false, targets), name)
		if err != nil || string(text) != want {
			t.Errorf("%s: got %q, %v", name, text, err)
		}
		_, err = links(true, targets).Open(name)
		if outside := name == "dir/above" || name == "dir/absolute"; outside != errors.Is(err, ErrOutside) || !outside && err != nil {
			t.Errorf("%s in a part: got %v", name, err)
		}
	}
}

func TestAWalkFollowsAsManyLinksAsLinux(t *testing.T) {
	targets := map[string]string{"0": "file", "loop": "loop", "empty": ""}
	for i := 1; i <= MaxLinks; i++ {
		targets[fmt.Sprint(i)] = fmt.Sprint(i - 1)
	}
	tree := links(false, targets)
	for name, want := range map[string]error{
		fmt.Sprint(MaxLinks - 1): nil, fmt.Sprint(MaxLinks): syscall.ELOOP, "loop": syscall.ELOOP, "loop/x": syscall.ELOOP, "empty": fs.ErrNotExist,
		"file/x": syscall.ENOTDIR, "0/x": syscall.ENOTDIR, "dir/x": fs.ErrNotExist, "a\x00": fs.ErrInvalid,
	} {
		_, err := tree.Stat(name)
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, want)
		}
		if pe, ok := errors.AsType[*fs.PathError](err); want != nil && (!ok || pe.Op != "stat" || pe.Path != name) {
			t.Errorf("%s: error %v has no operation and name", name, err)
		}
	}
	if info, err := tree.Lstat("loop"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("got %v, %v", info, err)
	}
}

func TestAWalkDoesNotAllocate(t *testing.T) {
	tree := links(false, map[string]string{"link": "dir"})
	for name, want := range map[string]float64{"dir/file": 0, "link/file": 1} {
		if got := testing.AllocsPerRun(100, func() {
			if _, err := tree.Lookup(name, true); err != nil {
				t.Fatal(err)
			}
		}); got > want {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

func TestDepthIsNoLimit(t *testing.T) {
	tree := &Tree{Root: NewDir(0o755)}
	name := strings.Repeat("d/", 100_000) + "file"
	if err := tree.Put(name, NewFile(0o644, "deep")); err != nil {
		t.Fatal(err)
	}
	text, err := fs.ReadFile(tree, name)
	if err != nil || string(text) != "deep" {
		t.Errorf("got %q, %v", text, err)
	}
	back := strings.Repeat("../", 100_000) + "top"
	tree.Root.Put("top", NewFile(0o644, "top"))
	if err := tree.Put(strings.TrimSuffix(name, "file")+"back", NewSymlink(back)); err != nil {
		t.Fatal(err)
	}
	text, err = fs.ReadFile(tree, strings.TrimSuffix(name, "file")+"back")
	if err != nil || string(text) != "top" {
		t.Errorf("got %q, %v", text, err)
	}
}

func BenchmarkWalk(b *testing.B) {
	tree := links(false, map[string]string{"link": "dir/down", "dir/down": "../a/b/c", "a/b/c/file": "d"})
	for _, name := range []string{"a/b/c/file", "link/file"} {
		b.Run(strings.ReplaceAll(name, "/", ","), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tree.Lookup(name, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
