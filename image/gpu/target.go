package gpu

import (
	"fmt"
	"slices"
	"strings"
)

// Target is a kind of GPU.
type Target struct {
	Name string `json:"name"` // as it was asked for
	// Code is what code for it is called: "sm_80", "gfx90a".
	Code string `json:"code"`
	// Arch is Go's name of the only CPU architecture that it comes with, or "".
	Arch string `json:"-"`

	in           *tables
	major, minor int // of NVIDIA's: compute capability
	known        bool
	model                  // if it is known
	forward      answer    // whether cuda_compat works with it
	amdModel     *amdModel // nil: it is not one of AMD, or not known
}

// amd reports whether a GPU is one of AMD.
func (t *Target) amd() bool { return strings.HasPrefix(t.Code, "gfx") }

// target returns the NVIDIA GPU of a compute capability.
func (t *tables) target(name string, major, minor int) *Target {
	major, minor = renamed(major, minor)
	g := &Target{Name: name, Code: fmt.Sprintf("sm_%d%d", major, minor), in: t, major: major, minor: minor, forward: maybe}
	if m := t.model(major, minor); m != nil {
		g.known, g.model = true, *m
		switch {
		case m.kind == jetson:
			g.Arch, g.forward = "arm64", surely
		case !slices.ContainsFunc(t.products, func(p product) bool { return p.is(m) && p.forward != never }):
			g.forward = never
		}
	}
	return g
}

func (p *product) is(m *model) bool { return p.major == m.major && p.minor == m.minor }

// amdTarget returns the AMD GPU of a target of its compilers.
func (t *tables) amdTarget(name, code string) *Target {
	g := &Target{Name: name, Code: code, in: t}
	if i := slices.IndexFunc(t.amd, func(m amdModel) bool { return m.code == code }); i >= 0 {
		g.known, g.amdModel = true, &t.amd[i]
	}
	g.known = g.known || t.members(code) != nil
	return g
}

// renamed returns a compute capability as CUDA 13 counts: 10.1 has become 11.0.
func renamed(major, minor int) (int, int) {
	if major == 10 && minor == 1 {
		return 11, 0
	}
	return major, minor
}

// serves says what code for one target is to a GPU.
type serves int

const (
	no      serves = iota
	perhaps        // that is not known
	jit
	native
)

// serves reports whether code runs on the GPU, as it is or compiled by the driver.
//
//   - sm_XY runs on X.Z with Z >= Y, but Jetsons and other GPUs do not run each other's;
//   - sm_XYa runs on X.Y alone, sm_XYf on its family: the same major version, from Y on;
//   - PTX runs wherever the number is not smaller, that of a and f where code for them does;
//   - AMD's runs on the same GPU, whatever the settings behind a colon, and generic code on what it stands for.
//
// What depends on a GPU that the tables do not have is not known.
func (t *Target) serves(c *Code) serves {
	if c.Kind == HIP {
		return t.servedByHIP(c.Target)
	}
	major, minor, suffix, ok := parseSM(c.Target)
	if !ok || t.amd() {
		return no
	}
	major, minor = renamed(major, minor)
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
	case how == jit && suffix == "" && (major < t.major || family):
		return jit
	case how == jit && family && t.known:
		return jit
	case family:
		return t.servedByFamily(major, minor)
	}
	return no
}

// servedByFamily is about code for an earlier GPU of the same major version.
func (t *Target) servedByFamily(major, minor int) serves {
	m := t.in.model(major, minor)
	switch {
	case m == nil || !t.known || m.kind == unsure || t.kind == unsure:
		return perhaps
	case m.kind == jetson || t.kind == jetson:
		return no
	}
	return native
}

func (t *Target) servedByHIP(code string) serves {
	name, _, _ := strings.Cut(code, ":")
	if !t.amd() {
		return no
	}
	members := t.in.members(name)
	switch {
	case name == t.Code || slices.Contains(members, t.Code):
		return native
	case name == targetSPIRV:
		return jit
	case strings.HasSuffix(name, "-generic") && members == nil:
		return perhaps
	}
	// A target that stands for several is served if each of them is.
	of := t.in.members(t.Code)
	if of != nil && !slices.ContainsFunc(of, func(m string) bool { return m != name && !slices.Contains(members, m) }) {
		return native
	}
	return no
}

// Coverage counts containers of a library by how they serve a GPU.
type Coverage struct {
	Native int `json:"native"` // with machine code for it
	JIT    int `json:"jit"`    // with PTX only
	// Maybe counts those with machine code of which it is not known whether the GPU runs it.
	Maybe int `json:"maybe,omitzero"`
	None  int `json:"none"`
	Empty int `json:"empty"` // without any code; see [Container]
}

// codeTarget returns the GPU that code is made for.
func (t *tables) codeTarget(name string) (*Target, bool) {
	if major, minor, _, ok := parseSM(name); ok {
		return t.target(name, major, minor), true
	}
	code, _, _ := strings.Cut(name, ":")
	return t.amdTarget(name, code), strings.HasPrefix(code, "gfx")
}
