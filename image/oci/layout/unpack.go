package layout

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Files is the root file system of an image.
// It is an [fs.ReadLinkFS] whose regular files are also an [io.ReaderAt]. Symbolic links are followed within it.
type Files struct {
	spool *os.File
	size  int64
	root  *entry
}

// Owner is what [fs.FileInfo.Sys] of a file of an image returns.
type Owner struct{ UID, GID int }

// An entry is a file of an image. Hard links are one entry with several names.
type entry struct {
	mode    fs.FileMode
	size    int64
	off     int64 // of the contents in the spool
	time    time.Time
	target  string // of a symbolic link
	owner   Owner
	entries map[string]*entry
}

var (
	_ fs.ReadDirFS  = (*Files)(nil)
	_ fs.StatFS     = (*Files)(nil)
	_ fs.ReadLinkFS = (*Files)(nil)
)

func newFiles(spool *os.File) *Files { return &Files{spool: spool, root: newDir()} }

func newDir() *entry {
	return &entry{mode: fs.ModeDir | 0o755, time: modTime, entries: make(map[string]*entry)}
}

// Close frees what the files take.
func (f *Files) Close() error { return f.spool.Close() }

// unpack adds a layer.
func (s *Stored) unpack(ctx context.Context, f *Files, blob string, want v1.Hash) error {
	r, err := s.open(blob)
	if err != nil {
		return err
	}
	defer r.Close()
	plain, err := codec.Decompress(bufio.NewReaderSize(ctxio.Reader(ctx, r), 1<<20))
	if err != nil {
		return err
	}
	defer plain.Close()
	hash := sha256.New()
	all := io.TeeReader(plain, hash)
	t := tar.NewReader(all)
	var placed map[*entry]bool // what this layer has put there, which its whiteouts do not mean
	for placed = make(map[*entry]bool); ; {
		h, err := t.Next()
		if err == io.EOF {
			break
		}
		if err == nil {
			err = f.add(h, t, placed)
		}
		if err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, all); err != nil { // what is behind the archive's end counts, too
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want.Hex {
		return fmt.Errorf("its diffID is sha256:%s, and not %s", got, want)
	}
	return nil
}

// add adds an entry of a layer, or does what a whiteout says: image-spec, layer.md.
func (f *Files) add(h *tar.Header, contents io.Reader, placed map[*entry]bool) error {
	name := path.Clean("/" + h.Name)[1:]
	if name == "" {
		return nil
	}
	dir, base := path.Split(name)
	parent, err := f.mkdir(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	if base == ".wh..wh..opq" {
		for name, e := range parent.entries {
			if !placed[e] {
				delete(parent.entries, name)
			}
		}
		return nil
	}
	if hidden, ok := strings.CutPrefix(base, ".wh."); ok {
		if !placed[parent.entries[hidden]] {
			delete(parent.entries, hidden)
		}
		return nil
	}
	e := &entry{mode: h.FileInfo().Mode(), time: h.ModTime, target: h.Linkname, owner: Owner{h.Uid, h.Gid}}
	switch h.Typeflag {
	case tar.TypeDir:
		e.entries = make(map[string]*entry)
		if old := parent.entries[base]; old != nil && old.mode.IsDir() {
			e.entries = old.entries
		}
	case tar.TypeReg:
		e.off = f.size
		n, err := io.Copy(f.spool, contents)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.size, f.size = n, f.size+n
	case tar.TypeLink:
		if e, err = f.find("link", path.Clean("/" + h.Linkname)[1:], false); err != nil {
			return err
		}
		if e.mode.IsDir() {
			return fmt.Errorf("%s: a hard link to a directory", name)
		}
	case tar.TypeSymlink:
		e.size = int64(len(e.target))
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
	default:
		return fmt.Errorf("%s: an entry of type %q", name, h.Typeflag)
	}
	parent.entries[base] = e
	placed[e] = true
	return nil
}

// mkdir returns a directory, and makes those that are missing on the way.
func (f *Files) mkdir(name string) (*entry, error) {
	e := f.root
	if name == "" {
		return e, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		next := e.entries[part]
		if next == nil {
			next = newDir()
			e.entries[part] = next
		}
		if !next.mode.IsDir() {
			return nil, fmt.Errorf("%s: %s is no directory", name, part)
		}
		e = next
	}
	return e, nil
}

// maxLinks is how many symbolic links are followed for one name, as in Linux.
const maxLinks = 40

// find looks for a file. The last symbolic link is followed if that is asked for, all others are in any case.
func (f *Files) find(op, name string, last bool) (*entry, error) {
	fail := func(err error) (*entry, error) { return nil, &fs.PathError{Op: op, Path: name, Err: err} }
	at := []*entry{f.root} // the way there
	links := 0
	for todo := strings.Split(name, "/"); len(todo) > 0; {
		elem := todo[0]
		todo = todo[1:]
		switch elem {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		e := at[len(at)-1].entries[elem]
		if e == nil {
			return fail(fs.ErrNotExist)
		}
		if e.mode.Type() != fs.ModeSymlink || len(todo) == 0 && !last {
			at = append(at, e)
			continue
		}
		if links++; links > maxLinks {
			return fail(errors.New("too many symbolic links"))
		}
		if path.IsAbs(e.target) {
			at = at[:1]
		}
		todo = append(strings.Split(e.target, "/"), todo...)
	}
	return at[len(at)-1], nil
}

// Lstat describes a file, which may be a symbolic link.
func (f *Files) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

// Stat describes a file.
func (f *Files) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

func (f *Files) stat(op, name string, last bool) (fs.FileInfo, error) {
	e, err := f.find(op, name, last)
	if err != nil {
		return nil, err
	}
	return &entryInfo{path.Base(name), e}, nil
}

// ReadLink returns where a symbolic link leads to.
func (f *Files) ReadLink(name string) (string, error) {
	e, err := f.find("readlink", name, false)
	if err == nil && e.mode.Type() != fs.ModeSymlink {
		err = &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return "", err
	}
	return e.target, nil
}

// ReadDir lists a directory.
func (f *Files) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := f.find("readdir", name, true)
	if err == nil && !e.mode.IsDir() {
		err = &fs.PathError{Op: "readdir", Path: name, Err: errors.New("not a directory")}
	}
	if err != nil {
		return nil, err
	}
	list := make([]fs.DirEntry, 0, len(e.entries))
	for name, e := range e.entries {
		list = append(list, fs.FileInfoToDirEntry(&entryInfo{name, e}))
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	return list, nil
}

// Open opens a regular file.
func (f *Files) Open(name string) (fs.File, error) {
	e, err := f.find("open", name, true)
	if err == nil && !e.mode.IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if err != nil {
		return nil, err
	}
	return &entryFile{io.NewSectionReader(f.spool, e.off, e.size), entryInfo{path.Base(name), e}}, nil
}

// entryInfo is an entry as an fs.FileInfo.
type entryInfo struct {
	name string
	*entry
}

func (i *entryInfo) Name() string       { return i.name }
func (i *entryInfo) Size() int64        { return i.size }
func (i *entryInfo) Mode() fs.FileMode  { return i.mode }
func (i *entryInfo) ModTime() time.Time { return i.time }
func (i *entryInfo) IsDir() bool        { return i.mode.IsDir() }
func (i *entryInfo) Sys() any           { return i.owner }

// entryFile is a regular file that has been opened.
type entryFile struct {
	*io.SectionReader
	info entryInfo
}

func (f *entryFile) Stat() (fs.FileInfo, error) { return &f.info, nil }
func (f *entryFile) Close() error               { return nil }
