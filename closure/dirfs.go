package closure

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nix2img/nix2img/internal/vfs"
)

// DirFS returns a file system with the files of a store directory,
// normalized as the package comment says.
// dir is where the files are on this machine,
// which need not be the store directory that paths and links in the store talk about.
//
// A file is executable if its owner may execute it.
// Nodes other than regular files, directories and symbolic links are an error.
//
// Open and Stat follow symbolic links that are relative and stay within dir.
// All others are an error, because they speak of a store directory that DirFS does not know.
//
// The result implements [fs.ReadLinkFS], [fs.ReadDirFS] and [fs.StatFS];
// its regular files implement [io.ReaderAt] and [io.Seeker].
// Errors have the path on this machine.
func DirFS(dir string) fs.FS {
	return &dirFS{dir: filepath.Clean(dir), known: make(map[string]bool)}
}

var (
	_ fs.ReadLinkFS = (*dirFS)(nil)
	_ fs.ReadDirFS  = (*dirFS)(nil)
	_ fs.StatFS     = (*dirFS)(nil)
)

// modTime is the modification time of everything in a store.
// It is not 0 because Python takes that for a reason to compile everything again.
var modTime = time.Unix(1, 0)

var errKind = errors.New("neither a regular file, a directory, nor a symbolic link")

type dirFS struct {
	dir string

	mu    sync.Mutex
	known map[string]bool // names of some directories without a link in their names
}

// maxKnown bounds the memory that known takes.
const maxKnown = 4096

func (d *dirFS) Open(name string) (fs.File, error) {
	if d.isPlain(name) {
		f, err := d.open(name, path.Base(name))
		if !errors.Is(err, syscall.ELOOP) {
			return f, err
		}
	}
	resolved, err := d.resolve("open", name, true)
	if err != nil {
		return nil, err
	}
	return d.open(resolved, path.Base(name))
}

func (d *dirFS) Stat(name string) (fs.FileInfo, error) {
	if d.isPlain(name) {
		info, err := d.lstat(name, path.Base(name))
		if err != nil || info.Mode().Type() != fs.ModeSymlink {
			return info, err
		}
	}
	resolved, err := d.resolve("stat", name, true)
	if err != nil {
		return nil, err
	}
	return d.lstat(resolved, path.Base(name))
}

func (d *dirFS) Lstat(name string) (fs.FileInfo, error) {
	name, err := d.resolve("lstat", name, false)
	if err != nil {
		return nil, err
	}
	return d.lstat(name, path.Base(name))
}

func (d *dirFS) ReadLink(name string) (string, error) {
	name, err := d.resolve("readlink", name, false)
	if err != nil {
		return "", err
	}
	return os.Readlink(d.physical(name))
}

func (d *dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	dir, ok := f.(*dirDir)
	if !ok {
		return nil, &fs.PathError{Op: "readdir", Path: d.physical(name), Err: syscall.ENOTDIR}
	}
	return dir.ReadDir(-1)
}

// physical returns where a file is on this machine.
func (d *dirFS) physical(name string) string {
	if name == "." {
		// The store directory itself may be reached through a link.
		return d.dir + string(filepath.Separator)
	}
	return d.dir + string(filepath.Separator) + name // filepath.Join would clean it each time
}

// open is Open for a plain name that is no link.
// The file will say that its name is base.
func (d *dirFS) open(name, base string) (fs.File, error) {
	// Nonblocking, lest a pipe keep us waiting.
	f, err := os.OpenFile(d.physical(name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	raw, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	info, err := normalInfo(base, raw, f.Name())
	if err != nil {
		f.Close()
		return nil, err
	}
	if info.IsDir() {
		d.addKnown(name)
		return &dirDir{f: f, info: info}, nil
	}
	return &dirFile{f, info}, nil
}

// lstat is Lstat for a plain name.
func (d *dirFS) lstat(name, base string) (fs.FileInfo, error) {
	raw, err := os.Lstat(d.physical(name))
	if err != nil {
		return nil, err
	}
	return normalInfo(base, raw, d.physical(name))
}

// isPlain reports whether a name is known to have no links in its directory.
func (d *dirFS) isPlain(name string) bool {
	if !vfs.ValidName(name) {
		return false
	}
	dir := path.Dir(name)
	return dir == "." || d.isKnown(dir)
}

// resolve checks a name and returns one that has no links in its directory,
// and if follow is set is no link either.
func (d *dirFS) resolve(op, name string, follow bool) (string, error) {
	fail := func(err error) (string, error) {
		return "", &fs.PathError{Op: op, Path: d.physical(name), Err: err}
	}
	if !vfs.ValidName(name) {
		return fail(fs.ErrInvalid)
	}
	dir, base := path.Split(name)
	dir = path.Clean(dir)
	from, rest := ".", name
	if d.isKnown(dir) {
		from, rest = dir, base
	}
	if !follow {
		rest = strings.TrimSuffix(rest, base)
	}
	at, err := vfs.Walk(namespace{d}, from, rest, true)
	if err != nil {
		return fail(err)
	}
	if !follow {
		at = path.Join(at, base)
	}
	return at, nil
}

// namespace is the directory as [vfs.Walk] sees it. Its files are plain names that are no links.
type namespace struct{ d *dirFS }

func (ns namespace) Entry(dir, name string) (string, fs.FileMode, error) {
	name = path.Join(dir, name)
	raw, err := os.Lstat(ns.d.physical(name))
	if err != nil {
		return "", 0, errors.Unwrap(err)
	}
	if raw.IsDir() {
		ns.d.addKnown(name)
	}
	return name, raw.Mode(), nil
}

func (ns namespace) Target(link string) (string, error) {
	target, err := os.Readlink(ns.d.physical(link))
	if err != nil {
		return "", errors.Unwrap(err)
	}
	return target, nil
}

func (ns namespace) Above(dir string) (string, error) {
	if dir == "." {
		return "", vfs.ErrOutside
	}
	return path.Dir(dir), nil
}

func (ns namespace) Absolute(_, _ string) (string, string, error) { return "", "", vfs.ErrOutside }

func (d *dirFS) isKnown(dir string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known[dir]
}

func (d *dirFS) addKnown(dir string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.known) >= maxKnown {
		clear(d.known)
	}
	d.known[dir] = true
}

// normalInfo returns what a NAR would tell of a file.
func normalInfo(name string, raw fs.FileInfo, file string) (*fileInfo, error) {
	info := &fileInfo{name: name}
	switch raw.Mode().Type() {
	case 0:
		info.mode, info.size = 0o444, raw.Size()
		if raw.Mode()&0o100 != 0 {
			info.mode = 0o555
		}
	case fs.ModeDir:
		info.mode = fs.ModeDir | 0o555
	case fs.ModeSymlink:
		info.mode, info.size = fs.ModeSymlink|0o777, raw.Size()
	default:
		return nil, &fs.PathError{Op: "lstat", Path: file, Err: fmt.Errorf("%v: %w", raw.Mode(), errKind)}
	}
	return info, nil
}

type fileInfo struct {
	name string
	mode fs.FileMode
	size int64
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.size }
func (i *fileInfo) Mode() fs.FileMode  { return i.mode }
func (i *fileInfo) ModTime() time.Time { return modTime }
func (i *fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i *fileInfo) Sys() any           { return nil }
func (i *fileInfo) String() string     { return fs.FormatFileInfo(i) }

// dirFile is a regular file.
type dirFile struct {
	f    *os.File
	info *fileInfo
}

func (f *dirFile) Stat() (fs.FileInfo, error)                { return f.info, nil }
func (f *dirFile) Read(p []byte) (int, error)                { return f.f.Read(p) }
func (f *dirFile) ReadAt(p []byte, off int64) (int, error)   { return f.f.ReadAt(p, off) }
func (f *dirFile) Seek(off int64, whence int) (int64, error) { return f.f.Seek(off, whence) }
func (f *dirFile) Close() error                              { return f.f.Close() }

// dirDir is a directory.
type dirDir struct {
	f       *os.File
	info    *fileInfo
	read    bool
	entries []fs.DirEntry // those not yet returned
}

func (d *dirDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *dirDir) Close() error               { return d.f.Close() }

func (d *dirDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.f.Name(), Err: syscall.EISDIR}
}

func (d *dirDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		entries, err := d.f.ReadDir(-1)
		if err != nil {
			return nil, err
		}
		for i, e := range entries {
			switch e.Type() {
			case 0, fs.ModeDir, fs.ModeSymlink:
			default:
				return nil, &fs.PathError{Op: "readdir", Path: filepath.Join(d.f.Name(), e.Name()),
					Err: fmt.Errorf("%v: %w", e.Type(), errKind)}
			}
			entries[i] = dirEntry{e, d.f.Name()}
		}
		slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
		d.entries, d.read = entries, true
	}
	return takeEntries(&d.entries, n)
}

// takeEntries takes entries from the front of *entries as [fs.ReadDirFile] has it.
func takeEntries(entries *[]fs.DirEntry, n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(*entries)
	} else if len(*entries) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(*entries))
	taken := (*entries)[:n:n]
	*entries = (*entries)[n:]
	return taken, nil
}

// dirEntry is an entry whose Info is normalized.
type dirEntry struct {
	fs.DirEntry
	dir string
}

func (e dirEntry) Info() (fs.FileInfo, error) {
	raw, err := e.DirEntry.Info()
	if err != nil {
		return nil, err
	}
	return normalInfo(e.Name(), raw, filepath.Join(e.dir, e.Name()))
}

func (e dirEntry) String() string { return fs.FormatDirEntry(e) }
