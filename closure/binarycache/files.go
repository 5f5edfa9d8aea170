package binarycache

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// Files are the files of a closure of which some or all objects lie in caches.
//
// They are made to be fetched: see [Files.Fetch].
// As a file system, too, they can be read: then an object is kept whole, in a temporary file, from when it is first
// looked at, and the objects that were opened first go when more than Runtime.Spool bytes are kept.
type Files struct {
	ctx     context.Context
	rt      *Runtime
	sources map[string]*source // by the base names of their paths
	buffers buffers            // for what is kept
	local   fs.FS              // the other objects, or nil

	mu    sync.Mutex
	kept  map[string]*keptObject
	order []string // of their opening
	size  int64    // of the NARs that are kept
}

// A keptObject is an object in a temporary file, or on its way there.
type keptObject struct {
	once  sync.Once
	files *nar.FS
	err   error
}

var (
	_ closure.Fetcher = (*Files)(nil)
	_ fs.ReadLinkFS   = (*Files)(nil)
	_ fs.ReadDirFS    = (*Files)(nil)
	_ fs.StatFS       = (*Files)(nil)
)

// Address returns the URL of an object's NAR, or "" if the object is on this machine.
func (f *Files) Address(p closure.Path) string {
	if s := f.sources[p.Base()]; s != nil {
		return s.address()
	}
	return ""
}

// Info returns what a cache says of an object, and the cache; or nil if the object is on this machine.
func (f *Files) Info(p closure.Path) (*NARInfo, *Cache) {
	if s := f.sources[p.Base()]; s != nil {
		return s.NARInfo, s.cache
	}
	return nil, nil
}

// Remote reports whether an object comes from a cache.
func (f *Files) Remote(p closure.Path) bool { return f.sources[p.Base()] != nil }

func (f *Files) Open(name string) (fs.File, error) {
	fsys, err := f.of("open", name)
	if err != nil {
		return nil, err
	}
	return fsys.Open(name)
}

func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) {
	fsys, err := f.of("readdir", name)
	if err != nil {
		return nil, err
	}
	return fs.ReadDir(fsys, name)
}

func (f *Files) Stat(name string) (fs.FileInfo, error) {
	fsys, err := f.of("stat", name)
	if err != nil {
		return nil, err
	}
	return fs.Stat(fsys, name)
}

func (f *Files) Lstat(name string) (fs.FileInfo, error) {
	fsys, err := f.of("lstat", name)
	if err != nil {
		return nil, err
	}
	return fs.Lstat(fsys, name)
}

func (f *Files) ReadLink(name string) (string, error) {
	fsys, err := f.of("readlink", name)
	if err != nil {
		return "", err
	}
	return fs.ReadLink(fsys, name)
}

// of returns the file system that has a file.
func (f *Files) of(op, name string) (fs.FS, error) {
	base, _, _ := strings.Cut(name, "/")
	s := f.sources[base]
	switch {
	case s != nil:
		return f.keep(base, s)
	case f.local != nil:
		return f.local, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// keep returns an object as a file system that has it under its base name.
func (f *Files) keep(base string, s *source) (fs.FS, error) {
	f.mu.Lock()
	o := f.kept[base]
	if o == nil {
		o = new(keptObject)
		f.kept[base] = o
	}
	f.mu.Unlock()
	o.once.Do(func() {
		o.files, o.err = f.load(base, s)
		f.mu.Lock()
		defer f.mu.Unlock()
		if o.err != nil {
			delete(f.kept, base) // it may go better next time
			return
		}
		for f.size += s.NARSize; f.size > f.rt.spool() && len(f.order) > 0; f.order = f.order[1:] {
			// Its temporary file is closed when nobody has a file of it open.
			delete(f.kept, f.order[0])
			f.size -= f.sources[f.order[0]].NARSize
		}
		f.order = append(f.order, base)
	})
	if o.err != nil {
		return nil, o.err
	}
	return o.files, nil
}

// load fetches an object into a temporary file.
func (f *Files) load(base string, s *source) (*nar.FS, error) {
	file, err := tempfile.Unnamed(f.rt.TempDir)
	if err != nil {
		return nil, &SpoolError{err}
	}
	d := s.download(f.ctx)
	defer d.Close()
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(hash, spoolWriter{file}), s.unpack(&f.buffers, d))
	if err == nil {
		if got := closure.Hash(hash.Sum(nil)); got != s.NARHash {
			err = s.wrong("the NAR's hash is %s, want %s", got, s.NARHash)
		}
	}
	var fsys *nar.FS
	if err == nil {
		if fsys, err = nar.Open(file, s.NARSize); err != nil {
			err = s.wrong("%w", err)
		}
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return nar.Join(map[string]*nar.FS{base: fsys})
}

func (rt *Runtime) spool() int64 {
	if rt.Spool == 0 {
		return DefaultSpool
	}
	return max(rt.Spool, 0)
}

func infoName(p closure.Path) string { return fmt.Sprintf("%s.narinfo", p.Digest()) }

// A spoolWriter writes to a temporary file.
type spoolWriter struct{ *os.File }

func (w spoolWriter) Write(p []byte) (int, error) {
	n, err := w.File.Write(p)
	if err != nil {
		err = &SpoolError{err}
	}
	return n, err
}
