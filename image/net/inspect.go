package net

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf"
)

// Inspector finds the [Facts] of trees.
//
// It reads the headers of ELF files, and those of their sections that may have texts.
// For each file that it looks at, it has a buffer of 256 KiB. Damaged files are no error: see [File.Damaged].
var Inspector inspect.Inspector = inspector{}

type inspector struct{}

// Name is that of an [inspect.Inspector].
func (inspector) Name() string { return "net" }

// Version is that of an [inspect.Inspector].
func (inspector) Version() int { return FactsVersion }

// Wants is that of an [inspect.Inspector].
func (inspector) Wants(n *inspect.Node) inspect.Want {
	switch {
	case n.Mode.Type() == fs.ModeSymlink && strings.HasPrefix(path.Base(n.Path), "lib"):
		return inspect.Itself
	case n.IsFile() && strings.HasPrefix(string(n.Head), elf.Magic):
		return inspect.Anywhere
	}
	return inspect.Nothing
}

// Look is that of an [inspect.Inspector].
func (inspector) Look(ctx context.Context, in *inspect.File) (any, error) {
	if !in.IsFile() {
		return Link{text(in.Path), text(in.Target)}, nil
	}
	o, err := elf.ReadObject(in)
	if err != nil && !errors.Is(err, elf.ErrFormat) {
		return nil, err
	}
	if o == nil || o.Type != elf.TypeExec && o.Type != elf.TypeShared || o.Machine == elf.MachineCUDA || o.Machine == elf.MachineAMDGPU {
		return nil, nil
	}
	f := File{
		Path: text(in.Path), Arch: o.Arch, Class: o.Class,
		Interp: text(o.Interp), Soname: text(o.Soname), RPath: text(o.RPath), RunPath: text(o.RunPath),
		Needs: newest(o.Versions), Software: softwareOf(path.Base(in.Path)),
	}
	if f.Arch == "" {
		f.Arch = fmt.Sprintf("machine %d", o.Machine)
	}
	for _, name := range o.Needed {
		f.Needed = append(f.Needed, text(name))
	}
	if err != nil {
		f.Damaged = err.Error()
	}
	if defines := newest(o.Defines); len(defines) > 0 && runtimeLibrary(f.Soname) {
		f.Defines = defines
	}
	s := scanners.Get().(*scanner)
	defer scanners.Put(s)
	if err := s.scan(ctx, in, o, &f); err != nil {
		return nil, err
	}
	return f, nil
}

// runtimeLibrary reports whether a library is one whose version decides about others: of glibc or of GCC.
func runtimeLibrary(soname string) bool {
	switch soname {
	case "libc.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libgfortran.so.5":
		return true
	}
	return false
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

// Inspect finds the facts of the tree at root, a name in fsys, which may be a file: see [inspect.Find].
// workers is how many files are read at a time; 0: as many as there are cores.
func Inspect(ctx context.Context, fsys fs.FS, root string, workers int) (*Facts, error) {
	found, err := inspect.Find(ctx, fsys, []inspect.Tree{{Root: root, Inspectors: []inspect.Inspector{Inspector}}}, workers)
	if err != nil {
		return nil, err
	}
	return FactsOf(found[0])
}

func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
