package image

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/elf"
)

// An ArchError reports that a closure's files do not tell the architecture of an image.
// The way out is to set [Config.Arch].
type ArchError struct {
	Found []string // Go's names of those that are equally likely, sorted; empty if there is none
}

func (e *ArchError) Error() string {
	if len(e.Found) == 0 {
		return "image: find architecture: the closure has no program for any CPU"
	}
	return "image: find architecture: the closure has as many programs for " +
		strings.Join(e.Found, " as for ")
}

// loaderPaths says where programs that were not built for a store expect glibc's loader,
// according to the ABI supplements of the architectures.
var loaderPaths = []struct{ arch, path string }{
	{"386", "/lib/ld-linux.so.2"},
	{"amd64", "/lib64/ld-linux-x86-64.so.2"},
	{"arm", "/lib/ld-linux-armhf.so.3"},
	{"arm64", "/lib/ld-linux-aarch64.so.1"},
	{"loong64", "/lib64/ld-linux-loongarch-lp64d.so.1"},
	{"ppc64le", "/lib64/ld64.so.2"},
	{"riscv64", "/lib/ld-linux-riscv64-lp64d.so.1"},
	{"s390x", "/lib/ld64.so.1"},
}

// loaderPath returns where programs of an architecture expect glibc's loader,
// or "" if that is not known.
func loaderPath(arch string) string {
	for _, l := range loaderPaths {
		if l.arch == arch {
			return l.path
		}
	}
	return ""
}

// tally counts votes for names. It remembers the order in which names came first.
type tally struct {
	names  []string
	counts []int
}

func (t *tally) add(name string) {
	if name == "" {
		return
	}
	i := slices.Index(t.names, name)
	if i < 0 {
		i = len(t.names)
		t.names = append(t.names, name)
		t.counts = append(t.counts, 0)
	}
	t.counts[i]++
}

// leaders returns the names with the most votes in the order in which they came.
func (t *tally) leaders() []string {
	var leaders []string
	for i, name := range t.names {
		if t.counts[i] == slices.Max(t.counts) {
			leaders = append(leaders, name)
		}
	}
	return leaders
}

// rootPrograms returns the programs in the roots' bin folders:
// of each root in turn, by name, those that lead to an ELF file for a CPU.
func (s *store) rootPrograms(ctx context.Context) ([]*elf.File, error) {
	var programs []*elf.File
	add := func(abs string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := s.program(abs)
		if f != nil && f.Arch != "" {
			programs = append(programs, f)
		}
		return err
	}
	for _, root := range s.roots {
		if err := add(string(root)); err != nil { // some objects are but one script
			return nil, err
		}
		names, err := s.readDir(string(root) + "/bin")
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if err := add(string(root) + "/bin/" + name); err != nil {
				return nil, err
			}
		}
	}
	return programs, nil
}

// findLoaders returns a path for each of glibc's loaders that the closure has, by architecture.
func (s *store) findLoaders(ctx context.Context) (archs tally, byArch map[string]string, err error) {
	byArch = make(map[string]string)
	for _, p := range s.byName {
		for _, lib := range []string{"/lib", "/lib64"} {
			if err := ctx.Err(); err != nil {
				return tally{}, nil, err
			}
			dir := string(p) + lib
			if _, info, err := s.stat(dir); err != nil || !info.IsDir() {
				if ignoreNotExist(err) != nil {
					return tally{}, nil, err
				}
				continue
			}
			for _, l := range loaderPaths {
				abs := dir + "/" + path.Base(l.path)
				f, err := s.program(abs)
				if err != nil {
					return tally{}, nil, err
				}
				if f == nil || f.Arch != l.arch {
					continue
				}
				archs.add(f.Arch)
				if byArch[f.Arch] == "" {
					byArch[f.Arch] = abs
				}
			}
		}
	}
	return archs, byArch, nil
}

// countAll counts the architectures of all ELF files in the closure.
func (s *store) countAll(ctx context.Context) (archs tally, err error) {
	for _, p := range s.byName {
		err := walk(s.files, p.Base(), func(name string, mode fs.FileMode) error {
			if err := ctx.Err(); err != nil || !mode.IsRegular() {
				return err
			}
			f, err := s.files.Open(name)
			if err != nil {
				return fmt.Errorf("image: read %s/%s: %w", s.dir, name, err)
			}
			defer f.Close()
			r, err := readerAt(f)
			if err != nil {
				return fmt.Errorf("image: read %s/%s: %w", s.dir, name, err)
			}
			if file, err := elf.ReadHeader(r); err == nil {
				archs.add(file.Arch)
			}
			return nil
		})
		if err != nil {
			return tally{}, err
		}
	}
	return archs, nil
}

// walk calls f for a file and, if it is a directory, everything below it, by name.
// Unlike [fs.WalkDir] it takes names that are not UTF-8.
func walk(fsys fs.FS, name string, f func(name string, mode fs.FileMode) error) error {
	info, err := fs.Lstat(fsys, name)
	if err != nil {
		return err
	}
	var visit func(name string, mode fs.FileMode) error
	visit = func(name string, mode fs.FileMode) error {
		if err := f(name, mode); err != nil || !mode.IsDir() {
			return err
		}
		entries, err := fs.ReadDir(fsys, name)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := visit(path.Join(name, e.Name()), e.Type()); err != nil {
				return err
			}
		}
		return nil
	}
	return visit(name, info.Mode().Type())
}

// findArch settles the architecture, which the host's has nothing to do with.
// The first of these decides that has something to say, and not several things alike:
// the program that the image starts, the programs of the roots, glibc's loaders, all files.
func (s *store) findArch(ctx context.Context, entry *elf.File, programs []*elf.File) (string, error) {
	if entry != nil && entry.Arch != "" {
		return entry.Arch, nil
	}
	var undecided []string
	decide := func(t tally) string {
		leaders := t.leaders()
		if len(leaders) == 1 {
			return leaders[0]
		}
		if undecided == nil {
			undecided = leaders
		}
		return ""
	}
	var t tally
	for _, f := range programs {
		t.add(f.Arch)
	}
	if arch := decide(t); arch != "" {
		return arch, nil
	}
	t, _, err := s.findLoaders(ctx)
	if err != nil {
		return "", err
	}
	if arch := decide(t); arch != "" {
		return arch, nil
	}
	if t, err = s.countAll(ctx); err != nil {
		return "", err
	}
	if arch := decide(t); arch != "" {
		return arch, nil
	}
	slices.Sort(undecided)
	return "", &ArchError{undecided}
}
