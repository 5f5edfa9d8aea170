package gpu

import "slices"

// Summary is what is kept in an image about its use of GPUs. It has few fields, and they stay as they are.
type Summary struct {
	Use  Use      `json:"use"`
	CUDA []string `json:"cuda,omitempty"` // versions, the oldest first: "12.4"
	// SASS and HIP are the targets, of those that some library has machine code for,
	// that every library with code of that vendor serves: "sm_80", "gfx90a".
	SASS []string `json:"sass,omitempty"`
	HIP  []string `json:"hip,omitempty"`
	// PTX is the lowest target from which on every GPU is served: later ones by compiling PTX.
	// It is empty if a library has none, so that it will not run on later GPUs.
	PTX string `json:"ptx,omitzero"`
	// Driver is the first driver that knows all of the newest CUDA, MinDriver the first that runs
	// code for the very GPU; see [DriverNeeds].
	Driver    Driver `json:"driver,omitzero"`
	MinDriver Driver `json:"minDriver,omitzero"`
}

// Summary makes a summary of a report.
func (r *Report) Summary() *Summary {
	s := &Summary{Use: r.Use, Driver: r.Driver.Native, MinDriver: r.Driver.Minimum}
	for _, c := range r.CUDA {
		s.CUDA = append(s.CUDA, c.Version.String())
	}
	s.SASS, s.HIP = r.common(SASS), r.common(HIP)
	// Each library compiles its PTX from its own lowest target on.
	for i := range r.Libraries {
		l := &r.Libraries[i]
		if !l.has(false) {
			continue
		}
		first := ""
		for _, c := range l.Code {
			if _, _, suffix, ok := parseSM(c.Target); ok && suffix == "" && c.Kind == PTXCode &&
				(first == "" || compareTargets(c.Target, first) < 0) {
				first = c.Target
			}
		}
		if first == "" {
			s.PTX = ""
			break
		}
		if s.PTX == "" || compareTargets(first, s.PTX) > 0 {
			s.PTX = first
		}
	}
	return s
}

// common returns the targets of a kind of code that every library with code of the vendor serves natively.
func (r *Report) common(kind Kind) []string {
	var targets []string
	for i := range r.Libraries {
		for _, c := range r.Libraries[i].Code {
			if c.Kind == kind && !slices.Contains(targets, c.Target) {
				targets = append(targets, c.Target)
			}
		}
	}
	slices.SortFunc(targets, compareTargets)
	return slices.DeleteFunc(targets, func(name string) bool {
		t, ok := r.tables.codeTarget(name)
		if !ok {
			return true
		}
		return slices.ContainsFunc(r.Libraries, func(l Library) bool { return l.has(kind == HIP) && l.Coverage(t).Native == 0 })
	})
}
