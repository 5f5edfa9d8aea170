package tempfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Prefix begins the temporary names of a [File].
const Prefix = ".nix2img-"

// writeBack is after how many bytes the disk is told to begin to write them,
// so that there is not much left for it to do in the end.
const writeBack = 16 << 20

// A File appears under its name when it is complete, or not at all.
// Until then it is a temporary file in the same directory, locked by its process.
//
// Its errors have the name that it is to get.
type File struct {
	*os.File
	path string // where it is to appear
	temp string // "" when it has been committed or discarded

	written, begun int64 // up to where the file has been written, and the disk been told to begin
}

// Resolve finds out what can be known of a file that is to be made, before there is anything to write.
// It returns its name with symbolic links followed, so that they are not replaced.
//
// A directory with this name is a [syscall.EISDIR], something else that is no regular file an [ErrNotRegular],
// and a directory that is missing a [*NoDirError].
func Resolve(path string) (string, error) {
	fail := func(err error) (string, error) { return "", fmt.Errorf("create %s: %w", path, err) }
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fail(syscall.EISDIR)
	case err == nil && !info.Mode().IsRegular():
		return fail(ErrNotRegular)
	case err == nil:
		return filepath.EvalSymlinks(path)
	}
	dir := filepath.Dir(path)
	if info, derr := os.Stat(dir); errors.Is(derr, fs.ErrNotExist) {
		return fail(&NoDirError{dir})
	} else if derr == nil && !info.IsDir() {
		return fail(fmt.Errorf("%s is not a directory", dir))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fail(reason(err))
	}
	return path, nil
}

// ErrNotRegular is an error of [Resolve].
var ErrNotRegular = errors.New("not a regular file")

// A NoDirError says that the directory of a new file is missing.
type NoDirError struct{ Dir string }

func (e *NoDirError) Error() string { return fmt.Sprintf("directory %s does not exist", e.Dir) }
func (e *NoDirError) Unwrap() error { return fs.ErrNotExist }

// SweepBeside removes what killed processes of this user left in the directory of the file path. It returns the names.
func SweepBeside(path string) (removed []string) {
	return Sweep(filepath.Dir(path), Prefix, os.Geteuid())
}

// NewFile begins the file path, which [Resolve] has looked at. The mode is subject to the umask.
//
// It does not sweep: of several files that are written at the same time,
// one that is not locked yet may be one that another goroutine has just made.
func NewFile(path string, mode fs.FileMode) (*File, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	f, err := Create(dir, Prefix, base[:min(len(base), 120)]+"-", mode)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", path, reason(err))
	}
	unfinished.add(f.Name())
	return &File{File: f, path: path, temp: f.Name()}, nil
}

// Path returns the name that the file is to get.
func (f *File) Path() string { return f.path }

// Commit gives the file its name, and closes it.
func (f *File) Commit() error {
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write %s: %w", f.path, reason(err))
	}
	if err := os.Rename(f.temp, f.path); err != nil {
		return fmt.Errorf("create %s: %w", f.path, reason(err))
	}
	unfinished.forget(f.temp)
	f.temp = ""
	// The name must outlive a loss of power as well, where the file system can do that.
	if dir, err := os.Open(filepath.Dir(f.path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return f.Close()
}

// Discard removes the file unless it has been committed.
func (f *File) Discard() {
	if f.temp != "" {
		os.Remove(f.temp)
		unfinished.forget(f.temp)
		f.temp = ""
	}
	f.Close()
}

func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	if f.written = max(f.written, off+int64(n)); f.written-f.begun >= writeBack {
		beginSync(f.File, f.begun, f.written-f.begun)
		f.begun = f.written
	}
	return n, f.named("write", err)
}

func (f *File) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	return n, f.named("read", err)
}

// Truncate makes the file end at size bytes.
func (f *File) Truncate(size int64) error { return f.named("truncate", f.File.Truncate(size)) }

func (f *File) named(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: op, Path: f.path, Err: reason(err)}
}

// Reserve reports whether size bytes have room where the file is. If not, the error is a [syscall.ENOSPC].
// Where a file system does not say how much is free, writing will tell.
func (f *File) Reserve(size int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil || st.Blocks == 0 {
		return nil
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < size {
		return fmt.Errorf("write %s: the image has %.1f MB, and only %.1f MB are free: %w",
			f.path, float64(size)/1e6, float64(free)/1e6, syscall.ENOSPC)
	}
	return nil
}

// reason returns what is behind an error that has a name in it.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// RemoveUnfinished removes all files of this process that have been neither committed nor discarded.
// It is for a program that ends at once, as after a signal.
func RemoveUnfinished() { unfinished.removeAll() }

// unfinished has the temporary names of this process.
var unfinished nameSet

type nameSet struct {
	mu    sync.Mutex
	names map[string]bool
}

func (s *nameSet) add(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		s.names = make(map[string]bool)
	}
	s.names[name] = true
}

func (s *nameSet) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, name)
}

func (s *nameSet) removeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.names {
		os.Remove(name)
	}
	clear(s.names)
}
