package gpu

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Severity says how bad it is.
type Severity string

// Severities.
const (
	Fault   Severity = "error"   // will go wrong
	Warning Severity = "warning" // may go wrong
	Note    Severity = "note"    // goes well in our images
)

// Suspect is something that is likely to be wrong.
type Suspect struct {
	Kind     SuspectKind `json:"kind"`
	Severity Severity    `json:"severity"`
	Path     string      `json:"path"`          // in the image; of several, the first
	Tree     string      `json:"tree,omitzero"` // the store path that Path lies in
	Count    int         `json:"count"`         // of files in it that are alike
	Text     string      `json:"text"`          // one sentence without a full stop; does not repeat Path
	// Why are the store paths by whose references Tree is there, from a root on.
	// New leaves it empty: it does not know references.
	Why []string `json:"why,omitempty"`
}

// SuspectKind is a kind of suspect.
type SuspectKind string

// Kinds of suspects.
const (
	DriverInside  SuspectKind = "driver-inside"  // a library that must be that of the host
	StubsOnPath   SuspectKind = "stubs-on-path"  // a directory of stubs where libraries are looked for
	OnlyByEnv     SuspectKind = "only-by-env"    // the driver is found through LD_LIBRARY_PATH only
	PTXOnly       SuspectKind = "ptx-only"       // all code must be compiled by the driver
	OtherCPU      SuspectKind = "other-cpu"      // not for the image's CPU architecture
	MixedCUDA     SuspectKind = "mixed-cuda"     // several major versions
	HiddenCode    SuspectKind = "hidden-code"    // GPU code that cannot be read
	DamagedFile   SuspectKind = "damaged"        // an ELF file that no loader takes
	ShadowsDriver SuspectKind = "shadows-driver" // a file of the image is found before the host's
	NotReady      SuspectKind = "not-ready"      // what a framework needs to make GPU code is not there
	NoDriver      SuspectKind = "no-driver"      // no runtime brings the driver that is used
	NotInClosure  SuspectKind = "not-in-closure" // a library of CUDA's toolkit that a file needs is not there
)

// suspects collects one suspect of each kind and tree.
type suspects struct {
	r     *Report
	all   map[suspectKey]*Suspect
	order []suspectKey
}

type suspectKey struct {
	kind SuspectKind
	tree string
}

func (s *suspects) add(kind SuspectKind, severity Severity, p *placed, format string, args ...any) {
	k := suspectKey{kind, p.at}
	if s := s.all[k]; s != nil {
		s.Count++
		return
	}
	s.order = append(s.order, k)
	s.all[k] = &Suspect{kind, severity, p.path, p.at, 1, fmt.Sprintf(format, args...), nil}
}

func (r *Report) findSuspects() {
	lookups := make(map[string][]*Lookup)
	for i := range r.Lookups {
		l := &r.Lookups[i]
		lookups[l.Path] = append(lookups[l.Path], l)
	}
	s := suspects{r: r, all: make(map[suspectKey]*Suspect)}
	for i := range r.files {
		if p := &r.files[i]; p.Format == ELF {
			s.driver(p, lookups[p.path])
			s.needed(p)
			s.contents(p)
		}
	}
	for _, k := range s.order {
		r.Suspects = append(r.Suspects, *s.all[k])
	}
	r.suspectFrameworks()
	r.suspectVersions()
	rank := []Severity{Fault, Warning, Note}
	slices.SortStableFunc(r.Suspects, func(a, b Suspect) int {
		return slices.Index(rank, a.Severity) - slices.Index(rank, b.Severity)
	})
}

// driver is about what a file has to do with the driver, and how it finds it.
func (s *suspects) driver(p *placed, lookups []*Lookup) {
	if name := path.Base(p.path); (isDriver(name) || isDriver(p.Soname)) && !s.r.isCompat(p) && !s.r.isStub(p) {
		s.add(DriverInside, Fault, p, "is part of an NVIDIA driver, which must be that of the host's kernel: do not put it into an image")
	}
	for _, dir := range append(p.dirs(p.RPath), p.dirs(p.RunPath)...) {
		if hasStubs(dir) {
			s.add(StubsOnPath, Fault, p, "looks for libraries in %s: the stub of libcuda there fails with CUDA_ERROR_STUB_LIBRARY", dir)
			break
		}
	}
	for _, l := range lookups {
		switch {
		case l.Closure != "" && !isCompat(storePath(l.Closure)) && !strings.HasSuffix(path.Dir(l.Closure), "/compat"):
			s.add(ShadowsDriver, Warning, p, "finds %s in %s before that of the host", l.Library, path.Dir(l.Closure))
		case l.Bare[ByNV] == "":
			s.add(OnlyByEnv, Note, p, "finds %s only through LD_LIBRARY_PATH: it has no %s in its RUNPATH", l.Library, driverLink)
		default:
			continue
		}
		break
	}
}

// needed is about libraries of CUDA's toolkit that a file cannot be loaded without.
func (s *suspects) needed(p *placed) {
	for _, name := range p.Needed {
		if _, toolkit := s.r.tables.sonameMajor(name); toolkit && len(s.r.byName[name]) == 0 && !s.r.linkedName(name) {
			s.add(NotInClosure, Warning, p, "needs %s, which is not in the closure", name)
			return
		}
	}
}

// contents is about what is in a file.
func (s *suspects) contents(p *placed) {
	if p.Arch != s.r.Arch {
		s.add(OtherCPU, Note, p, "is for %s, and most programs are for %s", p.Arch, s.r.Arch)
	}
	if p.Damaged != "" {
		s.add(DamagedFile, Note, p, "is damaged: %s", p.Damaged)
	}
	if slices.ContainsFunc(p.Marks, hidesCode) {
		s.add(HiddenCode, Note, p, "has GPU code that cannot be read (%s)", p.Marks[slices.IndexFunc(p.Marks, hidesCode)])
	}
	if onlyPTX(p.Code) {
		s.add(PTXOnly, Warning, p, "has PTX but no machine code: the driver must compile it, "+
			"and finds its compiler, libnvidia-ptxjitcompiler, through LD_LIBRARY_PATH only")
	}
}

// suspectVersions is about several major versions of CUDA in one image.
func (r *Report) suspectVersions() {
	majors := make(map[int]CUDAVersion)
	for _, c := range r.CUDA {
		majors[c.Version.Major] = c
	}
	if len(majors) < 2 {
		return
	}
	var words []string
	for _, m := range slices.Sorted(maps.Keys(majors)) {
		words = append(words, fmt.Sprintf("%s (%s)", majors[m].Version, majors[m].Path))
	}
	last := r.CUDA[len(r.CUDA)-1]
	r.Suspects = append(r.Suspects, Suspect{MixedCUDA, Warning, last.Path, storePath(last.Path), len(majors),
		"is not the only CUDA: there are " + strings.Join(words, ", "), nil})
}

// suspectFrameworks names what is missing to make code for a GPU, in images that use one, and drivers that nobody brings.
func (r *Report) suspectFrameworks() {
	for _, f := range r.Frameworks {
		if r.Use == UseGPU && len(f.Missing) > 0 {
			r.Suspects = append(r.Suspects, Suspect{NotReady, Note, f.Path, storePath(f.Path), 1,
				"is of " + f.Name + ", which is not ready to make GPU code: " + strings.Join(f.Missing, ", ") + " not in the closure", nil})
		}
	}
	i := slices.IndexFunc(r.Interfaces, func(i Interface) bool { return i.Name == LevelZero })
	if i >= 0 && len(r.byName["libze_intel_gpu.so.1"]) == 0 {
		user := r.Interfaces[i].Users[0]
		r.Suspects = append(r.Suspects, Suspect{NoDriver, Note, user, storePath(user), len(r.Interfaces[i].Users),
			"uses Level Zero, and no runtime brings Intel's driver for it, libze_intel_gpu.so.1: it must be in the closure (intel-compute-runtime)", nil})
	}
}

// linkedName reports whether a link has the name of a library.
func (r *Report) linkedName(name string) bool {
	for abs := range r.links {
		if path.Base(abs) == name {
			return true
		}
	}
	return false
}

func onlyPTX(code []Code) bool {
	return len(code) > 0 && !slices.ContainsFunc(code, func(c Code) bool { return c.Kind == SASS || c.Kind == HIP })
}
