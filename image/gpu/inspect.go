package gpu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf"
)

// Inspector finds the [Facts] of trees.
//
// It reads ELF files, and files with the names of GPU code, and of other files the first four bytes.
// For each file that it looks at, it has a buffer of 256 KiB. Damaged files are no error: see [File.Damaged].
var Inspector inspect.Inspector = inspector{}

type inspector struct{}

// Name is that of an [inspect.Inspector].
func (inspector) Name() string { return "gpu" }

// Version is that of an [inspect.Inspector].
func (inspector) Version() int { return FactsVersion }

// Wants is that of an [inspect.Inspector].
func (inspector) Wants(n *inspect.Node) inspect.Want {
	switch {
	case n.Mode.Type() == fs.ModeSymlink && isLibrary(path.Base(n.Path)):
		return inspect.Itself
	case n.IsFile():
		switch f := interesting(n); {
		case f == nil:
			return inspect.Nothing
		case f.Format == KDB:
			return inspect.Itself
		}
		return inspect.Anywhere
	}
	return inspect.Nothing
}

// Look is that of an [inspect.Inspector].
func (inspector) Look(ctx context.Context, in *inspect.File) (any, error) {
	if !in.IsFile() {
		return Link{text(in.Path), text(in.Target)}, nil
	}
	f := interesting(&in.Node)
	f.Path = text(in.Path)
	s := scanners.Get().(*scanner)
	defer scanners.Put(s)
	s.reset(ctx, in)
	more, err := s.head(f)
	if err != nil {
		return nil, err
	}
	if more {
		if err := s.scan(); err != nil {
			return nil, err
		}
		s.finish(f)
	}
	if f.Format == "" {
		return nil, nil
	}
	return *f, nil
}

// Facts is that of an [inspect.Inspector].
func (inspector) Facts(findings []any) (any, error) {
	facts := new(Facts)
	for _, finding := range findings {
		switch f := finding.(type) {
		case File:
			facts.Files = append(facts.Files, f)
		case Link:
			facts.Links = append(facts.Links, f)
		}
	}
	return facts, nil
}

// FactsOf returns what [Inspector] has found, out of all that inspectors have.
func FactsOf(all inspect.Facts) (*Facts, error) {
	f := new(Facts)
	if err := all.Decode(Inspector, f); err != nil {
		return nil, err
	}
	return f, nil
}

// Runtime says how fast to work. Nothing in it changes what is found.
type Runtime struct {
	Workers int // files that are read at once; 0: as many as there are cores
}

// Inspect finds the facts of the tree at root, a name in fsys, which may be a file: see [inspect.Find].
// A nil rt means the zero value.
func Inspect(ctx context.Context, fsys fs.FS, root string, rt *Runtime) (*Facts, error) {
	if rt == nil {
		rt = new(Runtime)
	}
	found, err := inspect.Find(ctx, fsys, []inspect.Tree{{Root: root, Inspectors: []inspect.Inspector{Inspector}}}, rt.Workers)
	if err != nil {
		return nil, err
	}
	return FactsOf(found[0])
}

// isLibrary reports whether a name is that of a shared library.
func isLibrary(name string) bool {
	return strings.HasSuffix(name, ".so") || strings.Contains(name, ".so.")
}

// interesting returns a file if one with such a name and first bytes is to be looked into.
// Its format is [ELF], or what the name says.
func interesting(n *inspect.Node) *File {
	if strings.HasPrefix(string(n.Head), elf.Magic) {
		return &File{Format: ELF}
	}
	if format, ok := namedFormat(n.Path); ok {
		return &File{Format: format}
	}
	return nil
}

// head reads what the headers of a file say, into f.
// If the rest of the file is to be looked into, more is true. A file without a format is of no interest after all.
func (s *scanner) head(f *File) (more bool, err error) {
	switch f.Format {
	case ELF:
		return s.elf(f)
	case KDB, Tensile, Libdevice:
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
	o, err := elf.ReadObject(s.r)
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
