//go:build foreign

package foreign

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem"
	diskfs "github.com/diskfs/go-diskfs/filesystem/squashfs"
	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/squashfs"
)

// node is what a reader says of a file.
type node struct {
	Mode     fs.FileMode // type and permissions
	UID, GID int
	Time     int64
	Size     int64  // of a regular file
	Content  string // digest of a regular file, target of a symbolic link, number of a device
	Xattrs   string // of a regular file
}

// tree maps names, relative to the root, to nodes.
type tree map[string]node

// under gives the part of a tree that lies in a directory, with its names relative to that.
func (t tree) under(dir string) tree {
	part := tree{}
	for name, n := range t {
		if rel, found := strings.CutPrefix(name, dir+"/"); found {
			part[rel] = n
		}
	}
	return part
}

// mustEqual fails the test, naming some of the differences, if two trees differ.
func mustEqual(t testing.TB, want, got tree, who string) {
	t.Helper()
	names := maps.Clone(want)
	maps.Copy(names, got)
	differences := 0
	for _, name := range slices.Sorted(maps.Keys(names)) {
		w, wanted := want[name]
		g, found := got[name]
		switch {
		case !found:
			t.Errorf("%s: %q is missing", who, name)
		case !wanted:
			t.Errorf("%s: %q should not be there", who, name)
		case w != g:
			t.Errorf("%s: %q:\nis     %+v\nshould be %+v", who, name, g, w)
		default:
			continue
		}
		if differences++; differences == 10 {
			t.Fatalf("%s: and perhaps more", who)
		}
	}
	if differences > 0 {
		t.FailNow()
	}
}

// diskTree reads a directory of the host: a mount, or what was unpacked.
func diskTree(t testing.TB, dir string) tree {
	t.Helper()
	result := tree{}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		n := node{Mode: info.Mode(), UID: int(stat.Uid), GID: int(stat.Gid), Time: info.ModTime().Unix()}
		switch n.Mode.Type() {
		case 0:
			n.Size, n.Content, n.Xattrs = info.Size(), digest(t, name), diskXattrs(t, name)
		case fs.ModeSymlink:
			if n.Content, err = os.Readlink(name); err != nil {
				return err
			}
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			n.Content = fmt.Sprint(unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
		}
		rel, err := filepath.Rel(dir, name)
		result[rel] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// diskXattrs shows the extended attributes of a file.
func diskXattrs(t testing.TB, name string) string {
	t.Helper()
	names, value := make([]byte, 4096), make([]byte, 4096)
	n, err := unix.Llistxattr(name, names)
	if err != nil && err != unix.ENOTSUP {
		t.Fatal(err)
	}
	result := ""
	for attr := range strings.SplitSeq(strings.TrimSuffix(string(names[:max(0, n)]), "\x00"), "\x00") {
		if attr == "" {
			continue
		}
		n, err := unix.Lgetxattr(name, attr, value)
		if err != nil {
			t.Fatal(err)
		}
		result += fmt.Sprintf("%s=%q ", attr, value[:n])
	}
	return result
}

// storeTree reads store paths below a root directory as Nix has made them.
func storeTree(t testing.TB, root string, paths []string) tree {
	t.Helper()
	result := tree{}
	for _, p := range paths {
		for name, n := range diskTree(t, filepath.Join(root, p)) {
			result[path.Join(path.Base(p), name)] = n
		}
	}
	return result
}

// fuseTree reads an image through squashfuse.
func fuseTree(t testing.TB, image string) tree {
	t.Helper()
	dir := newDir(t)
	output(t, "squashfuse", "-o", "offset="+strconv.FormatInt(inspect(t, image).Partition.Offset, 10), image, dir)
	defer output(t, "umount", dir)
	return diskTree(t, dir)
}

// unsquashfsTree reads an image through unsquashfs.
func unsquashfsTree(t testing.TB, image string) tree {
	t.Helper()
	dir := filepath.Join(newDir(t), "root")
	output(t, "unsquashfs", "-quiet", "-no-progress", "-strict-errors",
		"-offset", strconv.FormatInt(inspect(t, image).Partition.Offset, 10), "-dest", dir, image)
	return diskTree(t, dir)
}

// ownTree reads a squashfs through the package squashfs.
func ownTree(t testing.TB, r io.ReaderAt) tree {
	t.Helper()
	fsys, err := squashfs.Open(r)
	if err != nil {
		t.Fatal(err)
	}
	result := tree{}
	var walk func(name string)
	walk = func(name string) {
		info, err := fsys.Lstat(name)
		if err != nil {
			t.Fatal(err)
		}
		inode := info.Sys().(*squashfs.Inode)
		n := node{Mode: info.Mode(), UID: int(inode.UID), GID: int(inode.GID), Time: info.ModTime().Unix()}
		switch n.Mode.Type() {
		case 0:
			f, err := fsys.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			n.Size, n.Content = info.Size(), digestOf(t, f)
			for _, x := range inode.Xattrs {
				n.Xattrs += fmt.Sprintf("%s=%q ", x.Name, x.Value)
			}
			f.Close()
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			n.Content = fmt.Sprint(inode.Major(), inode.Minor())
		case fs.ModeSymlink:
			if n.Content, err = fsys.ReadLink(name); err != nil {
				t.Fatal(err)
			}
		case fs.ModeDir:
			entries, err := fsys.ReadDir(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				walk(path.Join(name, entry.Name()))
			}
		}
		result[name] = n
	}
	walk(".")
	return result
}

// diskfsTree reads an image through go-diskfs,
// which knows neither sticky bits nor the root directory's own metadata.
func diskfsTree(t testing.TB, image string) tree {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := inspect(t, image).Partition
	fsys, err := diskfs.Read(file.New(f, true), p.Size, p.Offset, 0)
	if err != nil {
		t.Fatal(err)
	}
	result := tree{}
	var walk func(dir string)
	walk = func(dir string) {
		entries, err := fsys.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			info, err := entry.Info()
			if err != nil {
				t.Fatal(err)
			}
			stat := info.Sys().(*diskfs.StatT)
			n := node{Mode: info.Mode(), UID: int(stat.UID), GID: int(stat.GID), Time: info.ModTime().Unix()}
			name := path.Join(dir, entry.Name())
			switch n.Mode.Type() {
			case 0:
				f, err := entry.(interface {
					Open() (filesystem.File, error)
				}).Open()
				if err != nil {
					t.Fatal(err)
				}
				n.Size, n.Content = info.Size(), digestOf(t, f)
			case fs.ModeSymlink:
				n.Content = stat.LinkTarget
			case fs.ModeDir:
				walk(name)
			}
			result[name] = n
		}
	}
	walk(".")
	return result
}

// asDiskfs leaves out of a tree what go-diskfs does not know.
func asDiskfs(t tree) tree {
	result := maps.Clone(t)
	delete(result, ".")
	for name, n := range result {
		n.Mode &^= fs.ModeSticky
		result[name] = n
	}
	return result
}
