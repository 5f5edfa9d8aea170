package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func newExtract(a *app) *cobra.Command {
	var exact bool
	var arch string
	cmd := &cobra.Command{
		Use:   "extract [--exact] [--arch ARCH] IMAGE DIR [PATH...]",
		Short: "Unpack files of an image",
		Long: `Unpack an image, or the given files and directories of it, into the directory DIR,
which is made if it is not there.
IMAGE is what nix2img ls takes.

Permissions (without setuid and setgid), modification times and symbolic links
are those of the image, but for directories, which their owner may write to, so that they can be removed again:
with --exact, those are, too. Owners are not, nor are extended attributes; device nodes,
pipes and sockets are left out with a warning. Nothing is ever overwritten,
and nothing is written outside of DIR.`,
		Example: `  nix2img extract hello.sif ./root
  nix2img extract hello.sif ./root /etc /nix/store`,
		Args: minArgs(2, "an image, a directory and paths in the image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, done, err := openFiles(cmd.Context(), args[0], arch, true)
			if err != nil {
				return err
			}
			defer done()
			return extract(cmd.Context(), a.ui, img, args[1], args[2:], exact)
		},
	}
	cmd.Flags().BoolVar(&exact, "exact", false, "give directories their very permissions, so that they may have to be\nmade writable before they can be removed")
	addArchFlag(cmd.Flags(), &arch)
	return cmd
}

// extract unpacks files of an image into a directory.
func extract(ctx context.Context, u *ui, img files, dir string, paths []string, exact bool) error {
	if len(paths) == 0 {
		paths = []string{"/"}
	}
	// What is not in the image should be known before anything is written.
	for _, p := range paths {
		if _, err := img.Lstat(inImage(p)); err != nil {
			return fmt.Errorf("extract: %w", err)
		}
	}
	_, err := os.Lstat(dir)
	ours := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("extract: %w", err)
	}
	defer root.Close()
	x := &extractor{ctx: ctx, ui: u, img: img, dir: dir, exact: exact, buf: make([]byte, 1<<20)}
	if err := x.all(root, ours, paths); err != nil {
		return withHint(fmt.Errorf("extract: %w", err),
			"%s in %s, which is incomplete", plural(x.count, "file"), dir)
	}
	u.infof("extracted %s (%s) to %s", plural(x.count, "file"), formatSize(x.bytes), dir)
	return nil
}

type extractor struct {
	ctx   context.Context
	ui    *ui
	img   files
	dir   string
	exact bool // directories have the permissions of the image
	buf   []byte
	count int   // files and links
	bytes int64 // of files
}

// all unpacks paths. ours says that nobody but us knows the directory.
func (x *extractor) all(root *os.Root, ours bool, paths []string) error {
	names := make([]string, len(paths))
	for i, p := range paths {
		names[i] = inImage(p)
	}
	above := make(map[string]bool) // directories that were made because files go below them
	for _, name := range topmost(names) {
		if err := x.one(root, name, above); err != nil {
			return err
		}
		if name == "." && ours {
			above[name] = true
		}
	}
	// Only now, because a directory may not be writable, and its time changes with its entries.
	dirs := slices.Sorted(maps.Keys(above))
	for _, name := range slices.Backward(dirs) {
		info, err := x.img.Stat(name)
		if err != nil {
			return err
		}
		if err := x.finish(root, name, name, info); err != nil {
			return err
		}
	}
	return nil
}

// topmost returns the names without those that are below others.
func topmost(names []string) []string {
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		for dir := name; dir != "."; {
			dir = path.Dir(dir)
			if _, found := slices.BinarySearch(names, dir); found {
				return true
			}
		}
		return false
	})
}

// one unpacks a file, or a directory with all that is below it, in its place below root.
// It adds the directories that it has to make on the way to above.
func (x *extractor) one(root *os.Root, name string, above map[string]bool) error {
	info, err := x.img.Lstat(name)
	if err != nil {
		return err
	}
	if name == "." {
		return x.entries(root, name)
	}
	for i, c := range name {
		if c != '/' {
			continue
		}
		switch made, err := mkdir(root, name[:i]); {
		case err != nil:
			return x.where(name[:i], err)
		case made:
			above[name[:i]] = true
		}
	}
	if dir := path.Dir(name); dir != "." {
		if root, err = root.OpenRoot(dir); err != nil {
			return x.where(dir, err)
		}
		defer root.Close()
	}
	return x.node(root, path.Base(name), name, info)
}

// mkdir makes a directory. made is false if there was one before.
func mkdir(root *os.Root, name string) (made bool, err error) {
	err = root.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrExist) {
		if old, lerr := root.Lstat(name); lerr == nil && old.IsDir() {
			return false, nil
		}
	}
	return err == nil, err
}

// node unpacks a file of the image, whose name is full, as base in dir.
func (x *extractor) node(dir *os.Root, base, full string, info fs.FileInfo) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	switch info.Mode().Type() {
	case 0:
		return x.file(dir, base, full, info)
	case fs.ModeSymlink:
		return x.symlink(dir, base, full, info)
	case fs.ModeDir:
		made, err := mkdir(dir, base)
		if err != nil {
			return x.where(full, err)
		}
		sub, err := dir.OpenRoot(base)
		if err != nil {
			return x.where(full, err)
		}
		err = x.entries(sub, full)
		sub.Close()
		if err != nil || !made {
			return err
		}
		return x.finish(dir, base, full, info)
	}
	x.ui.warnf("%s: not a file, directory or link (%s): left out", quoteName("/"+full), formatMode(info.Mode()))
	return nil
}

func (x *extractor) entries(dir *os.Root, full string) error {
	entries, err := x.img.ReadDir(full)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		if err := x.node(dir, e.Name(), path.Join(full, e.Name()), info); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) file(dir *os.Root, base, full string, info fs.FileInfo) error {
	src, err := x.img.Open(full)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := dir.OpenFile(base, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return x.where(full, err)
	}
	err = x.copy(dst, src, info.Size())
	if cerr := dst.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = x.finish(dir, base, full, info)
	}
	if err != nil {
		dir.Remove(base) // half a file is worse than none
		return x.where(full, err)
	}
	x.count++
	x.bytes += info.Size()
	return nil
}

func (x *extractor) symlink(dir *os.Root, base, full string, info fs.FileInfo) error {
	target, err := x.img.ReadLink(full)
	if err != nil {
		return err
	}
	if err := dir.Symlink(target, base); err != nil {
		return x.where(full, err)
	}
	d, err := dir.Open(".")
	if err != nil {
		return x.where(full, err)
	}
	defer d.Close()
	ts := unix.NsecToTimespec(info.ModTime().UnixNano())
	err = unix.UtimesNanoAt(int(d.Fd()), base, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return x.where(full, err)
	}
	x.count++
	return nil
}

// finish gives a file or directory its mode and time.
func (x *extractor) finish(dir *os.Root, base, full string, info fs.FileInfo) error {
	if err := dir.Chtimes(base, info.ModTime(), info.ModTime()); err != nil {
		return x.where(full, err)
	}
	if err := dir.Chmod(base, x.permissions(info)); err != nil {
		return x.where(full, err)
	}
	return nil
}

// copy copies contents, leaving holes where there are zeros.
func (x *extractor) copy(dst *os.File, src io.Reader, size int64) error {
	w := &sparseWriter{f: dst}
	// Only the writer's side is hidden: what src can do faster by itself, it shall.
	n, err := io.CopyBuffer(struct{ io.Writer }{ctxio.Writer(x.ctx, w)}, src, x.buf)
	if err != nil {
		return err
	}
	if n != size {
		return fmt.Errorf("read %d bytes, want %d", n, size)
	}
	return dst.Truncate(size)
}

// where makes an error name the place on this machine.
func (x *extractor) where(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return &fs.PathError{Op: "create", Path: filepath.Join(x.dir, name), Err: reason(err)}
}

// permissions leaves out setuid and setgid, because owners are not restored.
func (x *extractor) permissions(info fs.FileInfo) fs.FileMode {
	mode := info.Mode() & (fs.ModePerm | fs.ModeSticky)
	if info.IsDir() && !x.exact {
		mode |= 0o700
	}
	return mode
}

// sparseWriter makes holes where it is given nothing but zeros.
// The size of the file has to be set when all is written.
type sparseWriter struct{ f *os.File }

var zeros [64 << 10]byte

func (w *sparseWriter) Write(p []byte) (int, error) {
	for n := 0; n < len(p); {
		chunk := p[n:min(len(p), n+len(zeros))]
		var err error
		if bytes.Equal(chunk, zeros[:len(chunk)]) {
			_, err = w.f.Seek(int64(len(chunk)), io.SeekCurrent)
		} else {
			_, err = w.f.Write(chunk)
		}
		if err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return len(p), nil
}
