package gpu

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// findNeeds lists the libraries that are loaded, linked or by name.
func (r *Report) findNeeds() {
	needs := make(map[string]*Need)
	need := func(name string) *Need {
		n := needs[name]
		if n == nil {
			n = &Need{Library: name, Driver: isDriver(name)}
			needs[name] = n
		}
		return n
	}
	for i := range r.files {
		p := &r.files[i]
		for _, name := range p.Needed {
			if isGPULibrary([]byte(name)) {
				n := need(name)
				n.Linked = append(n.Linked, p.path)
			}
		}
		for _, name := range p.Names {
			n := need(name)
			n.Named = append(n.Named, p.path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		r.Needs = append(r.Needs, *needs[name])
	}
}

// findVersions looks for what says with which CUDA things were made.
func (r *Report) findVersions() {
	v := versions{r: r, seen: make(map[Version]CUDAVersion)}
	for i := range r.files {
		v.file(&r.files[i])
	}
	v.dropVague()
	v.ptx()
	r.CUDA = slices.AppendSeq(r.CUDA, maps.Values(v.seen))
	slices.SortFunc(r.CUDA, func(a, b CUDAVersion) int { return a.Version.Compare(b.Version) })
	if len(r.CUDA) > 0 {
		newest := r.CUDA[len(r.CUDA)-1].Version
		r.Driver.Minimum = r.tables.floor(newest.Major)
		if row := r.tables.release(newest); row != nil {
			r.Driver.Native = row.native
		}
	}
	for i := range r.files {
		p := &r.files[i]
		if r.isCompat(p) {
			if v, ok := strings.CutPrefix(path.Base(p.path), "libcuda.so."); ok && driverVersion.MatchString(v) {
				if r.Driver.Compat == "" || Driver(v).Compare(r.Driver.Compat) > 0 {
					r.Driver.Compat = Driver(v)
				}
			}
		}
	}
}

// versions collects what versions of CUDA there is evidence for.
type versions struct {
	r    *Report
	seen map[Version]CUDAVersion
}

// note keeps the best evidence for a version.
func (v *versions) note(c CUDAVersion) {
	order := []Evidence{FromFile, FromStore, FromName, FromNeed}
	old, ok := v.seen[c.Version]
	if !ok || slices.Index(order, c.From) < slices.Index(order, old.From) || c.From == old.From && c.Path < old.Path {
		v.seen[c.Version] = c
	}
}

func (v *versions) file(p *placed) {
	if c, from, ok := cudaOfFile(p.File); ok {
		v.note(CUDAVersion{c, from, p.path})
	} else if major, _ := v.r.tables.sonameMajor(p.Soname); major > 0 {
		v.note(CUDAVersion{Version{Major: major}, FromName, p.path})
	}
	if c, ok := cudaOfStore(p.at); ok {
		v.note(CUDAVersion{c, FromStore, p.at})
	}
	for _, name := range p.Needed {
		if major, _ := v.r.tables.sonameMajor(name); major > 0 {
			v.note(CUDAVersion{Version{Major: major}, FromNeed, p.path})
		}
	}
}

// dropVague forgets the names of what is loaded where there is something better of the same major version.
func (v *versions) dropVague() {
	best := make(map[int]bool)
	for c, e := range v.seen {
		best[c.Major] = best[c.Major] || !e.vague()
	}
	maps.DeleteFunc(v.seen, func(c Version, e CUDAVersion) bool { return e.vague() && best[c.Major] })
}

// vague reports whether no more than the major version is certain.
func (c CUDAVersion) vague() bool { return c.From == FromName || c.From == FromNeed }

// ptx takes the newest PTX for evidence, if nothing else is as new: libraries have PTX of several versions.
func (v *versions) ptx() {
	newest := Version{}
	for c := range v.seen {
		newest = later(newest, c)
	}
	for _, l := range v.r.Libraries {
		for _, c := range l.Code {
			if is := v.r.tables.toolkit(c.ISA); !c.ISA.IsZero() && is.Compare(newest) > 0 {
				newest = is
				maps.DeleteFunc(v.seen, func(_ Version, c CUDAVersion) bool { return c.From == FromPTX })
				v.note(CUDAVersion{is, FromPTX, l.Path})
			}
		}
	}
}

// isCompat reports whether a file is of a driver, but may be shipped.
func (r *Report) isCompat(p *placed) bool {
	return isCompat(p.at) || slices.Contains(p.Marks, MarkCompat) || strings.HasSuffix(p.dir(), "/compat")
}

// compilers are the names of files that compile, or hide, GPU code.
var compilers = []struct{ prefix, name string }{
	{"libnvrtc.so", "NVRTC"},
	{"libnvJitLink.so", "nvJitLink"},
	{"libtriton.so", "Triton"},
	{"ptxas", "ptxas"},
	{"libnvinfer.so", "TensorRT"},
	{"libcudnn_engines_runtime_compiled.so", "cuDNN"},
	{"libhiprtc.so", "hipRTC"},
	{"xla_extension.so", "XLA"},
}

func (r *Report) findCompilers() {
	for i := range r.files {
		p := &r.files[i]
		if p.Format != ELF {
			continue
		}
		for _, c := range compilers {
			base := path.Base(p.path)
			if base != c.prefix && !strings.HasPrefix(base, c.prefix+".") {
				continue
			}
			found := Compiler{Name: c.name, Path: p.path}
			if v, ok := cudaOfStore(p.at); ok {
				found.CUDA = v
			} else if rest := strings.TrimPrefix(base, c.prefix+"."); c.name == "NVRTC" {
				if v, ok := parseVersion(rest); ok && (v.Major < 12 || strings.Count(rest, ".") == 2) {
					found.CUDA = v
				}
			}
			r.Compilers = append(r.Compilers, found)
			break
		}
	}
}

func (r *Report) findUse() {
	r.Use = UseNone
	for _, n := range r.Needs {
		if n.Driver {
			r.Use = UseOptional
		}
	}
	linked := func(n Need) bool { return n.Driver && len(n.Linked) > 0 }
	runtime := func(p placed) bool {
		base := path.Base(p.path)
		return p.Format == ELF && (strings.HasPrefix(base, "libcudart.so") || strings.HasPrefix(base, "libamdhip64.so"))
	}
	if len(r.Libraries) > 0 || len(r.CUDA) > 0 || slices.ContainsFunc(r.Needs, linked) || slices.ContainsFunc(r.files, runtime) {
		r.Use = UseGPU
	}
}
