package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/internal/ctxio"
	"github.com/nix2img/nix2img/squashfs"
)

func newList(a *app) *cobra.Command {
	var recursive, xattrs, asJSON bool
	var arch string
	cmd := &cobra.Command{
		Use:   "ls [-R] [--xattrs] IMAGE [PATH...]",
		Short: "List files of an image",
		Long: `List files of an image, as "ls -l" does:
mode, owner and group, size in bytes, time in UTC, name, and where a symbolic link leads.
IMAGE is a SIF, a squashfs, an OCI layout or archive, or what docker save writes, whoever made it.
Of several images in one of the last three, IMAGE:TAG says which one is meant, and --arch for which CPU;
by default it is the one for this machine. Nothing is unpacked. PATH is the root directory by default.

Names with characters that do not print are quoted as in Go, "like\nthis".`,
		Example: `  nix2img ls hello.sif
  nix2img ls -R hello.sif /nix/store`,
		Args: minArgs(1, "an image and paths in it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, done, err := openFiles(cmd.Context(), args[0], arch, false)
			if err != nil {
				return err
			}
			defer done()
			paths := args[1:]
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			l := &lister{ctx: cmd.Context(), img: img, w: bufio.NewWriter(a.ui.stdout), recursive: recursive, xattrs: xattrs}
			if asJSON {
				l.found = &listResult{Image: args[0], Files: []listedFile{}}
			}
			for _, p := range paths {
				if err := l.list(p); err != nil {
					l.w.Flush()
					return err
				}
			}
			if asJSON {
				return printEnvelope(a.ui, "ls", l.found)
			}
			return l.w.Flush()
		},
	}
	addArchFlag(cmd.Flags(), &arch)
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list directories with all that is below them")
	cmd.Flags().BoolVar(&xattrs, "xattrs", false, "list extended attributes as well, one a line below their file (not of layers)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type lister struct {
	ctx       context.Context
	img       files
	w         *bufio.Writer
	recursive bool
	xattrs    bool
	found     *listResult // nil: lines are written
}

// listResult is what "ls --json" prints.
type listResult struct {
	Image string       `json:"image"`
	Files []listedFile `json:"files"`
}

type listedFile struct {
	Path    string            `json:"path"` // absolute; bytes that are not UTF-8 are replaced
	Mode    string            `json:"mode"` // as ls prints it
	UID     int               `json:"uid"`
	GID     int               `json:"gid"`
	Size    int64             `json:"size"` // bytes
	ModTime time.Time         `json:"modTime"`
	Target  string            `json:"target,omitzero"` // of a symbolic link
	Major   uint32            `json:"major,omitzero"`  // of a device
	Minor   uint32            `json:"minor,omitzero"`
	Xattrs  map[string][]byte `json:"xattrs,omitempty"` // base 64, if they were asked for
}

// list lists a directory's entries, or one file.
func (l *lister) list(arg string) error {
	name := inImage(arg)
	stat := l.img.Lstat
	if strings.HasSuffix(arg, "/") {
		stat = l.img.Stat
	}
	info, err := stat(name)
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	if !info.IsDir() {
		return l.print(name, quoteName(arg), info)
	}
	return l.dir(name)
}

func (l *lister) dir(name string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := l.img.ReadDir(name)
	if err != nil {
		return fmt.Errorf("ls: %w", err)
	}
	for _, e := range entries {
		full := path.Join(name, e.Name())
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("ls: %w", err)
		}
		shown := e.Name()
		if l.recursive {
			shown = "/" + full
		}
		if err := l.print(full, quoteName(shown), info); err != nil {
			return err
		}
		if l.recursive && e.IsDir() {
			if err := l.dir(full); err != nil {
				return err
			}
		}
	}
	return nil
}

// print prints one line, or takes note of the file. shown is the name as it is to be printed.
func (l *lister) print(name, shown string, info fs.FileInfo) error {
	f := listedFile{Path: path.Join("/", name), Mode: formatMode(info.Mode()), Size: info.Size(), ModTime: info.ModTime().UTC()}
	if o, ok := info.Sys().(layout.Owner); ok {
		f.UID, f.GID = o.UID, o.GID
	}
	inode, ok := info.Sys().(*squashfs.Inode)
	if ok {
		f.UID, f.GID = int(inode.UID), int(inode.GID)
		if info.Mode()&fs.ModeDevice != 0 {
			f.Major, f.Minor = inode.Major(), inode.Minor()
		}
	}
	if info.Mode().Type() == fs.ModeSymlink {
		var err error
		if f.Target, err = l.img.ReadLink(name); err != nil {
			return fmt.Errorf("ls: %w", err)
		}
	}
	if l.found != nil {
		if ok && l.xattrs {
			f.Xattrs = make(map[string][]byte)
			for _, x := range inode.Xattrs {
				f.Xattrs[x.Name] = x.Value
			}
		}
		l.found.Files = append(l.found.Files, f)
		return nil
	}
	err := f.print(l.w, shown, info.Mode())
	if ok && l.xattrs {
		for _, x := range inode.Xattrs {
			fmt.Fprintf(l.w, "    %s=%q\n", quoteName(x.Name), x.Value)
		}
	}
	return err
}

// print prints one line.
func (f *listedFile) print(w io.Writer, shown string, mode fs.FileMode) error {
	size := strconv.FormatInt(f.Size, 10)
	if mode&fs.ModeDevice != 0 {
		size = fmt.Sprintf("%d,%d", f.Major, f.Minor)
	}
	if mode.Type() == fs.ModeSymlink {
		shown += " -> " + quoteName(f.Target)
	}
	_, err := fmt.Fprintf(w, "%s %-7s %10s %s %s\n", f.Mode, fmt.Sprintf("%d:%d", f.UID, f.GID), size,
		f.ModTime.Format("2006-01-02 15:04"), shown)
	return err
}

// formatMode returns a mode as ls prints it, for example "drwxr-xr-x".
func formatMode(m fs.FileMode) string {
	b := []byte("?---------")
	switch m.Type() {
	case 0:
		b[0] = '-'
	case fs.ModeDir:
		b[0] = 'd'
	case fs.ModeSymlink:
		b[0] = 'l'
	case fs.ModeDevice:
		b[0] = 'b'
	case fs.ModeDevice | fs.ModeCharDevice:
		b[0] = 'c'
	case fs.ModeNamedPipe:
		b[0] = 'p'
	case fs.ModeSocket:
		b[0] = 's'
	}
	for i := range 9 {
		if m&(1<<(8-i)) != 0 {
			b[i+1] = "rwx"[i%3]
		}
	}
	for _, special := range []struct {
		bit fs.FileMode
		at  int
		as  string // with and without permission to execute
	}{{fs.ModeSetuid, 3, "sS"}, {fs.ModeSetgid, 6, "sS"}, {fs.ModeSticky, 9, "tT"}} {
		if m&special.bit != 0 {
			if b[special.at] == 'x' {
				b[special.at] = special.as[0]
			} else {
				b[special.at] = special.as[1]
			}
		}
	}
	return string(b)
}

// addArchFlag adds the flag that says which of several images is meant.
func addArchFlag(f *pflag.FlagSet, arch *string) {
	f.StringVar(arch, "arch", "", "of several images, take that for the CPU's `ARCH`, Go's name (default: this machine's)")
}

func newCat(a *app) *cobra.Command {
	var arch string
	cmd := &cobra.Command{
		Use:   "cat IMAGE PATH...",
		Short: "Print files of an image",
		Long: `Print files of an image, one after the other.
IMAGE is what nix2img ls takes. Symbolic links are followed inside the image.`,
		Example: `  nix2img cat hello.sif /etc/passwd`,
		Args:    minArgs(2, "an image and files in it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			img, done, err := openFiles(cmd.Context(), args[0], arch, false)
			if err != nil {
				return err
			}
			defer done()
			for _, arg := range args[1:] {
				if err := cat(cmd.Context(), a.ui.stdout, img, inImage(arg)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	addArchFlag(cmd.Flags(), &arch)
	return cmd
}

func cat(ctx context.Context, w io.Writer, img files, name string) error {
	f, err := img.Open(name)
	if err != nil {
		return fmt.Errorf("cat: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("cat: %w", err)
	}
	if !info.Mode().IsRegular() {
		err := errors.New("not a regular file")
		if info.IsDir() {
			err = errors.New("is a directory")
		}
		return fmt.Errorf("cat: %w", &fs.PathError{Op: "read", Path: name, Err: err})
	}
	if _, err := io.Copy(ctxio.Writer(ctx, w), f); err != nil {
		return fmt.Errorf("cat: %w", err)
	}
	return nil
}
