package gpu

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// Framework is software that makes GPU code at run time, and needs other programs and files for that.
type Framework struct {
	Name string `json:"name"` // "Triton", "torch.compile", "JAX", "TensorFlow", "Numba", "CuPy"
	Path string `json:"path"` // of a file of it in the image
	// Missing is what it needs and the image does not have. Nothing is missing if it is ready.
	Missing []string `json:"missing"`
	// CUDA is the version of the compiler that it uses, if that is known.
	CUDA Version `json:"cuda,omitzero"`
}

// cCompiler is the name of a program that compiles C.
var cCompiler = regexp.MustCompile(`^(?:.+-)?(?:gcc|cc|clang)(?:-[0-9.]+)?$`)

// tool is something that a framework needs.
type tool struct {
	name  string // as it is called when it is missing
	found func(p *placed) bool
}

func byBase(match func(base string) bool) func(*placed) bool {
	return func(p *placed) bool { return match(path.Base(p.path)) }
}

func library(prefix string) func(*placed) bool {
	return byBase(func(base string) bool { return strings.HasPrefix(base, prefix) })
}

func program(name string) func(*placed) bool {
	return func(p *placed) bool { return p.Format == ELF && path.Base(p.path) == name }
}

var (
	toolC = tool{"a C compiler (gcc or clang)", func(p *placed) bool {
		return p.Format == ELF && path.Base(p.dir()) == "bin" && cCompiler.MatchString(path.Base(p.path))
	}}
	toolPtxas     = tool{"ptxas (cuda_nvcc)", program("ptxas")}
	toolNvlink    = tool{"nvlink (cuda_nvcc)", program("nvlink")}
	toolLibdevice = tool{"libdevice.10.bc (cuda_nvcc)", func(p *placed) bool { return p.Format == Libdevice }}
	toolNVVM      = tool{"libnvvm.so (cuda_nvcc)", library("libnvvm.so")}
	toolNVRTC     = tool{"libnvrtc.so (cuda_nvrtc)", library("libnvrtc.so")}
	toolTriton    = tool{"Triton", library("libtriton.so")}
	toolJAX       = tool{"JAX's CUDA plugin", func(p *placed) bool {
		return path.Base(p.path) == "xla_cuda_plugin.so" || jaxlib(p) && usesCUDA(p)
	}}
	toolTF = tool{"TensorFlow's support for CUDA", func(p *placed) bool { return tensorflow(p) && usesCUDA(p) }}
)

func jaxlib(p *placed) bool {
	return p.Format == ELF && path.Base(p.dir()) == "jaxlib"
}

func tensorflow(p *placed) bool {
	base := path.Base(p.path)
	return p.Format == ELF && (strings.HasPrefix(base, "libtensorflow_cc.so") || strings.HasPrefix(base, "libtensorflow_framework.so") ||
		base == "_pywrap_tensorflow_internal.so")
}

// usesCUDA reports whether a file has GPU code, or loads CUDA.
func usesCUDA(p *placed) bool {
	return len(p.Code) > 0 || slices.ContainsFunc(slices.Concat(p.Needed, p.Names), func(name string) bool { return strings.HasPrefix(name, "libcuda") })
}

// frameworks says by which files each is known, and what it needs:
// by the sources of Triton, XLA, Numba and CuPy.
var frameworks = []struct {
	name  string
	found func(p *placed) bool
	needs []tool
}{
	{"Triton", func(p *placed) bool { return p.Format == ELF && strings.HasPrefix(path.Base(p.path), "libtriton.so") }, []tool{toolC, toolPtxas}},
	{"torch.compile", func(p *placed) bool { return p.Format == ELF && path.Base(p.path) == "libtorch_cuda.so" }, []tool{toolTriton, toolC, toolPtxas}},
	{"JAX", jaxlib, []tool{toolJAX, toolPtxas, toolNvlink, toolLibdevice}},
	{"TensorFlow", tensorflow, []tool{toolTF, toolPtxas, toolNvlink, toolLibdevice}},
	{"Numba", func(p *placed) bool {
		return p.Format == ELF && path.Base(p.dir()) == "numba" && strings.HasPrefix(path.Base(p.path), "_helperlib")
	}, []tool{toolNVVM, toolLibdevice}},
	{"CuPy", func(p *placed) bool {
		return p.Format == ELF && path.Base(p.dir()) == "_core" && path.Base(path.Dir(p.dir())) == "cupy"
	}, []tool{toolNVRTC}},
}

// findFrameworks says of each framework whether it is ready to make GPU code.
func (r *Report) findFrameworks() {
	for _, f := range frameworks {
		p := r.first(f.found)
		if p == nil {
			continue
		}
		found := Framework{Name: f.name, Path: p.path, Missing: []string{}}
		for _, t := range f.needs {
			q := r.first(t.found)
			if q == nil {
				found.Missing = append(found.Missing, t.name)
			} else if v, ok := cudaOfStore(q.at); ok {
				found.CUDA = v
			}
		}
		r.Frameworks = append(r.Frameworks, found)
	}
}

// first returns the first file that a function likes, or nil.
func (r *Report) first(likes func(p *placed) bool) *placed {
	for i := range r.files {
		if likes(&r.files[i]) {
			return &r.files[i]
		}
	}
	return nil
}

// Framework returns what is known of a framework, or nil if it is not there.
func (r *Report) Framework(name string) *Framework {
	for i := range r.Frameworks {
		if r.Frameworks[i].Name == name {
			return &r.Frameworks[i]
		}
	}
	return nil
}
