package gpu

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Target is a kind of GPU.
type Target struct {
	Name string `json:"name"` // as it was asked for
	// Code is what code for it is called: "sm_80", "gfx90a".
	Code string `json:"code"`
	// Arch is Go's name of the only CPU architecture that it comes with, or "".
	Arch string `json:"-"`

	major, minor int // of NVIDIA's: compute capability
	known        bool
	cuda         Version // the first that knows it
	jetson       bool    // code for others does not run on it
	dataCenter   bool    // forward compatibility is for these
}

// amd reports whether a GPU is one of AMD.
func (t *Target) amd() bool { return strings.HasPrefix(t.Code, "gfx") }

// capabilities are the compute capabilities of NVIDIA's GPUs.
var capabilities = []struct {
	major, minor int
	cuda         Version
	jetson       bool
	dataCenter   bool
	names        string
}{
	{5, 0, Version{6, 0}, false, false, "maxwell"},
	{5, 2, Version{6, 5}, false, true, "m40 m60"},
	{5, 3, Version{7, 0}, true, false, ""},
	{6, 0, Version{8, 0}, false, true, "p100"},
	{6, 1, Version{8, 0}, false, true, "p40 p4 gtx10"},
	{6, 2, Version{8, 0}, true, false, "tx2"},
	{7, 0, Version{9, 0}, false, true, "v100"},
	{7, 2, Version{10, 0}, true, false, "xavier"},
	{7, 5, Version{10, 0}, false, true, "t4 rtx20"},
	{8, 0, Version{11, 0}, false, true, "a100 a30"},
	{8, 6, Version{11, 1}, false, true, "a40 a10 a2 a16 rtx30"},
	{8, 7, Version{11, 4}, true, false, "orin"},
	{8, 9, Version{11, 8}, false, true, "l4 l40 l40s rtx40"},
	{9, 0, Version{11, 8}, false, true, "h100 h200 gh200"},
	{10, 0, Version{12, 7}, false, true, "b200 gb200"},
	{10, 3, Version{12, 9}, false, true, "b300 gb300"},
	{11, 0, Version{12, 7}, true, false, "thor"}, // called 10.1 before CUDA 13
	{12, 0, Version{12, 8}, false, true, "rtx50 rtxpro"},
	{12, 1, Version{12, 9}, false, false, "gb10 spark"},
}

// onARM are GPUs that come with an ARM CPU.
var onARM = []string{"tx2", "xavier", "orin", "thor", "gh200", "gb200", "gb300", "gb10", "spark"}

// amdNames are names of AMD's GPUs.
var amdNames = map[string]string{
	"mi50": "gfx906", "mi60": "gfx906", "mi100": "gfx908",
	"mi200": "gfx90a", "mi210": "gfx90a", "mi250": "gfx90a", "mi250x": "gfx90a",
	"mi300": "gfx942", "mi300a": "gfx942", "mi300x": "gfx942", "mi325x": "gfx942",
	"mi350": "gfx950", "mi350x": "gfx950", "mi355x": "gfx950",
	"rdna2": "gfx1030", "rdna3": "gfx1100",
}

var (
	geforce    = regexp.MustCompile(`^(gtx10|rtx[2-5]0)[5-9]0(ti|super)*$`)
	rtxPro     = regexp.MustCompile(`^rtxpro[0-9]*$`)
	capability = regexp.MustCompile(`^(?:(?:sm|compute)_?)?([0-9]{1,2})\.?([0-9])([af]?)$`)
	gfx        = regexp.MustCompile(`^gfx[0-9a-f]{3,4}$`)
)

// ParseTarget returns the GPU of a name: that of a product ("A100", "H200", "RTX 4090", "Orin", "MI250X"),
// a compute capability ("8.0", "sm_80", "compute_80"), or an AMD target ("gfx90a").
// Upper and lower case, spaces and hyphens do not matter.
func ParseTarget(s string) (*Target, error) {
	t := &Target{Name: strings.TrimSpace(s)}
	word := strings.NewReplacer(" ", "", "-", "").Replace(strings.ToLower(s))
	switch {
	case gfx.MatchString(word):
		t.Code = word
		return t, nil
	case amdNames[word] != "":
		t.Code = amdNames[word]
		return t, nil
	}
	if slices.Contains(onARM, word) {
		t.Arch = "arm64"
	}
	if m := geforce.FindStringSubmatch(word); m != nil {
		word = m[1]
	}
	if rtxPro.MatchString(word) {
		word = "rtxpro"
	}
	for _, c := range capabilities {
		if slices.Contains(strings.Fields(c.names), word) {
			t.setCapability(c.major, c.minor)
			return t, nil
		}
	}
	if m := capability.FindStringSubmatch(word); m != nil {
		major, _ := strconv.Atoi(m[1])
		minor, _ := strconv.Atoi(m[2])
		if t.setCapability(major, minor); t.known {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%q is not a GPU that is known: try its compute capability, such as sm_80, or gfx90a", s)
}

// setCapability makes t an NVIDIA GPU.
func (t *Target) setCapability(major, minor int) {
	t.major, t.minor = current(major, minor)
	t.Code = fmt.Sprintf("sm_%d%d", t.major, t.minor)
	for _, c := range capabilities {
		if c.major == t.major && c.minor == t.minor {
			t.known, t.cuda, t.jetson, t.dataCenter = true, c.cuda, c.jetson, c.dataCenter
		}
	}
	if t.jetson {
		t.Arch = "arm64"
	}
}

// current returns a compute capability as CUDA 13 counts: 10.1 has become 11.0.
func current(major, minor int) (int, int) {
	if major == 10 && minor == 1 {
		return 11, 0
	}
	return major, minor
}

// serves says what code for one target is to a GPU.
type serves int

const (
	no serves = iota
	jit
	native
)

// serves reports whether code runs on the GPU, as it is or compiled by the driver.
//
//   - sm_XY runs on X.Z with Z >= Y, but Jetsons and other GPUs do not run each other's;
//   - sm_XYa runs on X.Y alone, sm_XYf on its family: the same major version, from Y on;
//   - PTX runs wherever the number is not smaller, that of a and f where code for them does;
//   - AMD's runs on the same GPU, whatever the settings behind a colon, and generic code on what it stands for.
func (t *Target) serves(c *Code) serves {
	if c.Kind == HIP {
		name, _, _ := strings.Cut(c.Target, ":")
		switch {
		case !t.amd():
			return no
		case name == t.Code || slices.Contains(strings.Fields(generic[name]), t.Code):
			return native
		case name == targetSPIRV:
			return jit
		}
		return no
	}
	major, minor, suffix, ok := parseSM(c.Target)
	if !ok || t.amd() {
		return no
	}
	major, minor = current(major, minor)
	same := major == t.major && minor == t.minor
	family := major == t.major && minor <= t.minor
	how := native
	if c.Kind != SASS {
		how = jit
	}
	switch {
	case suffix == "a" && !same, suffix == "f" && !family:
		return no
	case same:
		return how
	case how == jit && (major < t.major || family):
		return jit
	case how == native && family && !t.jetson && !isJetson(major, minor):
		return native
	}
	return no
}

func isJetson(major, minor int) bool {
	var t Target
	t.setCapability(major, minor)
	return t.jetson
}

// generic are the AMD targets that stand for several GPUs, by LLVM's AMDGPUUsage.
var generic = map[string]string{
	"gfx9-generic":    "gfx900 gfx902 gfx904 gfx906 gfx909 gfx90c",
	"gfx9-4-generic":  "gfx940 gfx941 gfx942 gfx950",
	"gfx10-1-generic": "gfx1010 gfx1011 gfx1012 gfx1013",
	"gfx10-3-generic": "gfx1030 gfx1031 gfx1032 gfx1033 gfx1034 gfx1035 gfx1036",
	"gfx11-generic":   "gfx1100 gfx1101 gfx1102 gfx1103 gfx1150 gfx1151 gfx1152 gfx1153",
	"gfx12-generic":   "gfx1200 gfx1201",
}

// Coverage counts containers of a library by how they serve a GPU.
type Coverage struct {
	Native int `json:"native"` // with machine code for it
	JIT    int `json:"jit"`    // with PTX only
	None   int `json:"none"`
	Empty  int `json:"empty"` // without any code; see [Container]
}

// codeTarget returns the GPU that code is made for.
func codeTarget(name string) (*Target, bool) {
	t := &Target{Name: name, Code: name}
	if major, minor, _, ok := parseSM(name); ok {
		t.setCapability(major, minor)
		return t, true
	}
	t.Code, _, _ = strings.Cut(name, ":")
	return t, t.amd()
}
