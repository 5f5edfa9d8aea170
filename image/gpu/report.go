package gpu

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Tree is a tree in an image.
type Tree struct {
	At    string // absolute path in the image: a store path, or "/" for all of it
	Facts *Facts
}

// Report says what the trees of an image need of a GPU and its driver.
type Report struct {
	// Arch is the CPU architecture of most programs and libraries, Go's name, or "" if there are none.
	Arch string `json:"architecture,omitzero"`
	// Use says whether a driver is needed.
	Use Use `json:"use"`
	// Libraries are the files with GPU code, by path.
	// Files beside each other that have nothing else in them count as one.
	Libraries []Library `json:"libraries"`
	// Needs are the libraries of drivers and GPU toolkits that are loaded, by name.
	Needs []Need `json:"needs"`
	// Lookups say how the libraries of NVIDIA's driver would be found.
	Lookups []Lookup `json:"lookups"`
	// CUDA are the versions of CUDA that there is evidence for, by version, the best evidence of each.
	CUDA []CUDAVersion `json:"cuda"`
	// Driver is the NVIDIA driver that is needed.
	Driver DriverNeeds `json:"driver"`
	// Compilers compile GPU code at run time, so that what will run cannot be seen.
	Compilers []Compiler `json:"compilers"`
	// Interfaces are ways to use a GPU beside CUDA and ROCm that something in the image goes.
	Interfaces []Interface `json:"interfaces"`
	// Frameworks make GPU code at run time, if they have what they need for it.
	Frameworks []Framework `json:"frameworks"`
	// Loose are files with GPU code outside of programs and libraries, or with the names of such.
	Loose []Loose `json:"loose"`
	// Glibc is the newest version of glibc that a file needs, and Path of that file.
	Glibc *GlibcNeed `json:"glibc,omitempty"`
	// Suspects are what is likely to be wrong.
	Suspects []Suspect `json:"suspects"`
	// Tables says up to what the world is known that verdicts are about.
	Tables Tables `json:"tables"`

	tables *tables
	files  []placed
	byPath map[string]*placed
	byName map[string][]*placed // by names under which the loader looks for them
	links  map[string]string    // absolute path to target
	inDirs map[string]bool      // absolute paths of libraries and their links
	// reached has the program or extension module by which a file is loaded.
	reached map[string]string
	fhs     bool // programs have the loader of an ordinary distribution
}

// Tables are the newest things that this package knows. What is newer is judged by what is certain about it.
type Tables struct {
	Date   string  `json:"date"`   // of the last look at the sources, as 2006-01-02
	CUDA   Version `json:"cuda"`   // release of the toolkit
	Driver Driver  `json:"driver"` // branch of NVIDIA's driver
}

// Use says whether a driver is needed.
type Use string

// Uses of a driver.
const (
	UseNone     Use = "none"     // nothing has to do with a GPU
	UseOptional Use = "optional" // some library uses a driver if there is one, as those for videos do
	UseGPU      Use = "gpu"      // there is GPU code, or a run-time library for it
)

// Library is a file with GPU code.
type Library struct {
	Path       string `json:"path"` // in the image; of loose files that count as one, with a * for the names
	Code       []Code `json:"code"`
	Containers int    `json:"containers"` // in the whole file
	// StaticRuntime: the CUDA run-time library is linked in, so that its version cannot be seen.
	StaticRuntime bool   `json:"staticRuntime,omitzero"`
	Marks         []Mark `json:"marks,omitempty"`

	containers []Container
	// lists are the AMD targets that the loader of the kernels looks for, if it is told: see [Tensile].
	lists []string
}

// Coverage says how the containers of a library serve a GPU.
func (l *Library) Coverage(t *Target) Coverage {
	var c Coverage
	for i := range l.containers {
		if l.containers[i].Empty {
			c.Empty += l.containers[i].Count
			continue
		}
		switch l.containerServes(t, &l.containers[i]) {
		case native:
			c.Native += l.containers[i].Count
		case jit:
			c.JIT += l.containers[i].Count
		case perhaps:
			c.Maybe += l.containers[i].Count
		default:
			c.None += l.containers[i].Count
		}
	}
	return c
}

// packed counts the rows of code for a GPU, or for all, and those of which every entry is compressed with zstd.
// Containers without code, which nvcc leaves, do not count: they are too small to be compressed.
func (l *Library) packed(t *Target) (packed, all int) {
	for row := range l.Code {
		c := &l.Code[row]
		if c.Kind == HIP || t != nil && t.serves(c) < jit {
			continue
		}
		with := 0
		for i := range l.containers {
			if !l.containers[i].Empty && slices.Contains(l.containers[i].Code, row) {
				with += l.containers[i].Count
			}
		}
		if with == 0 {
			continue
		}
		all++
		if c.Zstd >= with {
			packed++
		}
	}
	return packed, all
}

func (l *Library) containerServes(t *Target, c *Container) serves {
	best := no
	if t.amd() && l.lists != nil && !slices.Contains(l.lists, t.Code) {
		return no
	}
	for _, row := range c.Code {
		best = max(best, t.serves(&l.Code[row]))
	}
	return best
}

// has reports whether a library has code of a vendor.
func (l *Library) has(amd bool) bool {
	return slices.ContainsFunc(l.containers, func(c Container) bool {
		return !c.Empty && slices.ContainsFunc(c.Code, func(row int) bool { return (l.Code[row].Kind == HIP) == amd })
	})
}

// Need is a library that files load.
type Need struct {
	Library string   `json:"library"` // libcuda.so.1
	Driver  bool     `json:"driver"`  // comes with the driver, and so from the host
	Linked  []string `json:"linked"`  // paths of files that cannot start without it (DT_NEEDED)
	Named   []string `json:"named"`   // paths of files that have its name in their data, to load it with dlopen
}

// DriverNeeds is what is known about the driver that is needed. Fields are empty if nothing is.
type DriverNeeds struct {
	// Native is the first driver that knows all of the newest CUDA that was used. PTX needs it.
	Native Driver `json:"native,omitzero"`
	// Minimum is the first that runs code for the very GPU, without PTX: NVIDIA's minor version compatibility.
	Minimum Driver `json:"minimum,omitzero"`
	// Compat is the driver whose libraries cuda_compat in the image has. On GPUs of data centres,
	// and Jetsons, they can take the place of those of an older host.
	Compat Driver `json:"compat,omitzero"`
}

// Compiler is something that compiles GPU code at run time, or that hides code.
type Compiler struct {
	Name string `json:"name"` // "NVRTC", "Triton", ...
	Path string `json:"path"` // in the image
	// CUDA is its version, if known. It can make code for the GPUs that this version knows.
	CUDA Version `json:"cuda,omitzero"`
}

// Loose is a file with GPU code outside of programs and libraries.
type Loose struct {
	Path   string `json:"path"`
	Format Format `json:"format"`
}

// GlibcNeed says which version of glibc a file needs.
type GlibcNeed struct {
	Version Version `json:"version"`
	Path    string  `json:"path"`
}

// placed is a file in the image.
type placed struct {
	*File
	path  string // absolute
	at    string // the store path that it lies in, or ""
	needs []*placed
	// loaders are the files that need this one, directly.
	loaders []*placed
}

func (p *placed) dir() string { return path.Dir(p.path) }

// New makes a report of an image that consists of these trees.
func New(trees []Tree) *Report { return builtin.report(trees) }

func (t *tables) report(trees []Tree) *Report {
	cuda, branch := t.end()
	r := &Report{ // lists are [] in JSON, not null
		Tables: Tables{Date: t.date, CUDA: cuda, Driver: Driver(strconv.Itoa(branch))}, tables: t,
		Libraries: []Library{}, Needs: []Need{}, Lookups: []Lookup{}, CUDA: []CUDAVersion{},
		Compilers: []Compiler{}, Interfaces: []Interface{}, Frameworks: []Framework{}, Loose: []Loose{}, Suspects: []Suspect{},
		byPath: make(map[string]*placed), byName: make(map[string][]*placed),
		links: make(map[string]string), inDirs: make(map[string]bool),
	}
	for _, t := range trees {
		if t.Facts == nil {
			continue
		}
		for i := range t.Facts.Files {
			f := &t.Facts.Files[i]
			abs := path.Join(t.At, f.Path)
			r.files = append(r.files, placed{File: f, path: abs, at: storePath(abs)})
		}
		for _, l := range t.Facts.Links {
			abs := path.Join(t.At, l.Path)
			r.links[abs] = l.Target
			r.inDirs[abs] = true
		}
	}
	slices.SortStableFunc(r.files, func(a, b placed) int { return cmp.Compare(a.path, b.path) })
	for i := range r.files {
		p := &r.files[i]
		r.byPath[p.path] = p
		if p.Format == ELF {
			r.inDirs[p.path] = true
			r.byName[path.Base(p.path)] = append(r.byName[path.Base(p.path)], p)
			if p.Soname != "" && p.Soname != path.Base(p.path) {
				r.byName[p.Soname] = append(r.byName[p.Soname], p)
			}
		}
	}
	r.findArch()
	r.findLibraries()
	r.findLoose()
	r.findNeeds()
	r.findVersions()
	r.findCompilers()
	r.findInterfaces()
	r.findFrameworks()
	r.findUse()
	r.resolve()
	r.findReach()
	r.findLookups()
	r.findSuspects()
	return r
}

func (r *Report) findArch() {
	counts := make(map[string]int)
	nix, fhs := 0, 0
	for i := range r.files {
		p := &r.files[i]
		if p.Format != ELF {
			continue
		}
		counts[p.Arch]++
		if strings.HasPrefix(p.Interp, "/lib") {
			fhs++
		} else if p.Interp != "" {
			nix++
		}
		if r.Glibc == nil || p.Glibc.Compare(r.Glibc.Version) > 0 {
			if !p.Glibc.IsZero() {
				r.Glibc = &GlibcNeed{p.Glibc, p.path}
			}
		}
	}
	for _, arch := range slices.Sorted(maps.Keys(counts)) {
		if r.Arch == "" || counts[arch] > counts[r.Arch] {
			r.Arch = arch
		}
	}
	r.fhs = fhs > nix
}

func (r *Report) findLibraries() {
	for i := range r.files {
		p := &r.files[i]
		if p.Format == ELF && (len(p.Code) > 0 || slices.ContainsFunc(p.Marks, hidesCode)) {
			r.Libraries = append(r.Libraries, Library{
				Path: p.path, Code: append([]Code{}, p.Code...), Marks: p.Marks, containers: p.Containers, Containers: total(p.Containers),
				StaticRuntime: slices.Contains(p.Marks, MarkWrapper) && slices.Contains(p.Names, "libcuda.so.1") &&
					!slices.ContainsFunc(p.Needed, func(s string) bool { return strings.HasPrefix(s, "libcudart.so") }),
			})
		}
	}
}

// hidesCode reports whether there is code behind a mark that cannot be seen.
func hidesCode(m Mark) bool {
	return m == MarkOffloading || m == MarkUnknown || m == MarkUnreadable || m == MarkConfusing
}

func total(containers []Container) (n int) {
	for _, c := range containers {
		n += c.Count
	}
	return n
}

// findLoose notes loose files, and takes those of a directory for a library: for CUDA those that have one ending,
// for AMD all. There is one for each kernel and GPU, and it does no harm that a single one serves none but its own.
func (r *Report) findLoose() {
	groups := make(map[string]*Library)
	lists := make(map[string][]string)
	for i := range r.files {
		p := &r.files[i]
		switch p.Format {
		case ELF, Other, Libdevice:
			continue
		case Tensile:
			lists[p.dir()] = append(lists[p.dir()], tensileList.FindStringSubmatch(path.Base(p.path))[1])
			continue
		}
		r.Loose = append(r.Loose, Loose{p.path, p.Format})
		if len(p.Code) == 0 {
			continue
		}
		name := p.dir() + "/*" + path.Ext(p.path)
		key := name
		if p.Code[0].Kind == HIP {
			key = p.dir()
		}
		l := groups[key]
		if l == nil {
			l = &Library{Path: name}
			groups[key] = l
		}
		if l.Path != name {
			l.Path = p.dir() + "/*"
		}
		l.merge(p.File)
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		groups[key].lists = lists[key]
		r.Libraries = append(r.Libraries, *groups[key])
	}
	slices.SortStableFunc(r.Libraries, func(a, b Library) int { return cmp.Compare(a.Path, b.Path) })
}

// merge adds the code of a file.
func (l *Library) merge(f *File) {
	rows := make([]int, len(f.Code))
	for i, c := range f.Code {
		k := slices.IndexFunc(l.Code, func(o Code) bool { return o.Kind == c.Kind && o.Target == c.Target })
		if k < 0 {
			k = len(l.Code)
			l.Code = append(l.Code, Code{Kind: c.Kind, Target: c.Target})
		}
		row := &l.Code[k]
		row.ISA, row.Sections, row.File, row.Zstd = later(row.ISA, c.ISA), row.Sections+c.Sections, row.File+c.File, row.Zstd+c.Zstd
		rows[i] = k
	}
	for _, c := range f.Containers {
		moved := Container{Count: c.Count, Empty: c.Empty}
		for _, i := range c.Code {
			moved.Code = append(moved.Code, rows[i])
		}
		l.containers = append(l.containers, moved)
	}
	l.Containers = total(l.containers)
}
