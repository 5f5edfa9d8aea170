package gpu

import (
	"path"
	"slices"
	"strings"
)

// auxiliary begin the names of libraries that serve to look at programs, such as profilers. Programs run without them.
var auxiliary = []string{"libcupti", "libnvperf_", "libpcsamplingutil", "libcheckpoint", "libroctracer", "librocprofiler"}

func isAuxiliary(abs string) bool {
	return slices.ContainsFunc(auxiliary, func(prefix string) bool { return strings.HasPrefix(path.Base(abs), prefix) })
}

// starts reports whether a file is where loading begins: a program, or an extension module,
// which an interpreter loads by its path. Libraries for others have names that begin with lib.
func (p *placed) starts() bool {
	return p.Format == ELF && (p.Interp != "" || !strings.HasPrefix(path.Base(p.path), "lib"))
}

// findReach finds out which programs and extension modules load which files:
// by DT_NEEDED, or by a name in their data, which the loader would look for among all that is in the image.
func (r *Report) findReach() {
	r.reached = make(map[string]string)
	for i := range r.files {
		first := &r.files[i]
		if !first.starts() || r.reached[first.path] != "" {
			continue
		}
		r.reached[first.path] = first.path
		for todo := []*placed{first}; len(todo) > 0; todo = todo[1:] {
			loaded := todo[0].needs
			for _, name := range todo[0].Names {
				loaded = append(loaded[:len(loaded):len(loaded)], r.byName[name]...)
			}
			for _, p := range loaded {
				if r.reached[p.path] == "" {
					r.reached[p.path] = first.path
					todo = append(todo, p)
				}
			}
		}
	}
}

// reachedBy returns the program or extension module that loads a library, or "".
// Loose files are loaded by their path.
func (r *Report) reachedBy(abs string) string { return r.reached[abs] }

// seesLoading reports whether something is seen to load a library with code of a vendor.
// If not, it is done in another way.
func (r *Report) seesLoading(amd bool) bool {
	return slices.ContainsFunc(r.Libraries, func(l Library) bool { return l.has(amd) && r.reached[l.Path] != "" })
}
