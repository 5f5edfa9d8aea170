package vfs

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// disk writes a tree to a directory.
func disk(t *testing.T, tree *Tree, dir string) {
	t.Helper()
	var write func(n *Node, at string)
	write = func(n *Node, at string) {
		var err error
		switch {
		case n.IsDir():
			err = os.MkdirAll(at, 0o755)
		case n.Mode().IsRegular():
			err = os.WriteFile(at, nil, 0o644)
		default:
			err = os.Symlink(n.Target(), at)
		}
		if err != nil {
			t.Fatal(err)
		}
		for name, entry := range n.Entries() {
			write(entry, at+"/"+name)
		}
	}
	write(tree.Root, dir)
}

// kernelLookup is what Linux says of a name in a root.
func kernelLookup(root int, name string, follow bool) (string, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT}
	if !follow {
		how.Flags |= unix.O_NOFOLLOW
	}
	fd, err := unix.Openat2(root, name, how)
	for err == unix.EAGAIN { // somebody has renamed something meanwhile, anywhere: openat2(2)
		fd, err = unix.Openat2(root, name, how)
	}
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
}

// randomTree has few names, so that links lead somewhere.
func randomTree(r *rand.Rand) *Tree {
	tree := &Tree{Root: NewDir(0o755)}
	elems := []string{"a", "b", "c"}
	random := func(elems ...string) string {
		var list []string
		for range 1 + r.IntN(3) {
			list = append(list, elems[r.IntN(len(elems))])
		}
		return strings.Join(list, "/")
	}
	for range 12 {
		name := random(elems...)
		if _, err := tree.Lookup(name, false); err == nil {
			continue
		}
		n := NewFile(0o644, "")
		switch r.IntN(4) {
		case 0:
			n = NewDir(0o755)
		case 1, 2:
			n = NewSymlink([]string{"", "/", "./", "../"}[r.IntN(4)] + random("a", "b", "c", "..", ".") + []string{"", "", "/", "/."}[r.IntN(4)])
		}
		_ = tree.Put(name, n) // unless there is a file on the way
	}
	return tree
}

func TestAWalkEndsWhereThatOfLinuxDoes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	compared, found := 0, 0
	for range 60 {
		tree := randomTree(r)
		dir, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		disk(t, tree, dir)
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range 60 {
			var list []string
			for range 1 + r.IntN(4) {
				list = append(list, []string{"a", "b", "c"}[r.IntN(3)])
			}
			name, follow := strings.Join(list, "/"), r.IntN(2) == 0
			want, wantErr := kernelLookup(root, name, follow)
			if errors.Is(wantErr, unix.ENOSYS) || errors.Is(wantErr, unix.EPERM) {
				t.Skipf("openat2: %v", wantErr)
			}
			n, err := tree.Lookup(name, follow)
			compared++
			if wantErr != nil {
				if !errors.Is(err, wantErr) && !(wantErr == unix.ENOENT && err == fs.ErrNotExist) {
					t.Errorf("%s: got %v, want %v", name, err, wantErr)
				}
				continue
			}
			found++
			if err != nil {
				t.Errorf("%s: got %v, want %s", name, err, want)
				continue
			}
			at, err := filepath.Rel(dir, want)
			if err != nil {
				t.Fatal(err)
			}
			if there, err := tree.Lookup(path.Clean(at), false); err != nil || there != n {
				t.Errorf("%s leads to another file than %s: %v", name, at, err)
			}
		}
		unix.Close(root)
		os.RemoveAll(dir)
	}
	if found < compared/20 {
		t.Errorf("only %d of %d names led to a file", found, compared)
	}
}
