package gpu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"

	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/par"
)

// Runtime says how fast to work. Nothing in it changes what is found.
type Runtime struct {
	Workers int // files that are read at once; 0: as many as there are cores
}

// Inspect finds the facts of the tree at root, a name in fsys, which may be a file.
//
// It reads ELF files, and files with the names of GPU code, on many goroutines, and of other files four bytes.
// Each goroutine has a buffer of 256 KiB. Files that are not [io.ReaderAt] are opened again to go back in them.
// Symbolic links are not followed, so fsys should be an [fs.ReadLinkFS].
// Damaged files are no error: see [File.Damaged].
func Inspect(ctx context.Context, fsys fs.FS, root string, rt *Runtime) (*Facts, error) {
	facts, err := InspectAll(ctx, fsys, []string{root}, rt)
	if err != nil {
		return nil, err
	}
	return facts[0], nil
}

// window is how many files may be ahead of the slowest.
const window = 1024

// InspectAll finds the facts of several trees at once. The result has one element for each root.
func InspectAll(ctx context.Context, fsys fs.FS, roots []string, rt *Runtime) ([]*Facts, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	facts := make([]*Facts, len(roots))
	for i := range facts {
		facts[i] = &Facts{Version: FactsVersion}
	}
	in := inspector{fsys, roots}
	for n, err := range par.Map(ctx, par.Workers(rt.Workers), window, in.nodes(), in.inspect) {
		if err != nil {
			return nil, fmt.Errorf("gpu: inspect: %w", err)
		}
		switch f := facts[n.tree]; {
		case n.file != nil:
			f.Files = append(f.Files, *n.file)
		case n.link != nil:
			f.Links = append(f.Links, *n.link)
		}
	}
	return facts, nil
}

// node is a file or link below one of the roots, and later what has been found in it.
type node struct {
	tree int
	name string // in the file system
	path string // in the tree
	mode fs.FileMode
	file *File
	link *Link
}

type inspector struct {
	fsys  fs.FS
	roots []string
}

// nodes yields the files and the links of libraries, in the order of their names.
func (in *inspector) nodes() iter.Seq2[node, error] {
	return func(yield func(node, error) bool) {
		for i, root := range in.roots {
			info, err := fs.Lstat(in.fsys, root)
			if err != nil {
				yield(node{}, err)
				return
			}
			if !in.walk(node{tree: i, name: root, path: ".", mode: info.Mode().Type()}, yield) {
				return
			}
		}
	}
}

func (in *inspector) walk(n node, yield func(node, error) bool) bool {
	switch n.mode {
	case 0:
		return yield(n, nil)
	case fs.ModeSymlink:
		return !isLibrary(path.Base(n.name)) || yield(n, nil)
	case fs.ModeDir:
		entries, err := fs.ReadDir(in.fsys, n.name)
		if err != nil {
			return yield(node{}, err)
		}
		for _, e := range entries {
			child := node{tree: n.tree, name: path.Join(n.name, e.Name()), path: path.Join(n.path, e.Name()), mode: e.Type()}
			if !in.walk(child, yield) {
				return false
			}
		}
	}
	return true
}

// isLibrary reports whether a name is that of a shared library.
func isLibrary(name string) bool {
	return strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.")
}

// inspect looks into one file.
func (in *inspector) inspect(ctx context.Context, n node) (node, error) {
	valid := strings.ToValidUTF8(n.path, "\uFFFD")
	if n.mode == fs.ModeSymlink {
		target, err := fs.ReadLink(in.fsys, n.name)
		n.link = &Link{valid, strings.ToValidUTF8(target, "\uFFFD")}
		return n, err
	}
	r := &contents{fsys: in.fsys, name: n.name}
	defer r.Close()
	var magic [4]byte
	k, err := r.ReadAt(magic[:], 0)
	if err != nil && err != io.EOF {
		return n, err
	}
	f := interesting(n.name, magic[:k])
	if f == nil {
		return n, nil
	}
	f.Path = valid
	info, err := r.file.Stat()
	if err != nil {
		return n, err
	}
	s := scanners.Get().(*scanner)
	defer scanners.Put(s)
	s.reset(ctx, r, info.Size())
	if more, err := s.head(f); err != nil {
		return n, err
	} else if more {
		if err := s.scan(); err != nil {
			return n, err
		}
		s.finish(f)
	}
	if f.Format != "" {
		n.file = f
	}
	return n, nil
}

// interesting returns a file if one with such a name and first bytes is to be looked into.
// Its format is [ELF], or what the name says.
func interesting(name string, magic []byte) *File {
	if string(magic) == elf.Magic {
		return &File{Format: ELF}
	}
	if format, ok := looseNames[path.Ext(name)]; ok {
		return &File{Format: format}
	}
	return nil
}

// contents reads a file at any offset. It is opened when it is first read.
type contents struct {
	fsys fs.FS
	name string
	file fs.File
	at   int64 // where the file is, if it has no ReadAt
}

func (c *contents) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

func (c *contents) ReadAt(p []byte, off int64) (int, error) {
	if c.file == nil || off < c.at {
		f, err := c.fsys.Open(c.name)
		if err != nil {
			return 0, err
		}
		c.Close()
		c.file, c.at = f, 0
	}
	if r, ok := c.file.(io.ReaderAt); ok {
		return r.ReadAt(p, off)
	}
	n, err := io.CopyN(io.Discard, c.file, off-c.at)
	c.at += n
	if err != nil {
		return 0, err
	}
	k, err := io.ReadFull(c.file, p)
	c.at += int64(k)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return k, err
}

// head reads what the headers of a file say, into f.
// If the rest of the file is to be looked into, more is true. A file without a format is of no interest after all.
func (s *scanner) head(f *File) (more bool, err error) {
	switch f.Format {
	case ELF:
		return s.elf(f)
	case KDB:
		return false, nil
	case PTX:
		head := make([]byte, min(s.size, 64<<10))
		if _, err := s.r.ReadAt(head, 0); err != nil && err != io.EOF {
			return false, err
		}
		s.ptx(f, head)
		s.finish(f)
		return false, nil
	}
	return true, nil
}

// finish puts what has been found in the rest of a file into f.
func (s *scanner) finish(f *File) {
	s.report(f)
	switch f.Format {
	case Fatbin, Bundle, PTX:
		f.Format = s.looseFormat(f)
	}
}

// looseFormat returns what a file is that was taken for code by its name.
func (s *scanner) looseFormat(f *File) Format {
	switch {
	case len(f.Code) == 0:
		return Other
	case f.Format == PTX:
		return PTX
	case f.Code[0].Kind == HIP:
		return Bundle
	}
	return Fatbin
}

// elf reads the headers of an ELF file, and says what to look for in the rest, if there is more to look for.
func (s *scanner) elf(f *File) (more bool, err error) {
	// Most files fit into the window, and are then read but once.
	var r io.ReaderAt = s.r
	if s.size <= int64(len(s.buf)) {
		if err := s.fill(0); err != nil {
			return false, err
		}
		r = bytes.NewReader(s.buf[:s.n])
	}
	o, err := elf.ReadObject(r)
	if err != nil && !errors.Is(err, elf.ErrFormat) {
		return false, err
	}
	if o == nil {
		f.Format, f.Damaged = Other, err.Error()
		return false, nil
	}
	if err != nil {
		f.Damaged = err.Error()
	}
	switch o.Machine {
	case elf.MachineCUDA:
		f.Format = Cubin
		s.loose(f, Code{Kind: SASS, Target: cubinTarget(o)})
		return false, nil
	case elf.MachineAMDGPU:
		f.Format = HSACO
		if target := hsacoTarget(o.Flags); target != "" {
			s.loose(f, Code{Kind: HIP, Target: target})
		} else {
			f.Marks = append(f.Marks, MarkUnknown)
		}
		return false, nil
	}
	if o.Type != elf.TypeExec && o.Type != elf.TypeShared {
		f.Format = ""
		return false, nil
	}
	f.Format, f.Class, f.Arch = ELF, o.Class, o.Arch
	if f.Arch == "" {
		f.Arch = fmt.Sprintf("machine %d", o.Machine)
	}
	f.Interp, f.Soname, f.Needed, f.RPath, f.RunPath = text(o.Interp), text(o.Soname), o.Needed, text(o.RPath), text(o.RunPath)
	for i := range f.Needed {
		f.Needed[i] = text(f.Needed[i])
	}
	for _, v := range o.Versions {
		if number, ok := strings.CutPrefix(v, "GLIBC_"); ok {
			if v, ok := parseVersion(number); ok {
				f.Glibc = later(f.Glibc, v)
			}
		}
	}
	s.sections(f, o)
	return true, nil
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
