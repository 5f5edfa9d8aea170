package gpu

import (
	"slices"
	"strings"
)

// tables are what this package knows of the world: releases of CUDA, drivers, GPUs and ROCm.
//
// Nothing follows from the absence of what is newer than their end: see [tables.knows].
type tables struct {
	date     string // of the last look at the sources
	releases []release
	floors   []floor
	models   []model
	products []product
	amd      []amdModel
	rocm     []rocmRelease
	generic  []genericTarget
	sonames  []toolkitSoname
	zstd     zstdRule
	// driverOnly are releases of which there are drivers and PTX, but no toolkit.
	driverOnly []Version
}

// A release is a version of CUDA that there is a driver or a toolkit of.
type release struct {
	cuda, isa Version // isa: the newest PTX that it knows
	// native is the first driver that knows all of it, and the first of its branch. Empty: it is not known yet.
	native Driver
	source string
}

// A floor is the first driver that runs code of any release of a major version,
// if it is for the very GPU: NVIDIA's minor version compatibility.
type floor struct {
	major  int
	driver Driver
	source string
}

// A model is a compute capability of NVIDIA's GPUs.
type model struct {
	major, minor int
	first, last  Version // releases of CUDA whose compilers know it; last is zero: all since
	driver       Driver  // the first that knows it; empty for Jetsons, whose drivers count otherwise
	lastBranch   int     // the last branch of drivers that knows it; 0: all since
	kind         modelKind
	source       string
}

type modelKind int

const (
	ordinary modelKind = iota
	// jetson: code for others does not run on it, nor its code on them.
	jetson
	// unsure: whether code for others runs on it is not known.
	unsure
)

// A product is what models are sold as. Its names are in lower case, without spaces and makers.
type product struct {
	major, minor int
	names        string
	arch         string // Go's name of the only CPU architecture that it comes with, or ""
	forward      answer // whether cuda_compat works with it
	driver       Driver // the first, if later than that of the model
	source       string
}

// An amdModel is a target of AMD's compilers.
type amdModel struct {
	code   string
	names  string
	first  Version // release of ROCm that has libraries for it; zero: before ROCm 5
	last   Version // zero: all since
	source string
}

// A rocmRelease is a major version of ROCm, which the names of its libraries tell.
type rocmRelease struct {
	major  int
	hip    string  // soname of the run-time library
	newest Version // release
	source string
}

// A genericTarget stands for several.
type genericTarget struct{ name, members, source string }

// A toolkitSoname is the name under which a library of CUDA's toolkit is loaded, and the major version that it is of.
type toolkitSoname struct {
	prefix string         // "libcufft.so."
	majors map[string]int // by what follows, up to the next dot; nil: that is the major version; 0: it does not tell
	source string
}

// zstdRule says which drivers take fat binaries that are compressed with zstd.
type zstdRule struct {
	driver Driver
	source string
}

// Sources that rows name. A row's own source goes before them.
const (
	notes   = "CUDA Toolkit release notes, tables of driver versions"
	minor   = "CUDA Compatibility, minor version compatibility"
	ptxDoc  = "PTX ISA, release history"
	runfile = "name of the toolkit's runfile"
	nvptx   = "LLVM, NVPTX.td"
	nvccDoc = "NVCC documentation, GPU feature list, and release notes of removed architectures"
	forward = "CUDA Compatibility, forward compatibility: data-centre GPUs and Jetsons"
	gpuList = "developer.nvidia.com/cuda-gpus"
	llvmAMD = "LLVM, AMDGPUUsage"
	rocmDoc = "ROCm compatibility matrix"
)

// builtin has all that was known on its date.
var builtin = &tables{
	date:       "2026-11-28",
	driverOnly: []Version{{12, 7}},
	releases: []release{
		{Version{11, 0}, Version{7, 0}, "450.36.06", notes + "; " + ptxDoc},
		{Version{11, 1}, Version{7, 1}, "455.23", notes + "; " + ptxDoc},
		{Version{11, 2}, Version{7, 2}, "460.27", notes + "; " + ptxDoc},
		{Version{11, 3}, Version{7, 3}, "465.19.01", notes + "; " + ptxDoc},
		{Version{11, 4}, Version{7, 4}, "470.42", notes + "; " + ptxDoc},
		{Version{11, 5}, Version{7, 5}, "495.29.05", notes + "; " + ptxDoc},
		{Version{11, 6}, Version{7, 6}, "510.39", notes + "; " + ptxDoc},
		{Version{11, 7}, Version{7, 7}, "515.43.04", notes + "; " + ptxDoc},
		{Version{11, 8}, Version{7, 8}, "520.61.05", notes + "; " + ptxDoc},
		{Version{12, 0}, Version{8, 0}, "525.60.13", notes + "; " + ptxDoc},
		{Version{12, 1}, Version{8, 1}, "530.30.02", notes + "; " + ptxDoc},
		{Version{12, 2}, Version{8, 2}, "535.54.03", notes + "; " + ptxDoc},
		{Version{12, 3}, Version{8, 3}, "545.23.06", notes + "; " + ptxDoc},
		{Version{12, 4}, Version{8, 4}, "550.54.14", notes + "; " + ptxDoc},
		{Version{12, 5}, Version{8, 5}, "555.42.02", notes + "; " + ptxDoc},
		{Version{12, 6}, Version{8, 5}, "560.28.03", notes + "; " + ptxDoc},
		{Version{12, 7}, Version{8, 6}, "565.57.01", "nvidia-smi of R565; " + ptxDoc},
		{Version{12, 8}, Version{8, 7}, "570.26", notes + "; " + ptxDoc},
		{Version{12, 9}, Version{8, 8}, "575.51.03", notes + "; " + ptxDoc},
		{Version{13, 0}, Version{9, 0}, "580.65.06", notes + "; " + ptxDoc},
		{Version{13, 1}, Version{9, 1}, "590.44.01", runfile + "; " + ptxDoc},
		{Version{13, 2}, Version{9, 2}, "595.45.04", runfile + "; llvm/llvm-project#197992"},
		{Version{13, 3}, Version{9, 3}, "610.43.02", runfile + "; llvm/llvm-project#211677"},
		{Version{13, 4}, Version{9, 4}, "615", "nvidia-smi of R615; llvm/llvm-project#211677"},
		{Version{13, 5}, Version{9, 5}, "", "apache/tvm f43b3030d"},
	},
	floors: []floor{
		{11, "450.80.02", minor},
		{12, "525.60.13", minor},
		{13, "580.65.06", minor + "; " + notes},
	},
	models: []model{
		{3, 0, Version{4, 2}, Version{10, 2}, "295.41", 470, ordinary, nvccDoc},
		{3, 5, Version{5, 0}, Version{11, 8}, "304.54", 470, ordinary, nvccDoc},
		{3, 7, Version{6, 5}, Version{11, 8}, "340.29", 470, ordinary, nvccDoc},
		{5, 0, Version{6, 0}, Version{12, 9}, "331.62", 580, ordinary, nvccDoc + "; NVIDIA's plans for Unix drivers"},
		{5, 2, Version{6, 5}, Version{12, 9}, "340.29", 580, ordinary, nvccDoc + "; NVIDIA's plans for Unix drivers"},
		{5, 3, Version{7, 0}, Version{12, 9}, "", 0, jetson, nvccDoc},
		{6, 0, Version{8, 0}, Version{12, 9}, "367.48", 580, ordinary, nvccDoc + "; NVIDIA's plans for Unix drivers"},
		{6, 1, Version{8, 0}, Version{12, 9}, "367.48", 580, ordinary, nvccDoc + "; NVIDIA's plans for Unix drivers"},
		{6, 2, Version{8, 0}, Version{12, 9}, "", 0, jetson, nvccDoc},
		{7, 0, Version{9, 0}, Version{12, 9}, "384.81", 580, ordinary, nvccDoc + "; NVIDIA's plans for Unix drivers"},
		{7, 2, Version{9, 1}, Version{12, 9}, "", 0, jetson, nvccDoc + "; " + nvptx},
		{7, 5, Version{10, 0}, Version{}, "410.48", 0, ordinary, notes},
		{8, 0, Version{11, 0}, Version{}, "450.36.06", 0, ordinary, notes},
		{8, 6, Version{11, 1}, Version{}, "455.23", 0, ordinary, notes},
		{8, 7, Version{11, 4}, Version{}, "", 0, jetson, notes},
		{8, 8, Version{13, 0}, Version{}, "", 0, unsure, nvptx + " (#156857)"},
		{8, 9, Version{11, 8}, Version{}, "520.61.05", 0, ordinary, notes},
		{9, 0, Version{11, 8}, Version{}, "520.61.05", 0, ordinary, notes},
		{10, 0, Version{12, 8}, Version{}, "570.26", 0, ordinary, notes},
		{10, 3, Version{12, 9}, Version{}, "575.51.03", 0, ordinary, notes},
		{10, 7, Version{13, 4}, Version{}, "615", 0, ordinary, "NVIDIA/TensorRT-LLM#17336"},
		{11, 0, Version{12, 8}, Version{}, "", 0, jetson, notes + ": called 10.1 before CUDA 13"},
		{12, 0, Version{12, 8}, Version{}, "570.26", 0, ordinary, notes},
		{12, 1, Version{12, 9}, Version{}, "575.51.03", 0, ordinary, notes},
	},
	products: []product{
		{3, 0, "k10 gtx650 gtx660 gtx670 gtx680 gtx760 gtx770", "", never, "", gpuList},
		{3, 5, "k20 k20x k40 gtx780 gtxtitan gtxtitanblack", "", never, "", gpuList},
		{3, 7, "k80", "", never, "", gpuList},
		{5, 0, "gtx750 quadrok620 quadrok2200", "", never, "", gpuList},
		{5, 0, "m10", "", surely, "", forward},
		{5, 2, "m4 m40 m60 m6", "", surely, "", forward},
		{5, 2, "gtx950 gtx960 gtx970 gtx980 gtxtitanx quadrom6000 quadrom5000 quadrom4000", "", never, "", gpuList},
		{5, 3, "jetsonnano tx1", "arm64", surely, "", gpuList},
		{6, 0, "p100", "", surely, "", forward},
		{6, 0, "quadrogp100", "", never, "", gpuList},
		{6, 1, "p4 p40 p6", "", surely, "", forward},
		{6, 1, "gtx10 gtx1050 gtx1060 gtx1070 gtx1080 gt1030 titanx titanxp titanxpascal quadrop6000 quadrop5000 quadrop4000 quadrop2000", "", never, "", gpuList},
		{6, 2, "tx2", "arm64", surely, "", gpuList},
		{7, 0, "v100 v100s", "", surely, "", forward},
		{7, 0, "titanv quadrogv100", "", never, "", gpuList},
		{7, 2, "xavier", "arm64", surely, "", gpuList},
		{7, 5, "t4", "", surely, "", forward},
		{7, 5, "t4g", "arm64", surely, "", forward + "; AWS EC2 G5g, with Graviton2"},
		{7, 5, "rtx20 rtx2060 rtx2070 rtx2080 gtx16 gtx1630 gtx1650 gtx1660 titanrtx t400 t600 t1000", "", never, "", gpuList},
		{7, 5, "quadrortx3000 quadrortx4000 quadrortx5000 quadrortx6000 quadrortx8000", "", maybe, "", gpuList + "; " + forward + ", and some RTX that are ready for servers"},
		{8, 0, "a100 a30 a800 a100x a30x", "", surely, "", forward},
		{8, 6, "a40 a10 a10g a10m a16 a2", "", surely, "", forward},
		{8, 6, "rtx30 rtx3050 rtx3060 rtx3070 rtx3080 rtx3090", "", never, "", gpuList},
		{8, 6, "rtxa1000 rtxa2000 a2000 rtxa4000 a4000 rtxa4500 a4500 rtxa5000 a5000 rtxa5500 a5500 rtxa6000 a6000", "", maybe, "", gpuList + "; " + forward + ", and some RTX that are ready for servers"},
		{8, 7, "orin", "arm64", surely, "", gpuList},
		{8, 9, "l4 l40 l40s l40g l20 l2", "", surely, "", forward},
		{8, 9, "rtx40 rtx4050 rtx4060 rtx4070 rtx4080 rtx4090", "", never, "", gpuList + "; error 804 on an RTX 4090"},
		{8, 9, "rtx2000ada rtx4000ada rtx4500ada rtx5000ada rtx5880ada rtx6000ada", "", maybe, "", gpuList + "; " + forward + ", and some RTX that are ready for servers"},
		{9, 0, "h100 h100nvl h200 h200nvl h800 h20", "", surely, "", forward},
		{9, 0, "gh200 gracehopper", "arm64", surely, "", forward},
		{10, 0, "b100 b200", "", surely, "570.133.20", forward + "; driver 570.133.20, supported GPUs of HGX B200"},
		{10, 0, "gb200", "arm64", surely, "570.133.20", forward},
		{10, 3, "b300", "", surely, "", forward},
		{10, 3, "gb300", "arm64", surely, "", forward},
		{10, 7, "rubin r200", "", surely, "", "NVIDIA/TensorRT-LLM#17336"},
		{10, 7, "verarubin vr200", "arm64", surely, "", "NVIDIA/TensorRT-LLM#17336"},
		{11, 0, "thor t5000 t4000", "arm64", surely, "", gpuList},
		{12, 0, "rtx50 rtx5050 rtx5060 rtx5070 rtx5080 rtx5090", "", never, "", gpuList},
		{12, 0, "rtxpro rtxpro2000 rtxpro4000 rtxpro4500 rtxpro5000 rtxpro6000", "", maybe, "", gpuList + "; " + forward + ", and some RTX that are ready for servers"},
		{12, 1, "gb10 spark", "arm64", never, "", gpuList},
	},
	amd: []amdModel{
		{"gfx803", "mi8 r9nano rx480 rx580", Version{}, Version{4, 0}, rocmDoc},
		{"gfx900", "mi25 vega56 vega64", Version{}, Version{4, 5}, rocmDoc},
		{"gfx906", "mi50 mi60 radeonvii", Version{}, Version{6, 3}, rocmDoc},
		{"gfx908", "mi100", Version{}, Version{}, rocmDoc},
		{"gfx90a", "mi200 mi210 mi250 mi250x", Version{}, Version{}, rocmDoc},
		{"gfx942", "mi300 mi300a mi300x mi308x mi325x", Version{6, 0}, Version{}, rocmDoc},
		{"gfx950", "mi350 mi350x mi355x", Version{7, 0}, Version{}, rocmDoc},
		{"gfx1010", "rx5600 rx5700", Version{}, Version{}, llvmAMD},
		{"gfx1030", "rdna2 rx6800 rx6900 rx6950 w6800 prow6800 v620", Version{5, 0}, Version{}, rocmDoc},
		{"gfx1031", "rx6700 rx6750", Version{}, Version{}, llvmAMD},
		{"gfx1032", "rx6600 rx6650 w6600 prow6600", Version{}, Version{}, llvmAMD},
		{"gfx1100", "rdna3 rx7900 w7900 w7800 prow7900 prow7800", Version{5, 5}, Version{}, rocmDoc},
		{"gfx1101", "rx7700 rx7800 w7700 prow7700 v710", Version{6, 2}, Version{}, rocmDoc},
		{"gfx1102", "rx7600 w7600 prow7600", Version{}, Version{}, llvmAMD},
		{"gfx1150", "strixpoint", Version{6, 4}, Version{}, llvmAMD},
		{"gfx1151", "strixhalo", Version{6, 4}, Version{}, llvmAMD},
		{"gfx1200", "rx9060", Version{6, 4}, Version{}, rocmDoc},
		{"gfx1201", "rdna4 rx9070 r9700", Version{6, 4}, Version{}, rocmDoc},
	},
	rocm: []rocmRelease{
		{5, "libamdhip64.so.5", Version{5, 7}, "ROCm release history"},
		{6, "libamdhip64.so.6", Version{6, 4}, "ROCm release history"},
		{7, "libamdhip64.so.7", Version{7, 2}, "ROCm release history"},
	},
	generic: []genericTarget{
		{"gfx9-generic", "gfx900 gfx902 gfx904 gfx906 gfx909 gfx90c", llvmAMD},
		{"gfx9-4-generic", "gfx940 gfx941 gfx942 gfx950", llvmAMD},
		{"gfx10-1-generic", "gfx1010 gfx1011 gfx1012 gfx1013", llvmAMD},
		{"gfx10-3-generic", "gfx1030 gfx1031 gfx1032 gfx1033 gfx1034 gfx1035 gfx1036", llvmAMD},
		{"gfx11-generic", "gfx1100 gfx1101 gfx1102 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153", llvmAMD},
		{"gfx12-generic", "gfx1200 gfx1201", llvmAMD},
	},
	sonames: []toolkitSoname{
		{"libcudart.so.", nil, "files of CUDA 11 to 13"},
		{"libcublas.so.", nil, "files of CUDA 11 to 13"},
		{"libcublasLt.so.", nil, "files of CUDA 11 to 13"},
		{"libcusparse.so.", map[string]int{"11": 11, "12": 0}, "files of CUDA: 12 is that of 12.x and of 13.x"},
		// Up to CUDA 11.1 it was libnvrtc.so.11.1, then libnvrtc.so.11.2 for all of 11.
		{"libnvrtc.so.", nil, "files of CUDA 11 to 13"},
		{"libnvJitLink.so.", nil, "files of CUDA 12 and 13"},
		{"libcufft.so.", map[string]int{"10": 11, "11": 12, "12": 13}, "files of CUDA 11.8, 12.5 and 13"},
		{"libcusolver.so.", map[string]int{"11": 0, "12": 13}, "files of CUDA: 11 is that of 11.x and of 12.x"},
		{"libcurand.so.", map[string]int{"10": 0}, "files of CUDA 11 to 13"},
		{"libnvjpeg.so.", nil, "files of CUDA 11 and 12"},
		{"libnppc.so.", nil, "files of CUDA 11 and 12"},
		{"libnppif.so.", nil, "files of CUDA 11 and 12"},
		{"libnppist.so.", nil, "files of CUDA 11 and 12"},
		{"libnppig.so.", nil, "files of CUDA 11 and 12"},
	},
	zstd: zstdRule{"550.54.14", "RAPIDS installation notes; lloyal-ai/lloyal.node#46"},
}

// answer is what can be said of a question.
type answer int

const (
	never answer = iota
	maybe
	surely
)

// end returns the newest release that there is a toolkit of, and the newest branch of drivers, that the tables have.
func (t *tables) end() (cuda Version, branch int) {
	for _, r := range t.releases {
		cuda = later(cuda, r.cuda)
		branch = max(branch, r.native.branch())
	}
	return cuda, branch
}

// release returns the row of a version of CUDA, or nil.
func (t *tables) release(cuda Version) *release {
	for i := range t.releases {
		if t.releases[i].cuda == cuda {
			return &t.releases[i]
		}
	}
	return nil
}

// floor returns the first driver for a major version of CUDA, or "".
func (t *tables) floor(major int) Driver {
	for _, f := range t.floors {
		if f.major == major {
			return f.driver
		}
	}
	return ""
}

// toolkit returns the first release that knows a version of PTX. It is zero if none does.
// PTX older than CUDA 11 counts as of CUDA 11.0.
func (t *tables) toolkit(isa Version) Version {
	for _, r := range t.releases {
		if isa.Compare(r.isa) <= 0 && !slices.Contains(t.driverOnly, r.cuda) {
			return r.cuda
		}
	}
	return Version{}
}

// model returns the row of a compute capability, or nil.
func (t *tables) model(major, minor int) *model {
	for i := range t.models {
		if m := &t.models[i]; m.major == major && m.minor == minor {
			return m
		}
	}
	return nil
}

// atLeast reports whether a driver is as new as another. A driver of which only the branch is known
// is as new as the first of that branch.
func (t *tables) atLeast(d, first Driver) answer {
	switch {
	case first == "" || d == "":
		return maybe
	case d.branch() != first.branch():
		return certainly(d.branch() > first.branch())
	case !first.exact():
		return surely
	case d.exact():
		return certainly(d.Compare(first) >= 0)
	}
	for _, r := range t.releases {
		if r.native == first {
			return surely
		}
	}
	return maybe
}

func certainly(ok bool) answer {
	if ok {
		return surely
	}
	return never
}

// knows returns what a driver knows for certain, and what it may know:
// the next release with early drivers of the branch that is to bring it,
// anything (open) with drivers newer than the tables.
func (t *tables) knows(d Driver) (sure, most release, open bool) {
	for _, r := range t.releases {
		if t.atLeast(d, r.native) == surely {
			sure = r
		}
		if r.native != "" && d.branch() >= r.native.branch() {
			most = r
		}
	}
	_, last := t.end()
	return sure, most, d.branch() > last
}

// compiles reports whether a driver can compile PTX of a version.
func (t *tables) compiles(d Driver, isa Version) answer {
	sure, most, open := t.knows(d)
	switch {
	case isa.Compare(sure.isa) <= 0:
		return surely
	case open, isa.Compare(most.isa) <= 0, isa.Compare(t.releases[0].isa) < 0:
		return maybe
	}
	return never
}

// runs reports whether a driver runs code that was made with a release of CUDA, if it is for the very GPU,
// and whether it knows all of that release.
func (t *tables) runs(d Driver, cuda Version) (code, all answer) {
	if r := t.release(cuda); r != nil {
		all = t.atLeast(d, r.native)
	} else if _, _, open := t.knows(d); open {
		all = maybe
	}
	if all == surely {
		return surely, surely
	}
	if first := t.floor(cuda.Major); first != "" {
		return t.atLeast(d, first), all
	}
	if cuda.Major < t.floors[0].major {
		// Newer drivers run all older releases.
		return max(maybe, t.atLeast(d, t.floors[0].driver)), all
	}
	// A driver of an earlier major version does not run a later one.
	if _, most, open := t.knows(d); !open && most.cuda.Major < cuda.Major {
		return never, never
	}
	return maybe, all
}

// drives reports whether a driver knows a GPU. If not, first says whether it is too old, and not too new.
func (t *tables) drives(d Driver, g *Target) (known answer, tooOld bool) {
	if !g.known {
		return maybe, false
	}
	if g.lastBranch != 0 && d.branch() > g.lastBranch {
		return never, false
	}
	if g.kind == unsure {
		return maybe, false
	}
	known = surely
	if g.driver != "" {
		known = t.atLeast(d, g.driver)
	}
	if _, _, open := t.knows(d); open && g.lastBranch == 0 && known == surely {
		return maybe, false
	}
	return known, known == never
}

// members returns the targets that a generic one stands for, or nil.
func (t *tables) members(name string) []string {
	for _, g := range t.generic {
		if g.name == name {
			return strings.Fields(g.members)
		}
	}
	return nil
}

// sonameMajor returns the major version of CUDA that a name of a library tells, and whether it is one of the toolkit's.
func (t *tables) sonameMajor(name string) (major int, toolkit bool) {
	for _, s := range t.sonames {
		if rest, ok := strings.CutPrefix(name, s.prefix); ok {
			number, _, _ := strings.Cut(rest, ".")
			v, ok := parseVersion(number + ".0")
			if !ok {
				return 0, true
			}
			if s.majors != nil {
				return s.majors[number], true
			}
			return v.Major, true
		}
	}
	return 0, false
}
