package gpu

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Outcome says whether an image will run.
type Outcome string

// Outcomes, from good to bad.
const (
	Runs     Outcome = "runs"
	JITOnly  Outcome = "jit"     // the driver compiles PTX first, which takes time when the program is first started
	Unknown  Outcome = "unknown" // there is code that cannot be seen, or something later than what is known here
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
	// ReachedBy is the program or extension module that loads the library, directly or not, if one does.
	ReachedBy string `json:"reachedBy,omitzero"`
}

// Demand is what an image is compared with.
type Demand struct {
	// Targets are the GPUs. Without, only the driver is looked at.
	Targets []*Target
	// Driver may be empty: then any that is new enough is assumed.
	Driver Driver
	// Waive has patterns, as of [path.Match], for names of libraries that are left out on purpose: "libcupti*".
	Waive []string
	// CPU: an image without GPU code is meant to run on the CPU.
	CPU bool
}

// Accepts reports whether there is something to compare with.
func (d *Demand) Accepts() bool { return len(d.Targets) > 0 || d.Driver != "" }

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
	v.Reasons = append(v.Reasons, Reason{Outcome: o, Path: path, Text: fmt.Sprintf(format, args...)})
	v.Outcome = worse(v.Outcome, o)
}

// Check says whether the image will run as it is demanded.
//
// A library fails if none of its containers has code for the GPU:
// kernels are often written for some GPUs only, so some containers without code are usual.
// If programs and extension modules of the image are seen to load libraries with GPU code,
// one that none of them loads does not fail it, nor does one that is there to look at programs.
//
// What is later than what is known here is judged by what is certain about it, and is else unknown:
// it neither runs nor fails for that. A nil Demand demands nothing.
func (r *Report) Check(d *Demand) *Verdict {
	if d == nil {
		d = new(Demand)
	}
	v := &Verdict{Outcome: Runs, Driver: d.Driver}
	targets := d.Targets
	if len(targets) == 0 {
		targets = []*Target{nil}
	}
	for _, t := range targets {
		c := check{Report: r, Demand: d, TargetVerdict: &TargetVerdict{Target: t, Outcome: Runs, Reasons: []Reason{}}}
		c.all()
		slices.SortStableFunc(c.Reasons, func(a, b Reason) int {
			return cmp.Compare(slices.Index(outcomes, b.Outcome), slices.Index(outcomes, a.Outcome))
		})
		v.Targets = append(v.Targets, *c.TargetVerdict)
		v.Outcome = worse(v.Outcome, c.Outcome)
	}
	return v
}

// check is the comparison with one GPU.
type check struct {
	*Report
	*Demand
	*TargetVerdict
}

func (c *check) all() {
	t := c.Target
	if t != nil && t.Arch != "" && c.Arch != "" && c.Arch != t.Arch {
		c.add(WillFail, "", "programs are for %s, and %s comes with %s", c.Arch, t.Name, t.Arch)
	}
	if c.Use != UseGPU {
		c.withoutGPU()
		return
	}
	if t == nil {
		c.driver()
		return
	}
	if !t.known {
		c.add(Unknown, "", "%s is not in the tables of %s: %s", t.Code, c.Tables.Date, laterVersion)
	}
	if !c.code() {
		c.withoutCode()
	}
	if t.amd() {
		c.rocm()
		return
	}
	c.compilers()
	c.driver()
	c.jit()
}

// laterVersion is the hint for what is later than the tables.
const laterVersion = "a later version of nix2img may know it"

// withoutGPU is about images that have nothing to do with a GPU.
func (c *check) withoutGPU() {
	text := "no GPU code: it runs on the CPU"
	if c.Use == UseOptional {
		text = "no GPU code: it runs on the CPU, and some libraries use a driver if there is one"
	}
	if c.Target != nil && !c.CPU {
		c.add(WillFail, "", "%s", text)
		return
	}
	c.add(Runs, "", "%s", text)
}

// code looks at the libraries with code of the GPU's vendor. It reports whether there are any.
func (c *check) code() bool {
	t, found := c.Target, false
	for i := range c.Report.Libraries {
		l := &c.Report.Libraries[i]
		if !l.has(t.amd()) {
			if slices.ContainsFunc(l.Marks, hidesCode) && !c.waives(l) {
				c.add(Unknown, l.Path, "has GPU code that cannot be read (%s)", l.Marks[slices.IndexFunc(l.Marks, hidesCode)])
			}
			continue
		}
		found = true
		cover := l.Coverage(t)
		c.TargetVerdict.Libraries = append(c.TargetVerdict.Libraries, Served{l.Path, cover})
		c.library(l, cover)
	}
	return found
}

// library judges a library by how it serves the GPU.
func (c *check) library(l *Library, cover Coverage) {
	t := c.Target
	all := cover.Native + cover.JIT + cover.Maybe + cover.None
	switch {
	case all == 0, cover.Native > 0 && cover.JIT == 0:
	case cover.Native > 0:
		c.add(Runs, l.Path, "%d of %d containers are compiled from PTX when they are loaded", cover.JIT, all)
	case cover.JIT > 0:
		c.add(JITOnly, l.Path, "has no machine code for %s: the driver compiles %s", t.Code, l.jitFor(t))
	case cover.Maybe > 0:
		c.add(Unknown, l.Path, "has code for %s, and whether %s runs it is not known: %s", l.Targets(t.amd()), t.Code, laterVersion)
	case slices.ContainsFunc(l.Marks, hidesCode):
		c.add(Unknown, l.Path, "has no code for %s, but GPU code that cannot be read", t.Code)
	default:
		c.unserved(l, fmt.Sprintf("has no code for %s, only for %s", t.Code, l.Targets(t.amd())))
	}
}

// unserved is about a library that will not do. Whether the image fails depends on who loads it.
func (c *check) unserved(l *Library, text string) {
	by := c.reachedBy(l.Path)
	switch {
	case c.waives(l):
		c.add(Runs, l.Path, "%s: left out on purpose", text)
		return
	case isAuxiliary(l.Path):
		c.add(Unknown, l.Path, "%s: it serves to look at programs, which run without it", text)
	case by == "" && c.seesLoading(c.Target.amd()):
		c.add(Unknown, l.Path, "%s: but no program or extension module is seen to load it", text)
	default:
		c.add(WillFail, l.Path, "%s", text)
	}
	c.Reasons[len(c.Reasons)-1].ReachedBy = by
}

// waives reports whether a library is left out on purpose.
func (c *check) waives(l *Library) bool {
	return slices.ContainsFunc(c.Waive, func(pattern string) bool {
		ok, err := path.Match(pattern, path.Base(l.Path))
		return ok && err == nil
	})
}

// withoutCode is for images in which no library has code of the GPU's vendor.
func (c *check) withoutCode() {
	t := c.Target
	if slices.ContainsFunc(c.Report.Libraries, func(l Library) bool { return l.has(!t.amd()) }) {
		vendor := map[bool]string{true: "AMD", false: "NVIDIA"}
		c.add(WillFail, "", "GPU code is for %s, and %s is of %s", vendor[!t.amd()], t.Name, vendor[t.amd()])
		return
	}
	c.add(Unknown, "", "the libraries for GPUs have no code of their own: it depends on what programs load or compile")
}

// compilers looks at what makes or hides code.
func (c *check) compilers() {
	t := c.Target
	for _, p := range c.Compilers {
		switch {
		case p.Name == "hipRTC":
		case p.Name == "TensorRT":
			c.add(Unknown, p.Path, "%s keeps its code where it cannot be seen", p.Name)
		case p.CUDA.IsZero():
			c.add(Runs, p.Path, "%s compiles code at run time; whether it knows %s is not known", p.Name, t.Code)
		case !t.known, p.CUDA.Compare(c.Tables.CUDA) > 0:
			c.add(Unknown, p.Path, "%s of CUDA %s compiles code at run time; whether it knows %s is not known: %s", p.Name, p.CUDA, t.Code, laterVersion)
		case p.CUDA.Compare(t.first) < 0:
			c.add(Unknown, p.Path, "%s compiles code at run time, but that of CUDA %s does not know %s (CUDA %s does)",
				p.Name, p.CUDA, t.Code, t.first)
		case !t.last.IsZero() && p.CUDA.Compare(t.last) > 0:
			o := Unknown
			if !slices.ContainsFunc(c.Report.Libraries, func(l Library) bool { return l.has(false) }) {
				o = WillFail
			}
			c.add(o, p.Path, "%s compiles code at run time, but that of CUDA %s no longer knows %s (CUDA %s is the last)", p.Name, p.CUDA, t.Code, t.last)
		}
	}
}

// rocm looks at whether the libraries of ROCm may know the GPU.
func (c *check) rocm() {
	m := c.Target.amdModel
	if m == nil || m.first.IsZero() {
		return
	}
	for i := range c.files {
		p := &c.files[i]
		for _, release := range c.tables.rocm {
			if p.Soname == release.hip && release.newest.Compare(m.first) < 0 {
				c.add(Unknown, p.path, "is of ROCm %d, and %s is known since ROCm %s", release.major, m.code, m.first)
			}
		}
	}
}

// driver looks at whether the driver knows GPU and CUDA.
func (c *check) driver() {
	t, driver := c.Target, c.Demand.Driver
	if driver == "" {
		return
	}
	if t != nil && t.kind == jetson {
		c.add(Runs, "", "the driver of %s comes with Jetson Linux and counts otherwise: its version was not looked at", t.Name)
		return
	}
	effective := c.effective()
	if effective != driver {
		c.add(Runs, "", "cuda_compat in the image brings driver %s (forward compatibility)", effective)
	}
	if t != nil && !c.drivesGPU(effective) {
		return
	}
	for _, v := range c.CUDA {
		c.runsCUDA(v, effective)
	}
	c.withoutVersion(effective)
	c.zstd(effective)
}

// withoutVersion is about code that was made with a CUDA that nothing tells, or that is later than the tables.
func (c *check) withoutVersion(driver Driver) {
	newest := c.tables.floors[len(c.tables.floors)-1]
	made := slices.ContainsFunc(c.Report.Libraries, func(l Library) bool { return l.has(false) && !c.waives(&l) })
	if made && len(c.CUDA) == 0 && c.tables.atLeast(driver, newest.driver) != surely {
		c.add(Unknown, "", "with which CUDA its code was made is not known: that of %d needs driver %s", newest.major, newest.driver)
	}
	if len(c.CUDA) > 0 && c.CUDA[len(c.CUDA)-1].Version.Compare(c.Tables.CUDA) > 0 {
		return // that has been judged
	}
	for i := range c.Report.Libraries {
		l := &c.Report.Libraries[i]
		if k := slices.IndexFunc(l.Code, func(code Code) bool { return !code.ISA.IsZero() && c.tables.toolkit(code.ISA).IsZero() }); k >= 0 && !c.waives(l) {
			c.add(Unknown, l.Path, "has PTX of version %s, of a CUDA later than the tables of %s: %s", l.Code[k].ISA, c.Tables.Date, laterVersion)
			return
		}
	}
}

// drivesGPU judges whether the driver knows the GPU. It returns false if not.
func (c *check) drivesGPU(driver Driver) bool {
	t := c.Target
	known, tooOld := c.tables.drives(driver, t)
	switch {
	case known == surely:
	case known == maybe && t.known && t.model.driver == "":
		c.add(Unknown, "", "which drivers know %s is not known: %s", t.Code, laterVersion)
	case known == maybe && t.known && driver.branch() > c.Tables.Driver.branch():
		c.add(Unknown, "", "driver %s is later than the tables of %s: whether it still knows %s, %s", driver, c.Tables.Date, t.Code, laterVersion)
	case known == maybe && t.known:
		c.add(Unknown, "", "which driver of %s is not said: %s is the first that knows %s", driver, t.model.driver, t.Code)
	case known == never && tooOld:
		c.add(WillFail, "", "driver %s does not know %s: %s is the first", driver, t.Code, t.model.driver)
	case known == never:
		c.add(WillFail, "", "driver %s no longer knows %s: R%d is the last branch that does", driver, t.Code, t.lastBranch)
	}
	return known != never
}

// runsCUDA judges whether the driver runs what was made with a version of CUDA.
func (c *check) runsCUDA(v CUDAVersion, driver Driver) {
	code, all := c.tables.runs(driver, v.Version)
	is := v.Version.String()
	floor := c.tables.floor(v.Version.Major)
	if v.vague() {
		is = strconv.Itoa(v.Version.Major)
		if floor != "" {
			code = c.tables.atLeast(driver, floor)
		}
	}
	switch {
	case code == surely && all != never:
	case code == surely:
		sure, _, _ := c.tables.knows(driver)
		c.add(Runs, v.Path, "is of CUDA %s, and driver %s of CUDA %s: code for the GPU runs (minor version compatibility), PTX of that version does not",
			is, driver, sure.cuda)
	case code == maybe && floor != "":
		c.add(Unknown, v.Path, "is of CUDA %s, which needs driver %s: which driver of %s is not said", is, floor, driver)
	case code == maybe:
		c.add(Unknown, v.Path, "is of CUDA %s, and whether driver %s runs that is not known: %s", is, driver, laterVersion)
	case c.Report.Driver.Compat != "" && (c.Target == nil || c.Target.forward == maybe):
		c.add(Unknown, v.Path, "is of CUDA %s, which needs driver %s; cuda_compat brings %s, for GPUs of data centres only", is, floor, c.Report.Driver.Compat)
	case floor == "":
		c.add(WillFail, v.Path, "is of CUDA %s, which needs a driver of that major version: %s is too old", is, driver)
	default:
		c.add(WillFail, v.Path, "is of CUDA %s, which needs driver %s: %s is too old", is, floor, driver)
	}
}

// effective returns the driver whose libraries are used: that of the image, if it has a newer one for this GPU.
func (c *check) effective() Driver {
	compat := c.Report.Driver.Compat
	if compat != "" && c.tables.atLeast(c.Demand.Driver, compat) != surely && c.Target != nil && c.Target.forward == surely {
		return compat
	}
	return c.Demand.Driver
}

// zstd looks at whether the driver expands what is compressed with zstd.
func (c *check) zstd(driver Driver) {
	rule := c.tables.zstd
	takes := c.tables.atLeast(driver, rule.driver)
	if takes == surely {
		return
	}
	for i := range c.Report.Libraries {
		l := &c.Report.Libraries[i]
		packed, all := l.packed(c.Target)
		if packed == 0 || c.waives(l) {
			continue
		}
		text := fmt.Sprintf("is compressed with zstd, which needs driver %s: %s is too old", rule.driver, driver)
		switch {
		case takes == maybe:
			c.add(Unknown, l.Path, "is compressed with zstd, which needs driver %s: which driver of %s is not said", rule.driver, driver)
		case packed < all:
			c.add(Unknown, l.Path, "%s, in part", text)
		case c.Target == nil:
			c.add(WillFail, l.Path, "%s", text)
		default:
			c.unserved(l, text)
		}
	}
}

// jit looks at whether the driver can compile the PTX that has to be compiled.
// Minor version compatibility does not help here.
func (c *check) jit() {
	if c.Demand.Driver == "" || c.Target.kind == jetson {
		return
	}
	driver := c.effective()
	sure, _, _ := c.tables.knows(driver)
	for i := range c.Report.Libraries {
		l := &c.Report.Libraries[i]
		cover := l.Coverage(c.Target)
		if cover.JIT == 0 || c.waives(l) { // nor if it is of the other vendor
			continue
		}
		needed := l.jitISA(c.Target)
		can := c.tables.compiles(driver, needed)
		text := fmt.Sprintf("its PTX is of version %s%s, which driver %s (CUDA %s) cannot compile", needed, c.madeWith(needed), driver, sure.cuda)
		switch {
		case can == surely:
		case can == maybe:
			c.add(Unknown, l.Path, "its PTX is of version %s%s, and whether driver %s can compile it is not known: %s", needed, c.madeWith(needed), driver, laterVersion)
		case cover.Native > 0:
			c.add(Unknown, l.Path, "some of %s", text)
		default:
			c.unserved(l, text)
		}
	}
}

// madeWith names the CUDA of a version of PTX, if it is known.
func (c *check) madeWith(isa Version) string {
	if cuda := c.tables.toolkit(isa); !cuda.IsZero() {
		return " (CUDA " + cuda.String() + ")"
	}
	return ""
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
		case c.Kind == HIP && amd && l.lists != nil && !slices.Contains(l.lists, c.Target):
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
