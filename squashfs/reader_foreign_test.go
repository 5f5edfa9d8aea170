//go:build foreign

package squashfs

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write the images of testdata anew")

// foreignWriters make images of a folder with a given block size.
var foreignWriters = []struct {
	name string
	args []string // IMAGE and DIR are replaced
}{
	{"gzip", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "gzip"}},
	{"lzma", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "lzma"}},
	{"lzo", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "lzo"}},
	{"xz", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "xz"}},
	{"lz4", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "lz4"}},
	{"zstd", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "zstd"}},
	{"stored", []string{"mksquashfs", "DIR", "IMAGE", "-noI", "-noD", "-noF", "-noX"}},
	{"nofrag", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "zstd", "-no-fragments", "-no-duplicates", "-no-exports"}},
	{"tailends", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "zstd", "-tailends", "-nopad"}},
	{"bcj", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "xz", "-Xbcj", "x86,arm"}},
	{"lz4hc", []string{"mksquashfs", "DIR", "IMAGE", "-comp", "lz4", "-Xhc"}},
	{"ng-gzip", []string{"gensquashfs", "-q", "-k", "-x", "-D", "DIR", "-c", "gzip", "IMAGE"}},
	{"ng-lzma", []string{"gensquashfs", "-q", "-k", "-x", "-D", "DIR", "-c", "lzma", "IMAGE"}},
	{"ng-lzo", []string{"gensquashfs", "-q", "-k", "-x", "-D", "DIR", "-c", "lzo", "IMAGE"}},
	{"ng-xz", []string{"gensquashfs", "-q", "-k", "-x", "-D", "DIR", "-c", "xz", "IMAGE"}},
	{"ng-lz4", []string{"gensquashfs", "-q", "-k", "-x", "-D", "DIR", "-c", "lz4", "IMAGE"}},
	{"ng-zstd", []string{"gensquashfs", "-q", "-k", "-x", "-e", "-D", "DIR", "-c", "zstd", "IMAGE"}},
}

// inTestdata are the writers whose images of a small odd tree are committed.
var inTestdata = []string{"gzip", "lzma", "lzo", "xz", "lz4", "zstd", "tailends", "ng-zstd"}

func runWriter(t *testing.T, args []string, dir, image string, blockSize int) {
	t.Helper()
	args = slices.Clone(args)
	for i, arg := range args {
		switch arg {
		case "DIR":
			args[i] = dir
		case "IMAGE":
			args[i] = image
		}
	}
	args = append(args, "-b", fmt.Sprint(blockSize))
	if args[0] == "mksquashfs" {
		args = append(args, "-quiet", "-no-progress", "-noappend", "-mkfs-time", "1")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = []string{"LC_ALL=C"}
	if args[0] == "gensquashfs" { // has no option for it
		cmd.Env = append(cmd.Env, "SOURCE_DATE_EPOCH=1")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%q: %v\n%s", args, err, out)
	}
}

// oddFolder makes a folder of everything that a file system can hold.
// There are files of sizes around multiples of 4096 and, if that is larger, of blockSize.
func oddFolder(t *testing.T, dir string, entries, blockSize int) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	defer syscall.Umask(syscall.Umask(0))
	file := func(name, contents string, mode fs.FileMode) {
		t.Helper()
		name = filepath.Join(dir, name)
		check(os.MkdirAll(filepath.Dir(name), 0o755))
		check(os.WriteFile(name, []byte(contents), 0o644))
		check(os.Chmod(name, mode))
	}
	link := func(name, target string) {
		t.Helper()
		name = filepath.Join(dir, name)
		check(os.MkdirAll(filepath.Dir(name), 0o755))
		check(os.Symlink(target, name))
	}

	for i := range entries {
		file(fmt.Sprintf("many/%05d", i), strings.Repeat("x", i%7), 0o644)
	}
	check(os.Mkdir(filepath.Join(dir, "empty"), 0o700))

	for i, name := range []string{"new\nline", "not\xffUTF\xfe8", " ", "-", "ünïcödé", `back\slash`, "*?[", "\x01\x7f", strings.Repeat("n", 255)} {
		file("name/"+name, fmt.Sprintln(i), 0o644)
	}
	file("name/"+strings.Repeat("d", 255)+"/"+strings.Repeat("\xc3", 255)+"/x", "x", 0o644)

	sizes := []int{0, 1, 2}
	for _, bs := range []int{4096, blockSize} {
		for _, k := range []int{1, 2, 5} {
			sizes = append(sizes, k*bs-1, k*bs, k*bs+1)
		}
	}
	random := rand.NewChaCha8([32]byte{})
	for _, size := range sizes {
		file(fmt.Sprintf("size/%d", size), strings.Repeat("0123456789abcde\n", size/16+1)[:size], 0o444)
	}
	noise := make([]byte, blockSize/2+100)
	random.Read(noise)
	file("size/noise", string(noise), 0o555)
	file("size/twice", string(noise), 0o555)

	file("sparse/holes", "", 0o644)
	f, err := os.OpenFile(filepath.Join(dir, "sparse/holes"), os.O_WRONLY, 0)
	check(err)
	_, err = f.WriteAt([]byte("data"), 2*int64(blockSize)+5)
	check(err)
	check(f.Truncate(5 * int64(blockSize)))
	check(f.Close())
	file("sparse/zeros", string(make([]byte, blockSize)), 0o644)
	file("sparse/tail", string(make([]byte, blockSize+7)), 0o644)
	file("sparse/long", "", 0o644)
	f, err = os.OpenFile(filepath.Join(dir, "sparse/long"), os.O_WRONLY, 0)
	check(err)
	for i := int64(0); i < 3000; i += 500 {
		_, err = f.WriteAt(fmt.Appendf(nil, "%08d", i*4096), i*4096)
		check(err)
	}
	check(f.Truncate(3000*4096 + 5))
	check(f.Close())

	file("hello", "hello\n", 0o644)
	file("link/plain", "hello\n", 0o644)
	file("folder/file", "hello\n", 0o644)
	link("link/file", "plain")
	link("link/absolute", "/hello")
	link("link/above", "../../../hello")
	link("link/chain", "./chain2")
	link("link/chain2", "../link//absolute")
	link("link/dir", "../folder/")
	link("link/here", ".")
	link("link/dangling", "nowhere/at all")
	link("link/slash", "plain/")
	link("link/loop", "loop2")
	link("link/loop2", "loop")
	link("link/root", "/..")
	link("link/long", strings.Repeat("0123456789", 40)+"x")

	check(os.Link(filepath.Join(dir, "hello"), filepath.Join(dir, "hello2")))
	file("mode/setuid", "", 0o755|fs.ModeSetuid)
	file("mode/setgid", "", 0o711|fs.ModeSetgid)
	file("mode/none", "", 0)
	check(os.Mkdir(filepath.Join(dir, "mode/sticky"), 0o777|fs.ModeSticky))
	check(os.Chmod(filepath.Join(dir, "mode/sticky"), 0o777|fs.ModeSticky))
	file("mode/owned", "", 0o640)
	check(os.Lchown(filepath.Join(dir, "mode/owned"), 1000, 100))
	check(os.Lchown(filepath.Join(dir, "link/file"), 4000000000, 65535))

	check(os.Mkdir(filepath.Join(dir, "special"), 0o755))
	for name, dev := range map[string]struct {
		kind         uint32
		major, minor uint32
	}{
		"fifo":   {unix.S_IFIFO, 0, 0},
		"socket": {unix.S_IFSOCK, 0, 0},
		"null":   {unix.S_IFCHR, 1, 3},
		"block":  {unix.S_IFBLK, 259, 300000},
		"fifox":  {unix.S_IFIFO, 0, 0},
		"nullx":  {unix.S_IFCHR, 4095, 255},
	} {
		check(unix.Mknod(filepath.Join(dir, "special", name), dev.kind|0o620, int(unix.Mkdev(dev.major, dev.minor))))
	}
	for name, attrs := range map[string][]string{
		"hello":         {"user.a", "1", "user.empty", "", "security.x", strings.Repeat("long", 300)},
		"folder/file":   {"user.a", "1"},
		"folder":        {"trusted.dir", strings.Repeat("long", 300)},
		"name/-":        {"user.a", "other", "user." + strings.Repeat("n", 250), strings.Repeat("v", 3000)},
		"size/2":        {"user.a", strings.Repeat("v", 3000)},
		"link/dangling": {"trusted.link", "x"},
		"special/nullx": {"trusted.device", "x"},
		"special/fifox": {"trusted.fifo", "x"},
	} {
		for ; len(attrs) > 0; attrs = attrs[2:] {
			check(unix.Lsetxattr(filepath.Join(dir, name), attrs[0], []byte(attrs[1]), 0))
		}
	}

	// Times last, folders after what is in them.
	var names []string
	check(filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	}))
	slices.Reverse(names)
	for i, name := range names {
		ts := unix.Timespec{Sec: int64(1_000_000_000 + i%5)}
		check(unix.UtimesNanoAt(unix.AT_FDCWD, name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// sameFolder compares an image with the folder of which it was made.
// Of gensquashfs it is known that it gives the root a time of its own,
// does not see hard links and drops empty attributes.
func sameFolder(t *testing.T, fsys *FS, dir string, ng bool) {
	t.Helper()
	seen := 0
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen++
		got, err := d.Info()
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name)
		want, err := os.Lstat(file)
		if err != nil {
			return err
		}
		if got.Mode() != want.Mode() || !got.ModTime().Equal(want.ModTime()) && (name != "." || !ng) {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
		in, st := got.Sys().(*Inode), want.Sys().(*syscall.Stat_t)
		if in.UID != st.Uid || in.GID != st.Gid {
			t.Errorf("%q: owners %d:%d, want %d:%d", name, in.UID, in.GID, st.Uid, st.Gid)
		}
		if !d.IsDir() && uint64(in.Links) != st.Nlink && !ng {
			t.Errorf("%q: %d links, want %d", name, in.Links, st.Nlink)
		}
		if in.Rdev != 0 || st.Rdev != 0 {
			if in.Major() != unix.Major(st.Rdev) || in.Minor() != unix.Minor(st.Rdev) {
				t.Errorf("%q: device %d:%d, want %d:%d", name, in.Major(), in.Minor(), unix.Major(st.Rdev), unix.Minor(st.Rdev))
			}
		}
		sameXattrs(t, name, in.Xattrs, file, ng)
		switch d.Type() {
		case fs.ModeSymlink:
			got, err := fsys.ReadLink(name)
			if want, _ := os.Readlink(file); got != want || err != nil {
				t.Errorf("%q: links to %q, %v, want %q", name, got, err, want)
			}
		case 0:
			b, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			want, err := os.ReadFile(file)
			if !bytes.Equal(b, want) || got.Size() != int64(len(want)) {
				t.Errorf("%q: %d bytes differ from the %d that it should have", name, len(b), len(want))
			}
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	filepath.WalkDir(dir, func(string, fs.DirEntry, error) error { seen--; return nil })
	if seen != 0 {
		t.Errorf("image has %d files too many", seen)
	}
}

func sameXattrs(t *testing.T, name string, got []Xattr, file string, ng bool) {
	t.Helper()
	buf := make([]byte, 1<<16)
	n, err := unix.Llistxattr(file, buf)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	count := 0
	for key := range strings.SplitSeq(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00") {
		if key == "" || strings.HasPrefix(key, "system.") {
			continue
		}
		value := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(file, key, value)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && ng {
			continue
		}
		count++
		if !slices.ContainsFunc(got, func(x Xattr) bool { return x.Name == key && bytes.Equal(x.Value, value[:n]) }) {
			t.Errorf("%q: has no xattr %q of %d bytes", name, key, n)
		}
	}
	if len(got) != count {
		t.Errorf("%q: %d xattrs, want %d", name, len(got), count)
	}
}

func TestReadsEveryForeignWriter(t *testing.T) {
	for _, blockSize := range []int{4 << 10, 128 << 10, 1 << 20} {
		dir := t.TempDir()
		oddFolder(t, dir, 3000, blockSize)
		for _, w := range foreignWriters {
			t.Run(fmt.Sprintf("%s/%d", w.name, blockSize), func(t *testing.T) {
				image := filepath.Join(t.TempDir(), "image")
				runWriter(t, w.args, dir, image, blockSize)
				f, err := os.Open(image)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				fsys, err := Open(f)
				if err != nil {
					t.Fatal(err)
				}
				sameFolder(t, fsys, dir, w.args[0] == "gensquashfs")
			})
		}
	}
}

// plainFolder makes a folder that suits [fstest.TestFS].
func plainFolder(t *testing.T, dir string) {
	t.Helper()
	for name, contents := range map[string]string{
		"a/b/c/deep": "deep\n",
		"a/b/other":  "other\n",
		"big":        strings.Repeat("0123456789abcde\n", 1000),
		"empty":      "",
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(contents), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("b/other", filepath.Join(dir, "a/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "none"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// With -update this test writes what the tests without foreign tools read.
func TestUpdateTestdata(t *testing.T) {
	if !*update {
		return
	}
	dir := t.TempDir()
	plainFolder(t, dir)
	runWriter(t, []string{"mksquashfs", "DIR", "IMAGE", "-all-time", "1", "-noI"}, dir, "testdata/plain.img", 4096)

	dir = t.TempDir()
	oddFolder(t, dir, 1, 4096)
	for _, name := range []string{"name", "size", "sparse/long", "many", "mode", "link/long"} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	runWriter(t, []string{"mksquashfs", "DIR", "IMAGE", "-all-time", "1", "-noI", "-noX"}, dir, "testdata/kinds.img", 4096)

	dir = t.TempDir()
	oddFolder(t, dir, 300, 4096)
	for _, w := range foreignWriters {
		if !slices.Contains(inTestdata, w.name) {
			continue
		}
		image := "testdata/odd." + w.name + ".img"
		runWriter(t, w.args, dir, image, 4096)
		fsys := openImage(t, image)
		sameFolder(t, fsys, dir, w.args[0] == "gensquashfs")
		if w.name == "gzip" {
			if err := os.WriteFile("testdata/odd.txt", []byte(describe(t, fsys)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
