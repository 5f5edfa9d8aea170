//go:build foreign

package squashfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	diskfs "github.com/diskfs/go-diskfs/filesystem/squashfs"
)

func execute(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// sameOnDisk compares the files below dir with want.
func sameOnDisk(t *testing.T, dir string, want treeFS) {
	t.Helper()
	seen := 0
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, name)
		f := want[rel]
		if f == nil {
			t.Errorf("%q is in the image only", rel)
			return nil
		}
		seen++
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode() != f.mode {
			t.Errorf("%q has mode %v, want %v", rel, info.Mode(), f.mode)
		}
		if got := info.ModTime().Unix(); got != int64(clampTime(f.mtime)) {
			t.Errorf("%q has time %d, want %d", rel, got, f.mtime)
		}
		inode, _ := f.sys.(*Inode)
		if inode == nil {
			inode = &Inode{}
		}
		st := info.Sys().(*syscall.Stat_t)
		if st.Uid != inode.UID || st.Gid != inode.GID || uint32(st.Rdev) != inode.Rdev {
			t.Errorf("%q has owner %d:%d and device %d, want %+v", rel, st.Uid, st.Gid, st.Rdev, inode)
		}
		switch f.mode.Type() {
		case 0:
			data, err := os.ReadFile(name)
			if err != nil || !bytes.Equal(data, f.data) {
				t.Errorf("%q has other contents: %v", rel, err)
			}
		case fs.ModeSymlink:
			target, err := os.Readlink(name)
			if err != nil || target != f.target {
				t.Errorf("%q leads to %q, want %q: %v", rel, target, f.target, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if seen != len(want) {
		t.Errorf("%s has %d files, want %d", dir, seen, len(want))
	}
}

func kernelMount(t *testing.T, image string) string {
	t.Helper()
	dir := t.TempDir()
	execute(t, "mount", "-t", "squashfs", "-o", "loop,ro", image, dir)
	t.Cleanup(func() { execute(t, "umount", dir) })
	return dir
}

func TestForeignReadersAgree(t *testing.T) {
	for _, compression := range allCodecs {
		for _, blockSize := range []int{4 << 10, 64 << 10, 1 << 20} {
			if blockSize != 64<<10 && compression != "gzip" {
				continue
			}
			t.Run(fmt.Sprint(compression, " ", blockSize), func(t *testing.T) {
				want := nastyTree(blockSize)
				image := filepath.Join(t.TempDir(), "image")
				data := write(t, testTrees(blockSize), options(t, compression, blockSize), 0)
				if err := os.WriteFile(image, data, 0o644); err != nil {
					t.Fatal(err)
				}
				const at = "nix/store/odd again"

				sameOnDisk(t, filepath.Join(kernelMount(t, image), at), want)

				dir := filepath.Join(t.TempDir(), "un")
				execute(t, "unsquashfs", "-no-progress", "-d", dir, image)
				sameOnDisk(t, filepath.Join(dir, at), want)

				fuse := t.TempDir()
				execute(t, "squashfuse", image, fuse)
				t.Cleanup(func() { execute(t, "umount", fuse) })
				sameOnDisk(t, filepath.Join(fuse, at), want)

				// It takes only the frame format of LZ4, and its time.
				if !strings.HasPrefix(compression, "lz4") && blockSize == 64<<10 {
					sameToDiskFS(t, image, at, want)
				}
			})
		}
	}
}

// sameToDiskFS compares what go-diskfs sees. It has no names that are not UTF-8.
func sameToDiskFS(t *testing.T, image, root string, want treeFS) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := diskfs.Read(file.New(f, true), info.Size(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Each file is looked up from the root on, so some must do.
	for name, w := range want {
		if !fs.ValidPath(name) || w.mode.Type() != 0 || strings.HasPrefix(name, "many/1") {
			continue
		}
		got, err := fsys.OpenFile(root+"/"+name, os.O_RDONLY)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		data, err := io.ReadAll(got)
		if err != nil || !bytes.Equal(data, w.data) {
			t.Errorf("go-diskfs sees other contents of %q: %v", name, err)
		}
	}
}
