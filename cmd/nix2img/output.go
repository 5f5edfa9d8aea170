package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// output is a file that appears under its name when it is complete, or not at all.
//
// Until then it is a temporary file in the same directory, locked by its process.
// So one that is not locked was left by a process that was killed,
// and the next one removes it.
type output struct {
	*os.File
	path  string // where it is to appear
	temp  string
	temps *temporaries

	written, begun int64 // up to where the file has been written, and the disk been told to begin
}

// writeBack is after how many bytes the disk is told to begin to write them,
// so that there is not much left for it to do in the end.
const writeBack = 16 << 20

// tempPrefix begins temporary names.
const tempPrefix = ".nix2img-"

// checkOutput finds out what can be known about an output before there is anything to write.
// It returns the path with symbolic links followed, so that they are not replaced.
func checkOutput(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return "", withHint(fmt.Errorf("create %s: is a directory", path),
			"name a file, such as %s", filepath.Join(path, "image.sif"))
	case err == nil && !info.Mode().IsRegular():
		return "", withHint(fmt.Errorf("create %s: not a regular file", path),
			"-o - writes to standard output")
	case err == nil:
		return filepath.EvalSymlinks(path)
	}
	dir := filepath.Dir(path)
	if info, derr := os.Stat(dir); errors.Is(derr, fs.ErrNotExist) {
		return "", withHint(fmt.Errorf("create %s: directory %s does not exist", path, dir),
			"create it with: mkdir -p %s", dir)
	} else if derr == nil && !info.IsDir() {
		return "", fmt.Errorf("create %s: %s is not a directory", path, dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("create %s: %w", path, reason(err))
	}
	if strings.HasSuffix(path, "/") {
		return "", fmt.Errorf("create %s: is a directory", path)
	}
	return path, nil
}

// create begins an output file. It first removes what killed processes left beside it.
func (a *app) create(path string, mode fs.FileMode) (*output, error) {
	path, err := checkOutput(path)
	if err != nil {
		return nil, err
	}
	a.sweep(filepath.Dir(path))
	return a.begin(path, mode)
}

// sweep removes what killed processes left in a directory.
func (a *app) sweep(dir string) {
	for _, name := range tempfile.Sweep(dir, tempPrefix, os.Geteuid()) {
		a.ui.infof("removed %s, which an earlier run left", name)
	}
}

// begin is create without sweeping, for one of several files that are written at the same time:
// one that is not locked yet may be one that another goroutine has just made.
func (a *app) begin(path string, mode fs.FileMode) (*output, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := tempfile.Create(dir, tempPrefix, base[:min(len(base), 120)]+"-", mode)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, reason(err))
	}
	o := &output{File: f, path: path, temp: f.Name(), temps: &a.temps}
	o.temps.add(o.temp)
	return o, nil
}

// Commit gives the file its name.
func (o *output) Commit() error {
	if err := o.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, reason(err))
	}
	if err := os.Rename(o.temp, o.path); err != nil {
		var le *os.LinkError
		if errors.As(err, &le) {
			err = le.Err
		}
		return fmt.Errorf("create %s: %w", o.path, err)
	}
	o.temps.forget(o.temp)
	o.temp = ""
	// The name must outlive a loss of power as well, where the file system can do that.
	if dir, err := os.Open(filepath.Dir(o.path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return o.Close()
}

// WriteAt, ReadAt and Truncate have errors with the name that the user knows.
func (o *output) WriteAt(p []byte, off int64) (int, error) {
	n, err := o.File.WriteAt(p, off)
	if o.written = max(o.written, off+int64(n)); o.written-o.begun >= writeBack {
		beginSync(o.File, o.begun, o.written-o.begun)
		o.begun = o.written
	}
	return n, o.named("write", err)
}

func (o *output) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.File.ReadAt(p, off)
	return n, o.named("read", err)
}

func (o *output) Truncate(size int64) error { return o.named("truncate", o.File.Truncate(size)) }

func (o *output) named(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: o.path, Err: reason(err)}
}

// Discard removes the file unless it has been committed.
func (o *output) Discard() {
	if o.temp != "" {
		os.Remove(o.temp)
		o.temps.forget(o.temp)
		o.temp = ""
	}
	o.Close()
}

// enoughSpace reports whether size bytes have room where a file is.
func enoughSpace(f *output, size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return nil // then writing will tell
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < size {
		return fmt.Errorf("write %s: the image has %s, and only %s are free: %w", f.path, formatSize(size), formatSize(free), syscall.ENOSPC)
	}
	return nil
}

// errSpool is about a temporary file, whatever it was needed for.
var errSpool = errors.New("temporary file in " + os.TempDir())

// spool returns a temporary file without a name, which vanishes with the process.
// It lies in TMPDIR.
func spool() (*os.File, error) {
	f, err := os.CreateTemp("", "nix2img-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("create %w: %w", errSpool, reason(err))
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("remove %w: %w", errSpool, reason(err))
	}
	return f, nil
}

// spoolFile is such a file, with errors that tell it from what it is a copy of.
type spoolFile struct{ *os.File }

func (f spoolFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err != nil {
		err = fmt.Errorf("write %w: %w", errSpool, reason(err))
	}
	return n, err
}
