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
	seen := make(map[Version]CUDAVersion)
	order := []Evidence{FromFile, FromStore, FromName}
	note := func(c CUDAVersion) {
		old, ok := seen[c.Version]
		if !ok || slices.Index(order, c.From) < slices.Index(order, old.From) || c.From == old.From && c.Path < old.Path {
			seen[c.Version] = c
		}
	}
	for i := range r.files {
		p := &r.files[i]
		if v, from, ok := cudaOfFile(p.File); ok {
			note(CUDAVersion{v, from, p.path})
		}
		if v, ok := cudaOfStore(p.at); ok {
			note(CUDAVersion{v, FromStore, p.at})
		}
	}
	// The names of what is loaded have little to say where there is the file itself.
	newest := Version{}
	best := make(map[int]bool)
	for v, c := range seen {
		if c.From != FromName {
			best[v.Major] = true
		}
	}
	for v, c := range seen {
		if c.From == FromName && best[v.Major] {
			delete(seen, v)
			continue
		}
		newest = later(newest, v)
	}
	// Libraries have PTX of several versions: only the newest says something, and only if nothing else is as new.
	for _, l := range r.Libraries {
		for _, c := range l.Code {
			if v := toolkit(c.ISA); !c.ISA.IsZero() && v.Compare(newest) > 0 {
				newest = v
				maps.DeleteFunc(seen, func(_ Version, c CUDAVersion) bool { return c.From == FromPTX })
				note(CUDAVersion{v, FromPTX, l.Path})
			}
		}
	}
	r.CUDA = slices.AppendSeq(r.CUDA, maps.Values(seen))
	slices.SortFunc(r.CUDA, func(a, b CUDAVersion) int { return a.Version.Compare(b.Version) })
	if len(r.CUDA) > 0 {
		r.Driver.Native, r.Driver.Minimum = drivers(r.CUDA[len(r.CUDA)-1].Version)
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
