package gpu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Outcome says whether an image will run.
type Outcome string

// Outcomes, from good to bad.
const (
	Runs     Outcome = "runs"
	JITOnly  Outcome = "jit"     // the driver compiles PTX first, which takes time when the program is first started
	Unknown  Outcome = "unknown" // there is code that cannot be seen
	WillFail Outcome = "fails"
)

var outcomes = []Outcome{Runs, JITOnly, Unknown, WillFail}

func worse(a, b Outcome) Outcome {
	return outcomes[max(slices.Index(outcomes, a), slices.Index(outcomes, b))]
}

// Reason says why.
type Reason struct {
	Outcome Outcome `json:"outcome"`
	Path    string  `json:"path,omitzero"` // of the library in the image
	Text    string  `json:"text"`          // one sentence without a full stop; does not repeat Path
}

// TargetVerdict is the verdict for one GPU, or for a driver with no GPU named.
type TargetVerdict struct {
	Target  *Target  `json:"target,omitempty"`
	Outcome Outcome  `json:"outcome"` // the worst of its reasons
	Reasons []Reason `json:"reasons"` // the worst first
	// Libraries says how the libraries with code of the GPU's vendor serve it, by path.
	Libraries []Served `json:"libraries,omitempty"`
}

// Served says how one library serves a GPU.
type Served struct {
	Path string `json:"path"`
	Coverage
}

// Name returns the name of the GPU, or that of the driver if no GPU was named.
func (v *TargetVerdict) Name() string {
	if v.Target == nil {
		return "this driver"
	}
	return v.Target.Name
}

// Verdict says whether an image will run on some GPUs with a driver.
type Verdict struct {
	Outcome Outcome         `json:"outcome"` // the worst
	Driver  Driver          `json:"driver,omitzero"`
	Targets []TargetVerdict `json:"targets"`
}

func (v *TargetVerdict) add(o Outcome, path, format string, args ...any) {
	v.Reasons = append(v.Reasons, Reason{o, path, fmt.Sprintf(format, args...)})
	v.Outcome = worse(v.Outcome, o)
}

// Check says whether the image will run on each of the GPUs.
// The driver may be empty: then any that is new enough is assumed.
// Without targets, only the driver is looked at.
//
// A library fails if none of its containers has code for the GPU:
// kernels are often written for some GPUs only, so some containers without code are usual.
func (r *Report) Check(targets []*Target, driver Driver) *Verdict {
	v := &Verdict{Outcome: Runs, Driver: driver}
	if len(targets) == 0 {
		targets = []*Target{nil}
	}
	for _, t := range targets {
		tv := TargetVerdict{Target: t, Outcome: Runs, Reasons: []Reason{}}
		r.check(&tv, driver)
		slices.SortStableFunc(tv.Reasons, func(a, b Reason) int {
			return cmp.Compare(slices.Index(outcomes, b.Outcome), slices.Index(outcomes, a.Outcome))
		})
		v.Targets = append(v.Targets, tv)
		v.Outcome = worse(v.Outcome, tv.Outcome)
	}
	return v
}

func (r *Report) check(v *TargetVerdict, driver Driver) {
	t := v.Target
	if t != nil && t.Arch != "" && r.Arch != "" && r.Arch != t.Arch {
		v.add(WillFail, "", "programs are for %s, and %s comes with %s", r.Arch, t.Name, t.Arch)
	}
	if r.Use != UseGPU {
		text := "no GPU code: it runs on the CPU"
		if r.Use == UseOptional {
			text = "no GPU code: it runs on the CPU, and some libraries use a driver if there is one"
		}
		v.add(Runs, "", "%s", text)
		return
	}
	if t == nil {
		r.checkDriver(v, driver)
		return
	}
	if !r.checkCode(v) {
		r.checkWithoutCode(v)
	}
	r.checkCompilers(v)
	if !t.amd() {
		r.checkDriver(v, driver)
		r.checkJIT(v, driver)
	}
}

// checkCode looks at the libraries with code of the GPU's vendor. It reports whether there are any.
func (r *Report) checkCode(v *TargetVerdict) bool {
	t, found := v.Target, false
	for i := range r.Libraries {
		l := &r.Libraries[i]
		if !l.has(t.amd()) {
			if slices.ContainsFunc(l.Marks, hidesCode) {
				v.add(Unknown, l.Path, "has GPU code that cannot be read (%s)", l.Marks[0])
			}
			continue
		}
		found = true
		c := l.Coverage(t)
		v.Libraries = append(v.Libraries, Served{l.Path, c})
		all := c.Native + c.JIT + c.None
		switch {
		case c.Native > 0 && c.JIT > 0:
			v.add(Runs, l.Path, "%d of %d containers are compiled from PTX when they are loaded", c.JIT, all)
		case c.Native > 0:
		case c.JIT > 0:
			v.add(JITOnly, l.Path, "has no machine code for %s: the driver compiles %s", t.Code, l.jitFor(t))
		case slices.ContainsFunc(l.Marks, hidesCode):
			v.add(Unknown, l.Path, "has no code for %s, but GPU code that cannot be read", t.Code)
		default:
			v.add(WillFail, l.Path, "has no code for %s, only for %s", t.Code, l.Targets(t.amd()))
		}
	}
	return found
}

// checkWithoutCode is for images in which no library has code of the GPU's vendor.
func (r *Report) checkWithoutCode(v *TargetVerdict) {
	if slices.ContainsFunc(r.Libraries, func(l Library) bool { return l.has(!v.Target.amd()) }) {
		vendor := map[bool]string{true: "AMD", false: "NVIDIA"}
		v.add(WillFail, "", "GPU code is for %s, and %s is of %s", vendor[!v.Target.amd()], v.Target.Name, vendor[v.Target.amd()])
		return
	}
	v.add(Unknown, "", "the libraries for GPUs have no code of their own: it depends on what programs load or compile")
}

// checkCompilers looks at what makes or hides code.
func (r *Report) checkCompilers(v *TargetVerdict) {
	for _, c := range r.Compilers {
		switch {
		case c.Name == "hipRTC" || v.Target.amd():
		case c.Name == "TensorRT":
			v.add(Unknown, c.Path, "%s keeps its code where it cannot be seen", c.Name)
		case c.CUDA.IsZero():
			v.add(Runs, c.Path, "%s compiles code at run time; whether it knows %s is not known", c.Name, v.Target.Code)
		case c.CUDA.Compare(v.Target.cuda) < 0:
			v.add(Unknown, c.Path, "%s compiles code at run time, but that of CUDA %s does not know %s (CUDA %s does)",
				c.Name, c.CUDA, v.Target.Code, v.Target.cuda)
		}
	}
}

// checkDriver looks at whether the driver knows GPU and CUDA.
func (r *Report) checkDriver(v *TargetVerdict, driver Driver) {
	t := v.Target
	if driver == "" {
		return
	}
	if t != nil && t.jetson {
		v.add(Runs, "", "the driver of %s comes with Jetson Linux and counts otherwise: its version was not looked at", t.Name)
		return
	}
	effective := r.effective(t, driver)
	if effective != driver {
		v.add(Runs, "", "cuda_compat in the image brings driver %s (forward compatibility)", effective)
	}
	if t != nil {
		if first, _ := drivers(t.cuda); effective.Compare(first) < 0 {
			v.add(WillFail, "", "driver %s does not know %s: %s is the first", driver, t.Code, first)
			return
		}
	}
	for _, c := range r.CUDA {
		first, floor := drivers(c.Version)
		cuda, _ := driverCUDA(effective)
		switch {
		case first == "" || effective.Compare(first) >= 0:
		case effective.Compare(floor) >= 0:
			v.add(Runs, c.Path, "is of CUDA %s, and driver %s of CUDA %s: code for the GPU runs (minor version compatibility), PTX of that version does not",
				c.Version, effective, cuda)
		case r.Driver.Compat != "" && (t == nil || !t.dataCenter):
			v.add(Unknown, c.Path, "is of CUDA %s, which needs driver %s; cuda_compat brings %s, for GPUs of data centres only",
				c.Version, floor, r.Driver.Compat)
		default:
			v.add(WillFail, c.Path, "is of CUDA %s, which needs driver %s: %s is too old", c.Version, floor, driver)
		}
	}
}

// effective returns the driver whose libraries are used: that of the image, if it has a newer one for this GPU.
func (r *Report) effective(t *Target, driver Driver) Driver {
	if r.Driver.Compat.Compare(driver) > 0 && t != nil && t.dataCenter {
		return r.Driver.Compat
	}
	return driver
}

// checkJIT looks at whether the driver can compile the PTX that has to be compiled.
// Minor version compatibility does not help here.
func (r *Report) checkJIT(v *TargetVerdict, driver Driver) {
	if driver == "" || v.Target.jetson {
		return
	}
	driver = r.effective(v.Target, driver)
	cuda, isa := driverCUDA(driver)
	for i := range r.Libraries {
		l := &r.Libraries[i]
		c := l.Coverage(v.Target)
		if c.JIT == 0 { // nor if it is of the other vendor
			continue
		}
		needed := l.jitISA(v.Target)
		if needed.Compare(isa) <= 0 {
			continue
		}
		o, text := WillFail, "its PTX is of version %s (CUDA %s), which driver %s (CUDA %s) cannot compile"
		if c.Native > 0 {
			o, text = Unknown, "some of "+text
		}
		v.add(o, l.Path, text, needed, toolkit(needed), driver, cuda)
	}
}

// jitRows returns the rows that the driver compiles for a GPU: of each container that needs it, the one for the newest GPU.
func (l *Library) jitRows(t *Target) []int {
	var rows []int
	for i := range l.containers {
		c := &l.containers[i]
		if c.Empty || l.containerServes(t, c) != jit {
			continue
		}
		best := -1
		for _, row := range c.Code {
			if t.serves(&l.Code[row]) == jit && (best < 0 || compareTargets(l.Code[best].Target, l.Code[row].Target) <= 0) {
				best = row
			}
		}
		if !slices.Contains(rows, best) {
			rows = append(rows, best)
		}
	}
	slices.Sort(rows)
	return rows
}

// jitFor names what the driver compiles.
func (l *Library) jitFor(t *Target) string {
	var words []string
	for _, row := range l.jitRows(t) {
		c := l.Code[row]
		words = append(words, map[Kind]string{PTXCode: "PTX", LTO: "LTO IR", HIP: "SPIR-V"}[c.Kind]+" of "+c.Target)
	}
	return strings.Join(words, ", ")
}

// jitISA returns the newest version of PTX in what the driver compiles.
func (l *Library) jitISA(t *Target) (isa Version) {
	for _, row := range l.jitRows(t) {
		isa = later(isa, l.Code[row].ISA)
	}
	return isa
}

// Targets lists what a library has code for, as "sm_70 sm_80 and PTX of sm_80".
func (l *Library) Targets(amd bool) string {
	var code, ptx []string
	for _, c := range l.Code {
		switch {
		case c.Kind == HIP && amd, c.Kind == SASS && !amd:
			code = append(code, c.Target)
		case (c.Kind == PTXCode || c.Kind == LTO) && !amd && !slices.Contains(ptx, c.Target):
			ptx = append(ptx, c.Target)
		}
	}
	s := strings.Join(code, " ")
	if len(ptx) > 0 {
		if s != "" {
			s += " and "
		}
		s += "PTX of " + strings.Join(ptx, " ")
	}
	return s
}
