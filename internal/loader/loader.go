// Package loader says which libraries a program of a file tree would load, without running it.
//
// It goes the ways of glibc's loader, as ld.so(8) has them. A library that a file needs is looked for
//
//  1. among those that are loaded already, by the name that was asked for or their DT_SONAME;
//  2. in DT_RPATH of the file, then of the file that has loaded it, and so on, unless the file has a DT_RUNPATH;
//  3. in LD_LIBRARY_PATH;
//  4. in DT_RUNPATH of the file;
//  5. in ld.so.cache, which is not read, and in the default folders.
//
// What is not found there is taken from anywhere, if but one file has the name:
// wrappers set variables, and ld.so.cache may name a folder.
package loader

import (
	"path"
	"slices"
	"strings"
)

// File is a program or a library, as its headers describe it.
type File struct {
	Path    string // absolute, without symbolic links
	Arch    string // of the CPU; files of another one are passed over
	Class   int    // bits of an address; likewise
	Interp  string // path of the loader; programs have one
	Soname  string
	Needed  []string
	RPath   string // DT_RPATH
	RunPath string // DT_RUNPATH
}

// Way is how a library was found.
type Way string

// Ways, in the order in which the loader goes them.
const (
	RPath    Way = "RPATH"           // DT_RPATH of the file, or of one that loads it
	Env      Way = "LD_LIBRARY_PATH" // which was given
	RunPath  Way = "RUNPATH"         // DT_RUNPATH of the file
	Default  Way = "default"         // a folder in which the loader always looks
	Absolute Way = "path"            // the file asks for it by its path
	Only     Way = "only one"        // no rule leads to it, but it is the only one with this name
)

// Loaded is a file that a program has in its process.
type Loaded struct {
	*File
	Name string // by which it was asked for
	By   *File  // that asked for it first; nil for the program
	Way  Way
}

// Missing is a library that is not there.
type Missing struct {
	Name string
	By   *File
}

// Process is what is loaded when a program starts, in the order of loading. The first is the program.
type Process struct {
	Loaded  []Loaded
	Missing []Missing
}

// Find returns what was loaded under a name, or nil.
func (p *Process) Find(name string) *Loaded {
	for i := range p.Loaded {
		if p.Loaded[i].is(name) {
			return &p.Loaded[i]
		}
	}
	return nil
}

func (l *Loaded) is(name string) bool { return l.Name == name || l.Soname == name }

// Files are those of a tree in which libraries are looked for.
type Files struct {
	byPath map[string]*File
	byName map[string][]*File
	links  map[string]string
	real   map[string]string // folders without symbolic links, by how they are called
	tries  int
}

// Bounds of what is done for one program, far above what any needs.
const (
	maxLinks  = 40 // as in the kernel
	maxLoaded = 4096
	maxTries  = 1 << 25 // for all programs of a tree
)

// New takes the files of a tree, and its symbolic links: absolute path to target.
func New(files []*File, links map[string]string) *Files {
	f := &Files{byPath: make(map[string]*File), byName: make(map[string][]*File), links: links, real: make(map[string]string)}
	for _, file := range files {
		f.byPath[file.Path] = file
		base := path.Base(file.Path)
		f.byName[base] = append(f.byName[base], file)
		if file.Soname != "" && file.Soname != base {
			f.byName[file.Soname] = append(f.byName[file.Soname], file)
		}
	}
	return f
}

// Named returns the files with a name or DT_SONAME.
func (f *Files) Named(name string) []*File { return f.byName[name] }

// GaveUp reports whether so much had to be looked for that nobody can have meant it.
// What was looked for later was not found.
func (f *Files) GaveUp() bool { return f.tries > maxTries }

// At returns the file at a path, behind symbolic links, or nil.
func (f *Files) At(name string) *File {
	if f.tries++; f.tries > maxTries {
		return nil
	}
	dir := path.Dir(name)
	real, ok := f.real[dir]
	if !ok {
		real = f.resolve(dir)
		f.real[dir] = real
	}
	name = path.Join(real, path.Base(name))
	if _, ok := f.links[name]; ok {
		name = f.resolve(name)
	}
	return f.byPath[name]
}

// resolve follows the symbolic links in a path.
func (f *Files) resolve(name string) string {
	for range maxLinks {
		next := f.step(name)
		if next == "" {
			return name
		}
		name = next
	}
	return ""
}

// step replaces the first link in a path, or returns "" if there is none.
func (f *Files) step(name string) string {
	if f.byPath[name] != nil {
		return ""
	}
	for end := 1; end <= len(name); end++ {
		if end < len(name) && name[end] != '/' {
			continue
		}
		target, ok := f.links[name[:end]]
		if !ok {
			continue
		}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name[:end]), target)
		}
		return path.Join(target, name[end:])
	}
	return ""
}

// Load loads a program, or a module that a program loads by its path. env has the folders of LD_LIBRARY_PATH.
func (f *Files) Load(program *File, env ...string) *Process {
	l := loading{Files: f, env: env, process: &Process{Loaded: []Loaded{{File: program, Name: program.Path}}}, names: make(map[string]bool)}
	l.note(program, program.Path)
	for next := 0; next < len(l.process.Loaded) && next < maxLoaded; next++ {
		from := l.process.Loaded[next]
		for _, name := range from.Needed {
			if !l.names[name] {
				l.need(&from, name)
			}
		}
	}
	return l.process
}

// loading is that of one program.
type loading struct {
	*Files
	env     []string
	process *Process
	names   map[string]bool // that are there, or looked for in vain
}

func (l *loading) note(file *File, name string) {
	l.names[name] = true
	if file.Soname != "" {
		l.names[file.Soname] = true
	}
}

// need loads a library for a file.
func (l *loading) need(from *Loaded, name string) {
	file, way := l.find(from, name)
	if file == nil {
		l.names[name] = true
		l.process.Missing = append(l.process.Missing, Missing{name, from.File})
		return
	}
	l.note(file, name)
	if slices.ContainsFunc(l.process.Loaded, func(o Loaded) bool { return o.File == file }) {
		return
	}
	l.process.Loaded = append(l.process.Loaded, Loaded{file, name, from.File, way})
}

func (l *loading) find(from *Loaded, name string) (*File, Way) {
	if strings.Contains(name, "/") {
		return l.At(name), Absolute
	}
	program := l.process.Loaded[0].File
	for _, search := range []struct {
		way  Way
		dirs []string
	}{{RPath, l.rpath(from)}, {Env, l.env}, {RunPath, Dirs(from.Path, from.RunPath)}, {Default, l.defaults(program)}} {
		for _, dir := range search.dirs {
			if file := l.At(path.Join(dir, name)); file != nil && file.Arch == program.Arch && file.Class == program.Class {
				return file, search.way
			}
		}
	}
	var only *File
	for _, file := range l.byName[name] {
		if file.Arch != program.Arch || file.Class != program.Class || file == only {
			continue
		}
		if only != nil {
			return nil, ""
		}
		only = file
	}
	return only, Only
}

// rpath returns the folders of DT_RPATH that hold for what a file loads.
func (l *loading) rpath(from *Loaded) []string {
	if from.RunPath != "" {
		return nil
	}
	var dirs []string
	for file := from; file != nil; file = l.loader(file) {
		if file.RunPath == "" {
			dirs = append(dirs, Dirs(file.Path, file.RPath)...)
		}
	}
	return dirs
}

// loader returns the file that has loaded another, or nil for the program.
func (l *loading) loader(file *Loaded) *Loaded {
	if file.By == nil {
		return nil
	}
	i := slices.IndexFunc(l.process.Loaded, func(o Loaded) bool { return o.File == file.By })
	return &l.process.Loaded[i]
}

// defaults returns the folders in which the loader of a program always looks:
// one of nixpkgs in its own, others in those of a distribution.
func (l *loading) defaults(program *File) []string {
	if strings.HasPrefix(program.Interp, "/lib") || program.Interp == "" {
		return []string{
			"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
			"/lib64", "/usr/lib64", "/lib", "/usr/lib",
		}
	}
	return []string{path.Dir(l.resolve(program.Interp))}
}

// Dirs takes an RPATH or RUNPATH of a file apart.
func Dirs(file, list string) []string {
	if list == "" {
		return nil
	}
	origin := strings.NewReplacer("$ORIGIN", path.Dir(file), "${ORIGIN}", path.Dir(file))
	var dirs []string
	for dir := range strings.SplitSeq(list, ":") {
		if dir != "" {
			dirs = append(dirs, path.Clean(origin.Replace(dir)))
		}
	}
	return dirs
}
