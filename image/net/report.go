package net

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/loader"
)

// Tree is a tree in an image.
type Tree struct {
	At    string // absolute path in the image: a store path, or "/" for all of it
	Facts *Facts
}

// Report says what the trees of an image have for programs that run on many nodes.
type Report struct {
	// MPI are the libraries of MPI, by path.
	MPI []MPI `json:"mpi"`
	// Programs are those that load one of them, and modules of interpreters that do, by path.
	Programs []Program `json:"programs"`
	// Libfabric and UCX are what carries messages for MPI and NCCL.
	Libfabric []Libfabrics `json:"libfabric"`
	UCX       []UCXs       `json:"ucx"`
	// Collectives are NCCL and RCCL, as libraries or in others.
	Collectives []Collective `json:"collectives"`
	// Verbs are the drivers of libibverbs, which all that uses RDMA needs: "mlx5", "efa"; sorted.
	Verbs []string `json:"verbs"`
	// Glibc is the newest version of glibc's symbols that the image has, as "2.36".
	Glibc string `json:"glibc,omitzero"`
	// Host is what the programs want of a host: devices, folders, limits.
	Host []HostPart `json:"host"`
	// Suspects are what is likely to be wrong.
	Suspects []Suspect `json:"suspects"`

	files  []*placed
	at     map[*loader.File]*placed
	loader *loader.Files
	links  map[string]string
}

// Program is a program that loads MPI.
type Program struct {
	Path string   `json:"path"`
	MPI  []string `json:"mpi"` // paths of libraries in [Report.MPI]; one, unless something is wrong
	// Missing are libraries that it cannot start without, and that the image does not have.
	Missing []string `json:"missing,omitempty"`
	// Swap says whether another library can take the place of its MPI, by LD_LIBRARY_PATH.
	// If not, Why has the reason.
	Swap bool   `json:"swap"`
	Why  string `json:"why,omitzero"`

	process *loader.Process
	module  bool // of an interpreter
}

// Suspect is something that is likely to be wrong.
type Suspect struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// placed is a file in the image.
type placed struct {
	*File
	path string // absolute
	tree string // that it is in
	file *loader.File
}

// New makes a report of an image that consists of these trees.
func New(trees []Tree) *Report {
	r := &Report{ // lists are [] in JSON, not null
		MPI: []MPI{}, Programs: []Program{}, Libfabric: []Libfabrics{}, UCX: []UCXs{}, Collectives: []Collective{},
		Verbs: []string{}, Host: []HostPart{}, Suspects: []Suspect{},
		at: make(map[*loader.File]*placed), links: make(map[string]string),
	}
	for _, t := range trees {
		if t.Facts != nil {
			r.place(t)
		}
	}
	slices.SortStableFunc(r.files, func(a, b *placed) int { return cmp.Compare(a.path, b.path) })
	var files []*loader.File
	for _, p := range r.files {
		files = append(files, p.file)
	}
	r.loader = loader.New(files, r.links)
	r.findVerbs()
	r.findCarriers()
	r.findMPI()
	r.findPrograms()
	r.findCollectives()
	r.findGlibc()
	r.findHost()
	r.findSuspects()
	return r
}

// place takes the files of a tree to where they are in the image.
func (r *Report) place(t Tree) {
	for i := range t.Facts.Files {
		f := &t.Facts.Files[i]
		p := &placed{File: f, path: path.Join(t.At, f.Path), tree: t.At}
		p.file = &loader.File{
			Path: p.path, Arch: f.Arch, Class: f.Class, Interp: f.Interp, Soname: f.Soname,
			Needed: f.Needed, RPath: f.RPath, RunPath: f.RunPath,
		}
		r.files = append(r.files, p)
		r.at[p.file] = p
	}
	for _, l := range t.Facts.Links {
		r.links[path.Join(t.At, l.Path)] = l.Target
	}
}

// loads returns what is loaded with a file, as if it were a program or a module.
func (r *Report) loads(p *placed) *loader.Process { return r.loader.Load(p.file) }

// find returns the file of some software that is loaded with another, or nil.
func (r *Report) find(process *loader.Process, is func(p *placed) bool) *placed {
	for _, l := range process.Loaded {
		if p := r.at[l.File]; p != nil && is(p) {
			return p
		}
	}
	return nil
}

func isOf(software Software) func(*placed) bool {
	return func(p *placed) bool { return p.Software == software }
}

// opens returns what a file finds under a name by dlopen, or nil.
// That it is anywhere in the image is not enough.
func (r *Report) opens(p *placed, name string) *placed {
	as := *p.file
	as.Needed = []string{name}
	found := r.loader.Load(&as).Find(name)
	if found == nil || found.Way == loader.Only {
		return nil
	}
	return r.at[found.File]
}

// beside reports whether a file belongs to another: both are in one store path, or the image has no such.
func (p *placed) beside(other *placed) bool { return p.tree == other.tree }

// findVerbs lists the drivers of libibverbs. Those of Mellanox, Amazon and others are links to libraries.
func (r *Report) findVerbs() {
	add := func(base string) {
		if softwareOf(base) != VerbsDriver {
			return
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(base, "lib"), "-rdmav")
		if !slices.Contains(r.Verbs, name) {
			r.Verbs = append(r.Verbs, name)
		}
	}
	for _, p := range r.files {
		add(path.Base(p.path))
	}
	for link := range r.links {
		add(path.Base(link))
	}
	slices.Sort(r.Verbs)
}

// findGlibc finds out which symbols of glibc the image has: those of the newest, if there are several.
func (r *Report) findGlibc() {
	for _, p := range r.files {
		for _, v := range p.Defines {
			if family, number := cutVersion(v); family == "GLIBC" && p.Soname == "libc.so.6" && compareVersions(number, r.Glibc) > 0 {
				r.Glibc = number
			}
		}
	}
}

// Split takes the facts about all of an image apart by store paths, so that files know what they belong to.
// What lies elsewhere stays in one tree, at the root.
func Split(f *Facts) []Tree {
	if f == nil {
		f = new(Facts)
	}
	rest := new(Facts)
	trees := []Tree{{"/", rest}}
	index := make(map[string]*Facts)
	of := func(name string) (*Facts, string) {
		at, inside, ok := cutStore(name)
		if !ok {
			return rest, name
		}
		if index[at] == nil {
			index[at] = new(Facts)
			trees = append(trees, Tree{"/" + at, index[at]})
		}
		return index[at], inside
	}
	for _, file := range f.Files {
		facts, inside := of(file.Path)
		file.Path = inside
		facts.Files = append(facts.Files, file)
	}
	for _, l := range f.Links {
		facts, inside := of(l.Path)
		l.Path = inside
		facts.Links = append(facts.Links, l)
	}
	return trees
}

// cutStore takes "nix/store/HASH-NAME/lib/x" apart, before "lib/x".
func cutStore(name string) (at, inside string, ok bool) {
	const digest = 32
	elems := strings.SplitAfterN(name, "/", 4)
	if len(elems) < 3 || elems[1] != "store/" || len(elems[2]) < digest+2 || elems[2][digest] != '-' {
		return "", "", false
	}
	at = strings.TrimSuffix(elems[0]+elems[1]+elems[2], "/")
	if len(elems) < 4 {
		return at, ".", true
	}
	return at, elems[3], true
}
