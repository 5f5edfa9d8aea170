package gpu_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// zstdLib returns a library whose entries are compressed with zstd, but for the container that nvcc leaves.
func zstdLib(entries ...gputest.Entry) []byte {
	for i := range entries {
		entries[i].Zstd = true
	}
	empty := gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: entries[0].SM, Payload: gputest.EmptyCubin(entries[0].SM)})
	return gputest.Library(elftest.Object{}, slices.Concat(gputest.Fatbin(entries...), empty))
}

func needs(fatbin []byte, names ...string) []byte {
	return gputest.Library(elftest.Object{Needed: names}, fatbin)
}

// What is certain of current software decides, and what is later does not.
func TestRules(t *testing.T) {
	plain := gputest.Library(elftest.Object{}, nil)
	sass := func(targets ...string) []byte { return gputest.SASS(targets...) }
	cubin := func(sm uint32) gputest.Entry { return gputest.Entry{Kind: gputest.Cubin, SM: sm} }
	cudart := func(version string) map[string][]byte {
		return map[string][]byte{"b-y/lib/libcudart.so." + version: plain}
	}
	nvrtc := map[string][]byte{"b-y/lib/libnvrtc.so.13.0.48": plain, "b-y/lib/libcudart.so.13.0.48": plain}
	compat := map[string][]byte{
		"b-y/lib/libcudart.so.12.8.90":                            plain,
		"c-cuda_compat-12.8.39468522/compat/libcuda.so.570.86.15": gputest.Library(elftest.Object{Soname: "libcuda.so.1"}, nil),
	}
	for _, test := range []struct {
		name    string
		library []byte
		extra   map[string][]byte
		want    string // GPU/driver=outcome ...
	}{
		// PTX by the release that brings it.
		{"PTX 9.2", lib("ptx_80@92"), cudart("13.2.1"), "H100/595.58.03=jit H100/590.44.01=fails H100/R610=jit"},
		{"PTX 9.3", lib("ptx_80@93"), cudart("13.3.1"), "H100/610.43.02=jit H100/595.58.03=fails"},
		{"PTX 9.4", lib("ptx_80@94"), cudart("13.4.1"), "H100/615.71.09=jit H100/R615=jit H100/610.43.02=fails"},
		{"PTX 9.5", lib("ptx_80@95"), cudart("13.5.1"), "H100/615.71.09=fails H100/R620=unknown"},
		{"PTX of nobody knows what", lib("ptx_80@97"), cudart("13.7.1"), "H100/R625=unknown H100/R580=fails"},
		{"PTX 8.6", lib("ptx_80@86"), cudart("12.8.1"), "H100/565.57.01=jit H100/560.28.03=fails"},
		// The floor of a major version.
		{"CUDA 13.4", lib("sm_80 sm_90"), cudart("13.4.57"), "H100/550.54.14=fails H100/580.65.06=runs A100/R580=runs"},
		{"CUDA 13.9", lib("sm_80 sm_90"), cudart("13.9.1"), "H100/550.54.14=fails H100/580.65.06=runs"},
		{"CUDA 14", lib("sm_80 sm_90"), cudart("14.0.1"), "H100/550.54.14=fails H100/615.71.09=fails H100/R620=unknown"},
		{"CUDA 11, early driver", lib("sm_80"), cudart("11.2.1"), "A100/450.36.06=fails A100/R450=unknown A100/450.80.02=runs"},
		{"CUDA 12", lib("sm_80"), cudart("12.4.99"), "A100/R525=runs A100/R520=fails"},
		// Names of libraries, there or not.
		{"needs CUDA 13", needs(sass("sm_80"), "libcudart.so.13"), nil, "A100/450.80.02=fails A100/R580=runs"},
		{"needs cuBLAS of 12", needs(sass("sm_80"), "libcublas.so.12"), nil, "A100/450.80.02=fails A100/R525=runs"},
		{"needs cuFFT of 13", needs(sass("sm_80"), "libcufft.so.12"), nil, "A100/R570=fails A100/R580=runs"},
		{"needs cuRAND of any", needs(sass("sm_80"), "libcurand.so.10"), nil, "A100/R570=unknown A100/R580=runs"},
		// The last branch, and the last compiler.
		{"Volta", lib("sm_70"), cudart("12.4.99"), "V100/R580=runs V100/590.44.01=fails"},
		{"Kepler", lib("sm_37"), cudart("11.4.1"), "K80/R470=runs K80/R510=fails"},
		{"NVRTC 13 beside code", lib("sm_70 sm_75"), nvrtc, "V100/R580=unknown T4/R580=runs"},
		{"NVRTC 13 alone", plain, nvrtc, "V100/R580=fails T4/R580=unknown"},
		// Forward compatibility goes by product.
		{"cuda_compat", lib("sm_89"), compat, "L40S/520.61.05=runs L4/520.61.05=runs RTX_4090/520.61.05=fails sm_89/520.61.05=unknown"},
		// zstd.
		{"zstd", zstdLib(cubin(80)), cudart("12.8.90"), "A100/535.183.06=fails A100/550.54.14=runs A100/R550=runs"},
		{"zstd for another GPU", zstdLib(cubin(90), cubin(80)), cudart("12.8.90"), "H100/535.183.06=fails"},
		{"zstd beside PTX", gputest.Library(elftest.Object{}, gputest.Fatbin(
			gputest.Entry{Kind: gputest.Cubin, SM: 80, Zstd: true}, gputest.Entry{Kind: gputest.PTX, SM: 80, ISA: 80})), cudart("12.8.90"), "A100/535.183.06=unknown"},
		// Drivers and GPUs.
		{"Blackwell", lib("sm_100"), cudart("12.8.90"), "B200/570.86.10=fails B200/570.133.20=runs B200/R570=unknown sm_100/570.86.10=runs B200/R565=fails"},
		{"driver later than the tables", lib("sm_80"), cudart("12.4.99"), "A100/R700=unknown"},
		{"Rubin", lib("sm_100"), cudart("13.4.1"), "sm_107/R615=runs sm_107/R610=fails"},
		// GPUs later than the tables.
		{"later GPU, no code", lib("sm_90"), cudart("12.4.99"), "sm_130/=fails"},
		{"later GPU, PTX", lib("sm_90+ptx_90@80"), cudart("12.4.99"), "sm_130/=unknown sm_130/R615=unknown"},
		{"later GPU of a family", lib("sm_120"), cudart("12.8.90"), "sm_125/=unknown"},
		{"GPU of which little is known", lib("sm_86"), cudart("13.0.1"), "sm_88/=unknown"},
		{"GPU of which little is known, with a driver", lib("sm_88"), cudart("13.0.1"), "sm_88/R615=unknown sm_88/=runs"},
		{"CUDA whose driver is not known", lib("sm_80"), cudart("13.5.1"), "A100/R615=runs"},
	} {
		files := map[string][]byte{"a-x/lib/x.so": test.library}
		for name, data := range test.extra {
			files[name] = data
		}
		r := report(t, files)
		for word := range strings.FieldsSeq(test.want) {
			name, outcome, _ := strings.Cut(word, "=")
			name, driver, _ := strings.Cut(name, "/")
			d := &gpu.Demand{Targets: []*gpu.Target{target(t, name)}}
			if driver != "" {
				var err error
				if d.Driver, err = gpu.ParseDriver(driver); err != nil {
					t.Fatal(err)
				}
			}
			if v := r.Check(d); string(v.Outcome) != outcome {
				t.Errorf("%s: %s: got %s: %+v", test.name, word, v.Outcome, v.Targets[0].Reasons)
			}
		}
	}
}

// A driver of NVIDIA says nothing of code for AMD.
func TestDriverWithoutNVIDIA(t *testing.T) {
	r := report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("gfx90a"))})
	if v := r.Check(&gpu.Demand{Driver: "535.54.03"}); v.Outcome != gpu.Runs {
		t.Errorf("%+v", v.Targets)
	}
}

// A library of the toolkit that is not there is named.
func TestNotInTheClosure(t *testing.T) {
	r := report(t, map[string][]byte{"a-x/lib/x.so": needs(gputest.SASS("sm_80"), "libcudart.so.13", "libcuda.so.1", "libc.so.6")})
	if len(r.Suspects) == 0 || r.Suspects[0].Kind != gpu.NotInClosure || !strings.Contains(r.Suspects[0].Text, "libcudart.so.13") {
		t.Errorf("%+v", r.Suspects)
	}
	r = report(t, map[string][]byte{
		"a-x/lib/x.so":                needs(gputest.SASS("sm_80"), "libcudart.so.13"),
		"b-y/lib/libcudart.so.13.0.1": gputest.Library(elftest.Object{Soname: "libcudart.so.13"}, nil),
	})
	if slices.ContainsFunc(r.Suspects, func(s gpu.Suspect) bool { return s.Kind == gpu.NotInClosure }) {
		t.Errorf("%+v", r.Suspects)
	}
}

// What tools and shops print is understood, and what is nearly right leads to what is right.
func TestNamesThatPeopleType(t *testing.T) {
	for code, names := range map[string]string{
		"sm_37":   "K80|Tesla K80",
		"sm_52":   "Tesla M60",
		"sm_53":   "Jetson Nano",
		"sm_60":   "Tesla P100-PCIE-16GB",
		"sm_61":   "NVIDIA TITAN Xp|GeForce GTX 1080 Ti",
		"sm_70":   "Tesla V100|Tesla V100-SXM2-32GB|TITAN V|gpu:tesla_v100:2",
		"sm_72":   "Jetson AGX Xavier|Xavier NX",
		"sm_75":   "T4G|GRID T4-16Q|Tesla T4|TITAN RTX|GTX 1660|NVIDIA GeForce GTX 1660 Ti|Quadro RTX 8000|Quadro RTX 6000",
		"sm_80":   "NVIDIA A100-SXM4-80GB|a100_80gb|A800|NVIDIA A100 80GB PCIe|NVIDIA A100-SXM4-40GB MIG 1g.5gb|gpu:a100:4|gres/gpu:a100|A30",
		"sm_86":   "A10G|NVIDIA A40-48Q|RTX A6000|NVIDIA RTX A6000|A40|NVIDIA GeForce RTX 3080 Laptop GPU|RTX 3070Ti",
		"sm_87":   "Orin (nvgpu)|Jetson AGX Orin|Orin Nano|Jetson Orin Nano|Orin NX|NVIDIA Jetson AGX Orin Developer Kit",
		"sm_89":   "L20|L2|L40S|NVIDIA L4|RTX 6000 Ada|NVIDIA RTX 6000 Ada Generation|NVIDIA GeForce RTX 4090|RTX 4090 D|RTX 4070 Ti SUPER",
		"sm_90":   "NVIDIA GH200 144G HBM3e|NVIDIA H200 NVL|NVIDIA H100 80GB HBM3|H800|H20|H100NVL|NVIDIA H100 NVL|NVIDIA H100 PCIe|nvidia_h100_80gb_hbm3|NVIDIA GH200 480GB|H200|DGX H100",
		"sm_100":  "B100|NVIDIA B200|GB200 NVL72",
		"sm_107":  "Rubin|10.7",
		"sm_110":  "Jetson Thor|T5000|Jetson T5000",
		"sm_120":  "RTX PRO 6000 Blackwell|NVIDIA RTX PRO 6000 Blackwell Server Edition|NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition|RTX 5090",
		"sm_121":  "DGX Spark|NVIDIA GB10",
		"gfx906":  "Radeon VII|AMD Radeon VII",
		"gfx90a":  "AMD Instinct MI210|AMD INSTINCT MI250X (MCM) OAM AC MBA|MI250X",
		"gfx942":  "AMD Instinct MI300X|MI308X|AMD Instinct MI300X OAM|MI325X",
		"gfx950":  "MI355X",
		"gfx1100": "RX 7900 XTX|W7900|AMD Radeon PRO W7900|Radeon RX 7900 XTX",
		"gfx1201": "RX 9070 XT",

		"gfx11-generic": "gfx11-generic", "gfx9-4-generic": "GFX9-4-generic",
	} {
		for name := range strings.SplitSeq(names, "|") {
			if got, err := gpu.ParseTarget(name); err != nil || got.Code != code || got.Name != name {
				t.Errorf("%s: got %+v, %v, want %s", name, got, err, code)
			}
		}
	}
	for name, want := range map[string]string{
		"H100x": "H100", "RTX 4000": "QUADRORTX4000 or RTX4000ADA", "A1O0": "A100", "RTX 6000": "QUADRORTX6000 or RTX6000ADA", "MI300Y": "MI300",
	} {
		if _, err := gpu.ParseTarget(name); err == nil || !strings.Contains(err.Error(), "did you mean") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := gpu.ParseTarget("Voodoo"); err == nil || strings.Contains(err.Error(), "did you mean") {
		t.Errorf("Voodoo: %v", err)
	}
	r := report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("gfx11-generic"))})
	mustVerdicts(t, "generic", r, "gfx11-generic=runs gfx1100=runs gfx1201=fails gfx12-generic=fails")
	r = report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("gfx13-generic"))})
	mustVerdicts(t, "generic of the future", r, "gfx1300=unknown")
}

// loaded makes an application whose program loads a library with code for the A100, and has another with it.
func loaded(program, other []byte) map[string][]byte {
	return map[string][]byte{
		"a-app/bin/app":           program,
		"b-x/lib/libgood.so":      gputest.Library(elftest.Object{Soname: "libgood.so"}, gputest.SASS("sm_80", "sm_90")),
		"b-x/lib/libcublas.so.12": other,
	}
}

// A library that nothing loads does not fail an image, nor a profiler, nor what is left out on purpose.
func TestOneLibraryDoesNotDecideAlone(t *testing.T) {
	program := func(names []string, strings_ ...string) []byte {
		return gputest.Library(elftest.Object{Type: 2, Interp: "/nix/store/x/ld.so", Needed: names}, nil, strings_...)
	}
	old := gputest.Library(elftest.Object{Soname: "libcublas.so.12"}, gputest.SASS("sm_80"))
	for _, test := range []struct {
		name  string
		files map[string][]byte
		waive []string
		want  gpu.Outcome
		by    string
	}{
		{"linked", loaded(program([]string{"libgood.so", "libcublas.so.12"}), old), nil, gpu.WillFail, "/bin/app"},
		{"by name", loaded(program([]string{"libgood.so"}, "libcublas.so.12"), old), nil, gpu.WillFail, "/bin/app"},
		{"by nobody", loaded(program([]string{"libgood.so"}), old), nil, gpu.Unknown, ""},
		{"loading is not seen", loaded(program(nil), old), nil, gpu.WillFail, ""},
		{"left out", loaded(program([]string{"libgood.so", "libcublas.so.12"}), old), []string{"libcublas*"}, gpu.Runs, ""},
		{"another left out", loaded(program([]string{"libgood.so", "libcublas.so.12"}), old), []string{"libcufft*"}, gpu.WillFail, "/bin/app"},
		{"a profiler", map[string][]byte{
			"a-app/bin/app":          program([]string{"libcupti.so.12"}),
			"b-x/lib/libcupti.so.12": gputest.Library(elftest.Object{Soname: "libcupti.so.12"}, gputest.SASS("sm_80")),
		}, nil, gpu.Unknown, "/bin/app"},
	} {
		v := report(t, test.files).Check(&gpu.Demand{Targets: []*gpu.Target{target(t, "H100")}, Waive: test.waive})
		reasons := v.Targets[0].Reasons
		if v.Outcome != test.want || len(reasons) == 0 || !strings.HasSuffix(reasons[0].ReachedBy, test.by) || (test.by == "") != (reasons[0].ReachedBy == "") {
			t.Errorf("%s: got %s: %+v", test.name, v.Outcome, reasons)
		}
	}
}

// The kernels of one GPU for rocBLAS are many files of one folder.
func TestFoldersOfKernels(t *testing.T) {
	files := make(map[string][]byte)
	for i := range 3 {
		files[fmt.Sprintf("a-rocblas/lib/rocblas/library/Kernels_%d_gfx90a.co", i)] = gputest.Bundle("gfx90a")
		files[fmt.Sprintf("a-rocblas/lib/rocblas/library/Tensile_%d_gfx90a.hsaco", i)] = gputest.Bundle("gfx90a")
	}
	files["a-rocblas/lib/rocblas/library/Kernels.so-000-gfx942.hsaco"] = gputest.Bundle("gfx942")
	r := report(t, files)
	mustVerdicts(t, "without list", r, "MI250=runs MI300X=runs MI100=fails")
	if len(r.Libraries) != 1 {
		t.Errorf("%+v", r.Libraries)
	}
	// What is looked for is what the list of a GPU names: without one, the GPU is not served.
	files["a-rocblas/lib/rocblas/library/TensileLibrary_lazy_gfx90a.dat"] = []byte("list")
	mustVerdicts(t, "with a list", report(t, files), "MI250=runs MI300X=fails MI100=fails")
	files["a-rocblas/lib/rocblas/library/TensileLibrary_lazy_gfx942.dat"] = []byte("list")
	mustVerdicts(t, "with two lists", report(t, files), "MI250=runs MI300X=runs MI100=fails")
	files["a-rocblas/lib/rocblas/library/TensileLibrary_lazy_gfx908.dat"] = []byte("list")
	mustVerdicts(t, "a list without kernels", report(t, files), "MI100=fails")
}
