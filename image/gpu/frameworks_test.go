package gpu_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// A framework that makes GPU code at run time says what is missing for that.
func TestFrameworks(t *testing.T) {
	elf := elftest.Program("amd64", "")
	cuda := gputest.Library(elftest.Object{}, gputest.SASS("sm_80"), "libcuda.so.1")
	const site = "a-env/lib/python3.12/site-packages/"
	nvcc := func(names ...string) map[string][]byte {
		files := make(map[string][]byte)
		for _, name := range names {
			files["n-cuda12.8-cuda_nvcc-12.8.93/"+name] = elf
			if strings.HasSuffix(name, ".bc") {
				files["n-cuda12.8-cuda_nvcc-12.8.93/"+name] = []byte("BC\xc0\xde")
			}
		}
		return files
	}
	cc := map[string][]byte{"g-gcc-14.2.0/bin/x86_64-unknown-linux-gnu-gcc": elf}
	for _, test := range []struct {
		name  string
		files []map[string][]byte
		want  string // name: missing, missing; ...
	}{
		{"nothing", nil, ""},
		{"Triton", []map[string][]byte{{site + "triton/_C/libtriton.so": elf}}, "Triton: a C compiler (gcc or clang), ptxas (cuda_nvcc)"},
		{"Triton with all", []map[string][]byte{{site + "triton/_C/libtriton.so": elf}, nvcc("bin/ptxas"), cc}, "Triton 12.8:"},
		{"a wrapper is no compiler", []map[string][]byte{{site + "triton/_C/libtriton.so": elf, "g-w/bin/gcc": []byte("#!/bin/sh")}, nvcc("bin/ptxas")},
			"Triton 12.8: a C compiler (gcc or clang)"},
		{"torch.compile", []map[string][]byte{{site + "torch/lib/libtorch_cuda.so": cuda}, nvcc("bin/ptxas"), cc}, "torch.compile 12.8: Triton"},
		{"JAX", []map[string][]byte{{site + "jaxlib/xla_extension.so": elf}}, "JAX: JAX's CUDA plugin, ptxas (cuda_nvcc), nvlink (cuda_nvcc), libdevice.10.bc (cuda_nvcc)"},
		{"JAX with all", []map[string][]byte{{site + "jaxlib/libjax_common.so": elf, site + "jax_plugins/xla_cuda12/xla_cuda_plugin.so": cuda},
			nvcc("bin/ptxas", "bin/nvlink", "nvvm/libdevice/libdevice.10.bc")}, "JAX 12.8:"},
		{"TensorFlow", []map[string][]byte{{site + "tensorflow/libtensorflow_cc.so.2": cuda}, nvcc("bin/ptxas")},
			"TensorFlow 12.8: nvlink (cuda_nvcc), libdevice.10.bc (cuda_nvcc)"},
		{"Numba", []map[string][]byte{{site + "numba/_helperlib.cpython-312-x86_64-linux-gnu.so": elf}, nvcc("nvvm/lib64/libnvvm.so.4.0.0", "nvvm/libdevice/libdevice.10.bc")}, "Numba 12.8:"},
		{"CuPy", []map[string][]byte{{site + "cupy/_core/core.cpython-312-x86_64-linux-gnu.so": elf}}, "CuPy: libnvrtc.so (cuda_nvrtc)"},
	} {
		files := map[string][]byte{"z-x/lib/x.so": cuda}
		for _, m := range test.files {
			for name, data := range m {
				files[name] = data
			}
		}
		r := report(t, files)
		var words []string
		for _, f := range r.Frameworks {
			word := f.Name
			if !f.CUDA.IsZero() {
				word += " " + f.CUDA.String()
			}
			words = append(words, strings.TrimSpace(word+": "+strings.Join(f.Missing, ", ")))
			suspect := slices.ContainsFunc(r.Suspects, func(s gpu.Suspect) bool { return s.Kind == gpu.NotReady && s.Path == f.Path })
			if suspect != (len(f.Missing) > 0) {
				t.Errorf("%s: %+v", test.name, r.Suspects)
			}
		}
		if got := strings.Join(words, "; "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// What is linked or loaded by name says which parts of a driver a runtime must bring.
func TestInterfaces(t *testing.T) {
	linked := func(names ...string) []byte { return gputest.Library(elftest.Object{Needed: names}, nil) }
	named := func(names ...string) []byte { return gputest.Library(elftest.Object{}, nil, names...) }
	for _, test := range []struct {
		files map[string][]byte
		want  string // interfaces / capabilities
	}{
		{map[string][]byte{"a-x/lib/x.so": linked("libcuda.so.1", "libc.so.6")}, "/"},
		{map[string][]byte{"a-x/lib/x.so": named("libnvidia-ml.so.1")}, "/"},
		{map[string][]byte{"a-x/lib/x.so": named("libvulkan.so.1")}, "Vulkan/graphics"},
		{map[string][]byte{"a-x/lib/x.so": linked("libEGL.so.1")}, "EGL/graphics"},
		{map[string][]byte{"a-x/lib/x.so": linked("libGL.so.1")}, "OpenGL/display graphics"},
		{map[string][]byte{"a-x/lib/x.so": named("libnvoptix.so.1")}, "OptiX/graphics"},
		{map[string][]byte{"a-x/lib/libavcodec.so.61": named("libnvcuvid.so.1", "libnvidia-encode.so.1", "libcuda.so.1")}, "NVENC NVDEC/video"},
		{map[string][]byte{"a-x/lib/x.so": named("libnvoptix.so.1"), "b-y/lib/y.so": named("libnvcuvid.so.1")}, "OptiX NVDEC/graphics video"},
		{map[string][]byte{"a-x/lib/x.so": linked("libOpenCL.so.1")}, "OpenCL/"},
		{map[string][]byte{"a-x/lib/x.so": linked("libze_loader.so.1")}, "Level Zero/"},
		{map[string][]byte{"a-x/lib/libcupti.so.12": named("libEGL.so.1", "libGL.so.1")}, "/"},
		// Libraries of an interface load each other.
		{map[string][]byte{"a-x/lib/libGL.so.1.7.0": linked("libGLX.so.0"), "a-x/lib/libEGL.so.1": named("libGLX.so.0")}, "/"},
	} {
		r := report(t, test.files)
		var words []string
		for _, i := range r.Interfaces {
			words = append(words, i.Name)
		}
		if got := strings.Join(words, " ") + "/" + strings.Join(r.Capabilities(), " "); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		level := slices.ContainsFunc(r.Suspects, func(s gpu.Suspect) bool { return s.Kind == gpu.NoDriver })
		if level != r.Uses(gpu.LevelZero) {
			t.Errorf("%s: %+v", test.want, r.Suspects)
		}
	}
}
