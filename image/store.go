package image

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/vfs"
)

// store looks for things in a closure's files.
type store struct {
	files fs.FS
	dir   string
	roots []closure.Path
	// byName has all objects, sorted by name and digest.
	byName []closure.Path
}

func newStore(c *closure.Closure) *store {
	s := &store{files: c.Files, dir: c.StoreDir(), roots: c.Roots()}
	for _, o := range c.Objects() {
		s.byName = append(s.byName, o.Path)
	}
	slices.SortFunc(s.byName, func(a, b closure.Path) int {
		return cmp.Or(cmp.Compare(a.Name(), b.Name()), cmp.Compare(a.Digest(), b.Digest()))
	})
	return s
}

// cut returns the part of an absolute path below the store directory.
func (s *store) cut(abs string) (string, bool) {
	return strings.CutPrefix(abs, s.dir+"/")
}

// stat follows all symbolic links of an absolute path in the store directory.
// It returns the name by which s.files knows the file.
// Links that leave the store lead to an error that wraps [fs.ErrNotExist].
func (s *store) stat(abs string) (name string, info fs.FileInfo, err error) {
	at, rest, err := s.Absolute(place{}, abs)
	if err == nil {
		at, err = vfs.Walk(s, at, rest, true)
	}
	if err == nil && at.name == "" || err == syscall.ENOTDIR || err == syscall.ELOOP {
		err = fs.ErrNotExist
	}
	if err != nil {
		return "", nil, fmt.Errorf("image: look up %s: %w", abs, err)
	}
	return at.name, at.info, nil
}

// A place is a file in the store, as [vfs.Walk] goes to it. That of the store directory is empty.
type place struct {
	name string
	info fs.FileInfo
}

func (s *store) Entry(dir place, name string) (place, fs.FileMode, error) {
	name = path.Join(dir.name, name)
	info, err := fs.Lstat(s.files, name)
	if err != nil {
		return place{}, 0, err
	}
	return place{name, info}, info.Mode(), nil
}

func (s *store) Target(link place) (string, error) { return fs.ReadLink(s.files, link.name) }

// Above fails: the closure has nothing above the store directory.
func (s *store) Above(place) (place, error) { return place{}, fs.ErrNotExist }

func (s *store) Absolute(_ place, target string) (place, string, error) {
	rest, ok := s.cut(target)
	if !ok {
		return place{}, "", fs.ErrNotExist
	}
	return place{}, rest, nil
}

// exists reports whether an absolute path in the store leads to a regular file,
// and to one that is executable if that is asked for.
func (s *store) exists(abs string, executable bool) (bool, error) {
	_, info, err := s.stat(abs)
	if err != nil {
		return false, ignoreNotExist(err)
	}
	return info.Mode().IsRegular() && (!executable || isExecutable(info)), nil
}

func isExecutable(info fs.FileInfo) bool {
	return info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// find returns the first of the files that accept likes.
// It looks into the roots in their order, and then into all objects by name.
// Names are relative to an object. The result is an absolute path, or empty.
func (s *store) find(ctx context.Context, accept func(abs string) (bool, error), names ...string) (string, error) {
	for _, p := range slices.Concat(s.roots, s.byName) {
		if err := ctx.Err(); err != nil {
			return "", err
		}
		for _, name := range names {
			abs := string(p) + "/" + name
			if ok, err := accept(abs); ok || err != nil {
				return abs, err
			}
		}
	}
	return "", nil
}

// readDir returns the names in the directory that an absolute path leads to, sorted,
// or none if it does not lead to one.
func (s *store) readDir(abs string) ([]string, error) {
	name, info, err := s.stat(abs)
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	if !info.IsDir() {
		return nil, nil
	}
	entries, err := fs.ReadDir(s.files, name)
	if err != nil {
		return nil, fmt.Errorf("image: list %s: %w", abs, err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	slices.Sort(names)
	return names, nil
}

// How much of a script is read in search of what it starts, and how many scripts may start each other.
const (
	maxScript  = 64 << 10
	maxScripts = 8
)

// program returns what the ELF file that an absolute path leads to says,
// be it directly, through symbolic links, through scripts that replace themselves with it,
// or as the interpreter of a script.
// It returns nil if there is no such file.
func (s *store) program(abs string) (*elf.File, error) {
	return s.programBehind(abs, maxScripts)
}

func (s *store) programBehind(abs string, scripts int) (*elf.File, error) {
	name, info, err := s.stat(abs)
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	if !isExecutable(info) {
		return nil, nil
	}
	f, err := s.files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("image: read %s: %w", abs, err)
	}
	defer f.Close()
	r, err := readerAt(f)
	if err != nil {
		return nil, fmt.Errorf("image: read %s: %w", abs, err)
	}
	file, err := elf.Read(r)
	if !errors.Is(err, elf.ErrFormat) {
		return file, wrap(err, "image: read %s", abs)
	}
	if scripts == 0 {
		return nil, nil
	}
	text := make([]byte, maxScript)
	n, err := r.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("image: read %s: %w", abs, err)
	}
	for _, next := range s.startedBy(text[:n]) {
		if file, err := s.programBehind(next, scripts-1); file != nil || err != nil {
			return file, err
		}
	}
	return nil, nil
}

// startedBy returns the store paths that a script may start:
// those after the word exec at the beginning of a line, as in wrappers, and last the interpreter.
func (s *store) startedBy(script []byte) []string {
	rest, ok := bytes.CutPrefix(script, []byte("#!"))
	if !ok {
		return nil
	}
	first, rest, _ := bytes.Cut(rest, []byte("\n"))
	var paths []string
	for line := range bytes.Lines(rest) {
		if after, ok := bytes.CutPrefix(bytes.TrimLeft(line, " \t"), []byte("exec ")); ok {
			if p := s.firstPath(after); p != "" {
				paths = append(paths, p)
			}
		}
	}
	if fields := bytes.Fields(first); len(fields) > 0 && strings.HasPrefix(string(fields[0]), s.dir+"/") {
		paths = append(paths, string(fields[0]))
	}
	return paths
}

// firstPath returns the first store path in a line of a shell script.
func (s *store) firstPath(line []byte) string {
	i := bytes.Index(line, []byte(s.dir+"/"))
	if i < 0 {
		return ""
	}
	line = line[i:]
	if end := bytes.IndexAny(line, " \t\n\"'`$;&|<>()\\"); end >= 0 {
		line = line[:end]
	}
	return string(line)
}

// maxBuffered is how much is read of files that cannot be read at any offset.
// The path of a loader usually lies within the first kilobyte.
const maxBuffered = 1 << 20

func readerAt(f fs.File) (io.ReaderAt, error) {
	if r, ok := f.(io.ReaderAt); ok {
		return r, nil
	}
	data, err := io.ReadAll(io.LimitReader(f, maxBuffered))
	return bytes.NewReader(data), err
}

// wrap adds context to an error that may be nil.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// rootScripts reports whether a program in the roots' bin folders is a script for /bin/sh, if sh is set,
// or for /usr/bin/env, if env is.
func (s *store) rootScripts(ctx context.Context, sh, env bool) (bool, error) {
	for _, root := range s.roots {
		names, err := s.readDir(string(root) + "/bin")
		if err != nil {
			return false, err
		}
		for _, name := range names {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			line, err := s.firstLine(string(root) + "/bin/" + name)
			if err != nil {
				return false, err
			}
			interpreter, _, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
			if sh && interpreter == "/bin/sh" || env && interpreter == "/usr/bin/env" {
				return true, nil
			}
		}
	}
	return false, nil
}

// firstLine returns what is behind the #! of an executable script, or "".
func (s *store) firstLine(abs string) (string, error) {
	name, info, err := s.stat(abs)
	if err != nil || !isExecutable(info) {
		return "", ignoreNotExist(err)
	}
	f, err := s.files.Open(name)
	if err != nil {
		return "", fmt.Errorf("image: read %s: %w", abs, err)
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", fmt.Errorf("image: read %s: %w", abs, err)
	}
	line, _, _ := strings.Cut(string(head), "\n")
	interpreter, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return "", nil
	}
	return interpreter, nil
}
