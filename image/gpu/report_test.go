package gpu_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// store is where store paths of tests begin; a letter and a name follow.
const store = "/nix/store/0000000000000000000000000000000"

// report makes a report of store paths with files: keys are like "a-cuda-11.8/lib/libx.so".
func report(t *testing.T, files map[string][]byte) *gpu.Report {
	t.Helper()
	paths := make(map[string]fstest.MapFS)
	for name, data := range files {
		base, rest, _ := strings.Cut(name, "/")
		if paths[base] == nil {
			paths[base] = make(fstest.MapFS)
		}
		paths[base][rest] = &fstest.MapFile{Data: data}
	}
	var trees []gpu.Tree
	for _, base := range slices.Sorted(maps.Keys(paths)) {
		trees = append(trees, gpu.Tree{At: store + base, Facts: inspect(t, paths[base])})
	}
	return gpu.New(trees)
}

func target(t *testing.T, name string) *gpu.Target {
	t.Helper()
	target, err := gpu.ParseTarget(name)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestParseTarget(t *testing.T) {
	for code, names := range map[string]string{
		"sm_61":   "P40,gtx 1080 Ti",
		"sm_70":   "V100,7.0,sm_70,sm70,compute_70,70",
		"sm_75":   "T4,RTX 2080 Ti",
		"sm_80":   "A100,a30,8.0",
		"sm_86":   "A40,RTX 3090",
		"sm_87":   "Orin",
		"sm_89":   "L40S,l4,RTX 4090",
		"sm_90":   "H100,H200,GH200,sm_90a",
		"sm_100":  "B200,10.0,sm_100f",
		"sm_103":  "B300",
		"sm_110":  "Thor,10.1,sm_101",
		"sm_120":  "RTX 5090,RTX PRO 6000,12.0",
		"sm_121":  "GB10",
		"gfx90a":  "MI250X,gfx90a,GFX90A",
		"gfx942":  "MI300X,mi300a",
		"gfx1100": "RDNA3,gfx1100",
	} {
		for name := range strings.SplitSeq(names, ",") {
			if got, err := gpu.ParseTarget(name); err != nil || got.Code != code || got.Name != name {
				t.Errorf("%s: got %+v, %v, want %s", name, got, err, code)
			}
		}
	}
	for _, name := range []string{"", "A1000", "sm_", "sm_81", "8", "9.9", "gfx", "gfx12345", "RTX 4000", "H100x", "sm_90b", "-1.0"} {
		if got, err := gpu.ParseTarget(name); err == nil {
			t.Errorf("%q: got %+v", name, got)
		}
	}
	for name, arch := range map[string]string{"Orin": "arm64", "GH200": "arm64", "GB10": "arm64", "sm_87": "arm64", "A100": "", "sm_90": ""} {
		if got := target(t, name).Arch; got != arch {
			t.Errorf("%s comes with %q, want %q", name, got, arch)
		}
	}
}

func TestParseDriver(t *testing.T) {
	sorted := []gpu.Driver{"450.36.06", "450.80.02", "460.27", "535.54.03", "535.104.05", "580.65.06"}
	for i, d := range sorted {
		if got, err := gpu.ParseDriver(string(d)); err != nil || got != d {
			t.Errorf("%s: got %s, %v", d, got, err)
		}
		for j, o := range sorted {
			if got := d.Compare(o); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s compared with %s: %d", d, o, got)
			}
		}
	}
	for s, want := range map[string]gpu.Driver{"535": "535", "R550": "550", "r580": "580"} {
		if got, err := gpu.ParseDriver(s); err != nil || got != want || got.String() != "R"+string(want) {
			t.Errorf("%q: got %q, %v", s, string(got), err)
		}
	}
	for _, s := range []string{"", "R", "R12", "53", "535.", "12.4", "535.54.03.1", "535.54.x", "-535.54"} {
		if got, err := gpu.ParseDriver(s); err == nil {
			t.Errorf("%q: got %s", s, got)
		}
	}
}

// lib returns a library with the containers that the words say: "sm_80+ptx_90@78 sm_86" are two.
func lib(words string, strings_ ...string) []byte {
	var fatbin []byte
	for word := range strings.FieldsSeq(words) {
		var entries []gputest.Entry
		for name := range strings.SplitSeq(word, "+") {
			var e gputest.Entry
			var kind string
			name, isa, _ := strings.Cut(name, "@")
			kind, number, _ := strings.Cut(name, "_")
			e.Specific = strings.HasSuffix(number, "a")
			fmt.Sscan(strings.TrimSuffix(number, "a"), &e.SM)
			e.Kind = map[string]uint16{"sm": gputest.Cubin, "ptx": gputest.PTX, "lto": gputest.LTO}[kind]
			e.ISA = 78
			if isa != "" {
				fmt.Sscan(isa, &e.ISA)
			}
			entries = append(entries, e)
		}
		fatbin = append(fatbin, gputest.Fatbin(entries...)...)
	}
	return gputest.Library(elftest.Object{}, fatbin, strings_...)
}

func hipLib(bundles ...[]byte) []byte {
	o := elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".hip_fatbin", Flags: 2, Align: 4096, Data: gputest.At4096(bundles...)}}}
	return o.Bytes()
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		library string
		want    string // GPU=outcome ...
	}{
		{"sm_80", "A100=runs A40=runs L40=runs V100=fails H100=fails T4=fails"},
		{"sm_86", "A100=fails A40=runs L40=runs"},
		{"sm_80+ptx_80", "V100=fails A100=runs H100=jit B200=jit sm_120=jit"},
		{"sm_70+ptx_90", "V100=runs A100=fails H100=jit"},
		{"ptx_80", "A100=jit H100=jit V100=fails Orin=fails"}, // Orin: the program is for amd64
		{"lto_80", "A100=jit H100=jit V100=fails"},
		// By container, not by union.
		{"sm_80 sm_90", "A100=runs H100=runs V100=fails"},
		{"sm_80 ptx_80 sm_70", "A100=runs H100=jit V100=runs"},
		// Architecture-specific code.
		{"sm_90a", "H100=runs B200=fails sm_120=fails"},
		{"ptx_90a", "H100=jit B200=fails"},
		{"sm_100a", "B200=runs B300=fails"},
		{"sm_100", "B200=runs B300=runs sm_120=fails"},
		{"sm_120", "sm_120=runs sm_121=runs B200=fails"},
	} {
		r := report(t, map[string][]byte{"a-x/lib/x.so": lib(test.library)})
		mustVerdicts(t, test.library, r, test.want)
	}
}

func mustVerdicts(t *testing.T, name string, r *gpu.Report, want string) {
	t.Helper()
	for word := range strings.FieldsSeq(want) {
		g, outcome, _ := strings.Cut(word, "=")
		v := r.Check(&gpu.Demand{Targets: []*gpu.Target{target(t, g)}})
		if string(v.Outcome) != outcome {
			t.Errorf("%s on %s: got %s, want %s: %+v", name, g, v.Outcome, outcome, v.Targets[0].Reasons)
		}
		if r := v.Targets[0].Reasons; v.Outcome != gpu.Runs && (len(r) == 0 || r[0].Outcome != v.Outcome || r[0].Text == "") {
			t.Errorf("%s on %s: no reason: %+v", name, g, r)
		}
	}
}

// Jetsons and other GPUs do not run each other's code. PTX is for all.
func TestJetsons(t *testing.T) {
	arm := func(words string) *gpu.Report {
		data := lib(words)
		data[18] = 183 // the machine: arm64
		return report(t, map[string][]byte{"a-x/lib/x.so": data})
	}
	mustVerdicts(t, "sm_80", arm("sm_80"), "Orin=fails A100=runs")
	mustVerdicts(t, "sm_86", arm("sm_86"), "Orin=fails")
	mustVerdicts(t, "sm_87", arm("sm_87"), "Orin=runs sm_89=fails A100=fails")
	mustVerdicts(t, "sm_70", arm("sm_70"), "Xavier=fails")
	mustVerdicts(t, "sm_72", arm("sm_72"), "Xavier=runs T4=fails")
	mustVerdicts(t, "sm_72+ptx_72", arm("sm_72+ptx_72"), "Xavier=runs Orin=jit T4=jit A100=jit")
	mustVerdicts(t, "sm_101", arm("sm_101"), "Thor=runs B200=fails")
	mustVerdicts(t, "sm_110", arm("sm_110"), "Thor=runs")
}

// Code of a family has no mark in a container that is known. Text has.
func TestFamilies(t *testing.T) {
	ptx := func(target string) []byte { return []byte(".version 8.8\n.target " + target + "\n") }
	for name, want := range map[string]string{
		"sm_100f": "B200=jit B300=jit sm_120=fails H100=fails",
		"sm_103f": "B200=fails B300=jit",
		"sm_120f": "sm_120=jit sm_121=jit",
		"sm_120a": "sm_120=jit sm_121=fails",
	} {
		mustVerdicts(t, name, report(t, map[string][]byte{"a-x/k.ptx": ptx(name)}), want)
	}
}

func TestVerdictsOfSeveralLibraries(t *testing.T) {
	r := report(t, map[string][]byte{
		"a-x/lib/good.so": lib("sm_80+sm_90+ptx_90"),
		"a-x/lib/old.so":  lib("sm_80"),
		"a-x/lib/stub.so": gputest.Library(elftest.Object{}, gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 52, Payload: gputest.EmptyCubin(52)})),
	})
	mustVerdicts(t, "two libraries", r, "A100=runs H100=fails")
	v := r.Check(&gpu.Demand{Targets: []*gpu.Target{target(t, "H100"), target(t, "A100")}})
	if got := v.Targets[0].Reasons; len(got) != 1 || !strings.HasSuffix(got[0].Path, "/lib/old.so") || got[0].Text != "has no code for sm_90, only for sm_80" {
		t.Errorf("got %+v", got)
	}
	if v.Outcome != gpu.WillFail || v.Targets[1].Outcome != gpu.Runs {
		t.Errorf("got %+v", v)
	}
	if got := v.Targets[0].Libraries; len(got) != 2 || got[0].Native != 1 || got[1].None != 1 {
		t.Errorf("served: %+v", got)
	}
	l := r.Libraries[0]
	if c := l.Coverage(target(t, "B200")); c != (gpu.Coverage{JIT: 1}) {
		t.Errorf("coverage: %+v", c)
	}
	if c := r.Libraries[2].Coverage(target(t, "H100")); c != (gpu.Coverage{Empty: 1}) {
		t.Errorf("coverage of nothing: %+v", c)
	}
}

func TestVerdictsOfAMD(t *testing.T) {
	r := report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("gfx90a:xnack+", "gfx90a:xnack-"), gputest.Bundle("gfx1030"))})
	mustVerdicts(t, "bundles", r, "MI250=runs gfx1030=runs MI300X=fails A100=fails")
	r = report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("gfx9-4-generic"))})
	mustVerdicts(t, "generic", r, "MI300X=runs MI350=runs MI250=fails")
	r = report(t, map[string][]byte{"a-x/lib/x.so": hipLib(gputest.Bundle("amdgcnspirv"))})
	mustVerdicts(t, "SPIR-V", r, "MI300X=jit A100=fails")
	r = report(t, map[string][]byte{"a-x/lib/x.so": lib("sm_80")})
	mustVerdicts(t, "NVIDIA's", r, "MI300X=fails")
	r = report(t, map[string][]byte{"a-x/lib/x.so": lib("sm_80"), "a-x/lib/y.so": hipLib(gputest.Bundle("gfx90a"))})
	mustVerdicts(t, "both", r, "MI250=runs A100=runs H100=fails")

	// One file for each GPU, as rocBLAS has them.
	r = report(t, map[string][]byte{
		"a-x/library/k_gfx90a.co": gputest.Bundle("gfx90a"), "a-x/library/k_gfx942.co": gputest.Bundle("gfx942"),
	})
	mustVerdicts(t, "loose", r, "MI250=runs MI300X=runs gfx1030=fails")
	if len(r.Libraries) != 1 || r.Libraries[0].Path != store+"a-x/library/*.co" || len(r.Loose) != 2 {
		t.Errorf("loose: %+v, %+v", r.Libraries, r.Loose)
	}
}

func TestVerdictsWithoutCode(t *testing.T) {
	r := report(t, map[string][]byte{"a-x/bin/x": elftest.Program("amd64", ""), "a-x/share/x": []byte("sm_80")})
	mustVerdicts(t, "no code", r, "A100=fails MI250=fails")
	if v := r.Check(&gpu.Demand{Targets: []*gpu.Target{target(t, "A100")}, CPU: true}); v.Outcome != gpu.Runs {
		t.Errorf("no code, on purpose: %+v", v)
	}
	if s := r.Summary(); r.Use != gpu.UseNone || s.Use != gpu.UseNone || s.SASS != nil {
		t.Errorf("%+v", s)
	}
	mustVerdicts(t, "no code, other CPU", r, "Orin=fails")

	r = report(t, map[string][]byte{"a-x/lib/video.so": gputest.Library(elftest.Object{}, nil, "libcuda.so.1")})
	mustVerdicts(t, "optional", r, "A100=fails")
	if r.Use != gpu.UseOptional {
		t.Error(r.Use)
	}

	r = report(t, map[string][]byte{"a-x/lib/x.so": gputest.Library(elftest.Object{Needed: []string{"libcuda.so.1"}}, nil)})
	mustVerdicts(t, "linked with libcuda", r, "A100=unknown")
}

func TestCompilers(t *testing.T) {
	plain := gputest.Library(elftest.Object{}, nil)
	for _, test := range []struct{ file, want string }{
		{"b-y/lib/libnvrtc.so.11.8.89", "A100=runs H100=runs sm_120=unknown"},
		{"b-cuda12.8-cuda_nvrtc-12.8.1/lib/libnvrtc.so.12", "A100=runs sm_120=runs B300=unknown"},
		{"b-y/lib/libnvinfer.so.10.1.0", "A100=unknown"},
		{"b-y/lib/libtriton.so", "A100=runs"},
	} {
		r := report(t, map[string][]byte{"a-x/lib/x.so": lib("sm_80+ptx_80 sm_90 sm_120 sm_100"), test.file: plain})
		mustVerdicts(t, test.file, r, test.want)
		if len(r.Compilers) != 1 {
			t.Errorf("%s: %+v", test.file, r.Compilers)
		}
	}
	r := report(t, map[string][]byte{"b-y/lib/libnvrtc.so.11.8.89": plain, "b-y/lib/libcudart.so.11.8.89": plain})
	mustVerdicts(t, "nothing but NVRTC", r, "A100=unknown")
}

func TestHiddenCode(t *testing.T) {
	packed := gputest.Compress(gputest.Bundle("gfx90a"), 3, true)
	packed[33] = 0
	r := report(t, map[string][]byte{"a-x/lib/x.so": hipLib(packed)})
	mustVerdicts(t, "damaged bundle", r, "MI250=unknown")
	r = report(t, map[string][]byte{"a-x/lib/x.so": gputest.Library(elftest.Object{}, gputest.Fatbin(
		gputest.Entry{Kind: gputest.Cubin, SM: 70}, gputest.Entry{Kind: 0x40, SM: 80}))})
	mustVerdicts(t, "unknown kind", r, "V100=runs A100=unknown")
}

func TestDrivers(t *testing.T) {
	plain := gputest.Library(elftest.Object{}, nil)
	compat := "c-cuda_compat-12.8.39468522/compat/libcuda.so.570.86.15"
	for _, test := range []struct {
		name, library, extra, gpu string
		driver                    gpu.Driver
		want                      gpu.Outcome
	}{
		{"new enough", "sm_80", "libcudart.so.12.4.99", "A100", "550.54.14", gpu.Runs},
		{"minor version", "sm_80", "libcudart.so.12.4.99", "A100", "535.54.03", gpu.Runs},
		{"other major version", "sm_80", "libcudart.so.12.4.99", "A100", "520.61.05", gpu.WillFail},
		{"any newer", "sm_80", "libcudart.so.11.8.89", "A100", "580.65.06", gpu.Runs},
		{"new PTX", "ptx_80@84", "libcudart.so.12.4.99", "A100", "535.54.03", gpu.WillFail},
		{"PTX that it knows", "ptx_80@84", "libcudart.so.12.4.99", "A100", "550.54.14", gpu.JITOnly},
		{"new PTX that is not needed", "sm_80+ptx_80@84", "libcudart.so.12.4.99", "A100", "535.54.03", gpu.Runs},
		{"some new PTX", "sm_80 ptx_80@84", "libcudart.so.12.4.99", "A100", "535.54.03", gpu.Unknown},
		{"new GPU", "sm_120", "libcudart.so.12.8.90", "sm_120", "560.28.03", gpu.WillFail},
		{"new GPU, by JIT", "ptx_90@80", "libcudart.so.12.0.90", "sm_120", "560.28.03", gpu.WillFail},
		{"no GPU", "sm_80", "libcudart.so.12.4.99", "", "520.61.05", gpu.WillFail},
		{"no GPU, new enough", "sm_80", "libcudart.so.12.4.99", "", "550.54.14", gpu.Runs},
		{"compat", "sm_80", compat, "A100", "520.61.05", gpu.Runs},
		{"compat, by JIT", "ptx_80@87", compat, "A100", "535.54.03", gpu.JITOnly},
		{"compat, unknown GPU", "sm_80", compat, "", "520.61.05", gpu.Unknown},
		{"compat, older than the driver", "sm_80", compat, "A100", "580.65.06", gpu.Runs},
		{"version by PTX alone", "sm_80+ptx_80@84", "", "A100", "520.61.05", gpu.WillFail},
		{"Jetson", "sm_87", "libcudart.so.12.4.99", "Orin", "500.00", gpu.WillFail}, // by the CPU alone
	} {
		files := map[string][]byte{"a-x/lib/x.so": lib(test.library)}
		switch {
		case strings.HasPrefix(test.extra, "lib"):
			files["b-y/lib/"+test.extra] = plain
		case test.extra != "":
			files[test.extra] = gputest.Library(elftest.Object{Soname: "libcuda.so.1"}, nil)
			files["b-y/lib/libcudart.so.12.8.90"] = plain
		}
		r := report(t, files)
		var targets []*gpu.Target
		if test.gpu != "" {
			targets = append(targets, target(t, test.gpu))
		}
		if v := r.Check(&gpu.Demand{Targets: targets, Driver: test.driver}); v.Outcome != test.want {
			t.Errorf("%s: got %s, want %s: %+v", test.name, v.Outcome, test.want, v.Targets[0].Reasons)
		}
		for _, s := range r.Suspects {
			if s.Kind == gpu.DriverInside {
				t.Errorf("%s: %+v", test.name, s)
			}
		}
	}
}

func TestCUDAVersions(t *testing.T) {
	plain := gputest.Library(elftest.Object{}, nil)
	named := func(soname string) []byte { return gputest.Library(elftest.Object{Soname: soname}, nil) }
	for _, test := range []struct {
		files   map[string][]byte
		want    string
		driver  gpu.Driver
		suspect bool
	}{
		{map[string][]byte{"a-x/lib/libcudart.so.12.5.39": named("libcudart.so.12")}, "12.5/file", "555.42.02", false},
		{map[string][]byte{"a-x/lib/libcudart.so.12": named("libcudart.so.12")}, "12.0/soname", "525.60.13", false},
		{map[string][]byte{"a-x/lib/libcudart.so.11.0": named("libcudart.so.11.0")}, "11.0/file", "450.36.06", false},
		{map[string][]byte{"a-cuda12.4-cuda_cudart-12.4.127-lib/lib/libcudart.so.12": named("libcudart.so.12")}, "12.4/store", "550.54.14", false},
		{map[string][]byte{"a-cudatoolkit-11.8.0/lib/libx.so": plain}, "11.8/store", "520.61.05", false},
		{map[string][]byte{"a-cuda-merged-12.4/lib/libx.so": plain}, "12.4/store", "550.54.14", false},
		{map[string][]byte{"a-cuda-probe-1.0/lib/libx.so": plain}, "", "", false},
		{map[string][]byte{"a-x/lib/x.so": lib("ptx_80@81")}, "12.1/ptx", "530.30.02", false},
		{map[string][]byte{"a-x/lib/x.so": lib("ptx_80@64")}, "11.0/ptx", "450.36.06", false},
		{map[string][]byte{"a-x/lib/x.so": lib("ptx_80@86")}, "12.8/ptx", "570.26", false},
		{map[string][]byte{"a-x/lib/x.so": lib("ptx_80@99")}, "", "", false},
		{map[string][]byte{"a-x/lib/libcudart.so.12.4.99": plain, "a-x/lib/x.so": lib("ptx_80@80")}, "12.4/file", "550.54.14", false},
		{map[string][]byte{"a-x/lib/libcudart.so.12.4.99": plain, "a-x/lib/x.so": lib("ptx_80@85")}, "12.4/file 12.5/ptx", "555.42.02", false},
		{map[string][]byte{"a-x/lib/libcudart.so.12.4.99": plain, "b-y/lib/libcudart.so.11.8.89": plain}, "11.8/file 12.4/file", "550.54.14", true},
	} {
		r := report(t, test.files)
		var words []string
		for _, c := range r.CUDA {
			words = append(words, c.Version.String()+"/"+string(c.From))
		}
		suspect := slices.ContainsFunc(r.Suspects, func(s gpu.Suspect) bool { return s.Kind == gpu.MixedCUDA })
		if got := strings.Join(words, " "); got != test.want || r.Driver.Native != test.driver || suspect != test.suspect {
			t.Errorf("%q: got %q, driver %q, suspect %t; want %q, %q, %t", slices.Sorted(maps.Keys(test.files)), got, r.Driver.Native, suspect, test.want, test.driver, test.suspect)
		}
	}
}

func TestSummary(t *testing.T) {
	r := report(t, map[string][]byte{
		"a-x/lib/x.so":                 lib("sm_70+sm_80+sm_90+ptx_90 sm_80"),
		"a-x/lib/y.so":                 lib("sm_80+ptx_80 sm_90a"),
		"a-x/lib/h.so":                 hipLib(gputest.Bundle("gfx90a", "gfx1030")),
		"b-y/lib/libcudart.so.12.4.99": gputest.Library(elftest.Object{}, nil, "libcuda.so.1"),
	})
	got, err := json.Marshal(r.Summary())
	want := `{"use":"gpu","cuda":["12.4"],"sass":["sm_80","sm_90","sm_90a"],"hip":["gfx90a","gfx1030"],"ptx":"sm_90","driver":"550.54.14","minDriver":"525.60.13"}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	r = report(t, map[string][]byte{"a-x/lib/x.so": lib("sm_80+ptx_80"), "a-x/lib/y.so": lib("sm_80")})
	if s := r.Summary(); s.PTX != "" {
		t.Errorf("PTX of %s, although a library has none", s.PTX)
	}
}
