package gpu

import (
	"path"
	"slices"
	"strings"
)

// Runtimes that bring a driver into a container, each to other directories.
const (
	ByNV   = "nv"    // singularity and apptainer --nv: /.singularity.d/libs
	ByHook = "hook"  // NVIDIA's hook, enroot, --nvccli: /usr/lib64 or /usr/lib/x86_64-linux-gnu
	ByCDI  = "cdi"   // CDI: the directory of the host
	ByLink = "nixos" // NixOS, without a container: /run/opengl-driver/lib
)

// Runtimes has all of them.
var Runtimes = []string{ByNV, ByHook, ByCDI, ByLink}

const driverLink = "/run/opengl-driver/lib"

var fhsDirs = []string{
	"/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu/nvidia", "/usr/lib/aarch64-linux-gnu/tegra",
	"/usr/lib", "/usr/lib64/nvidia", "/usr/lib/nvidia", "/usr/local/nvidia/lib64",
	"/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/aarch64-linux-gnu/nvidia/current",
}

// driverDirs has the directories where each leaves the driver,
// in an image where the link of NixOS leads to /.singularity.d/libs.
var driverDirs = map[string][]string{
	ByNV:   {"/.singularity.d/libs", driverLink},
	ByHook: fhsDirs,
	ByCDI:  fhsDirs,
	ByLink: {driverLink},
}

// Way is a way in which the loader finds a library. It is empty if it does not.
type Way string

// Ways, in the order in which glibc's loader goes them.
const (
	WayRPath   Way = "RPATH"           // DT_RPATH of the file, or of one that loads it
	WayEnv     Way = "LD_LIBRARY_PATH" // set by the image's environment script
	WayRunPath Way = "RUNPATH"         // DT_RUNPATH of the file
	WayCache   Way = "ld.so.cache"     // and the default directories; programs of Nix look elsewhere
	WayClosure Way = "closure"         // there is one in the image, which comes first
)

// Lookup says how one file finds one library of NVIDIA's driver.
type Lookup struct {
	Path    string `json:"path"`
	Library string `json:"library"`
	Linked  bool   `json:"linked"` // by DT_NEEDED, and not by name
	// Script has the ways by runtime, if LD_LIBRARY_PATH names the directories of the driver,
	// as the environment script of our images sees to. Bare has them without that.
	Script map[string]Way `json:"script"`
	Bare   map[string]Way `json:"bare"`
	// Closure is the path of the file in the image, if a way is [WayClosure].
	Closure string `json:"closure,omitzero"`
}

// driverLibraries begin the names of the libraries that come with NVIDIA's driver and fit one kernel module only.
var driverLibraries = []string{
	"libcuda.so", "libcudadebugger.so", "libnvidia-", "libnvcuvid.so", "libnvoptix.so", "libGLX_nvidia.so", "libEGL_nvidia.so",
}

// otherNvidia begin the names of libraries that look like those of a driver, but go their own way.
var otherNvidia = []string{"libnvidia-container", "libnvidia-egl-wayland", "libnvidia-egl-gbm", "libnvidia-egl-xcb", "libnvidia-egl-xlib"}

// isDriver reports whether a library comes with NVIDIA's driver.
func isDriver(name string) bool {
	begins := func(prefix string) bool { return strings.HasPrefix(name, prefix) }
	return slices.ContainsFunc(driverLibraries, begins) && !slices.ContainsFunc(otherNvidia, begins)
}

// resolve finds out which file of the image loads which, by DT_NEEDED.
func (r *Report) resolve() {
	for i := range r.files {
		p := &r.files[i]
		for _, name := range p.Needed {
			if q := r.find(p, name); q != nil {
				p.needs = append(p.needs, q)
				q.loaders = append(q.loaders, p)
			}
		}
	}
}

// find returns the library of a name that a file loads: of those in its RPATH and RUNPATH the first,
// else the only one in the image that has this name.
func (r *Report) find(p *placed, name string) *placed {
	for _, dir := range append(p.dirs(p.RPath), p.dirs(p.RunPath)...) {
		abs := path.Join(dir, name)
		for range 8 { // links
			if q := r.byPath[abs]; q != nil {
				return q
			}
			target, ok := r.links[abs]
			if !ok {
				break
			}
			if !path.IsAbs(target) {
				target = path.Join(path.Dir(abs), target)
			}
			abs = target
		}
	}
	if list := r.byName[name]; len(list) == 1 {
		return list[0]
	}
	return nil
}

// dirs takes an RPATH or RUNPATH apart.
func (p *placed) dirs(list string) []string {
	if list == "" {
		return nil
	}
	origin := strings.NewReplacer("$ORIGIN", p.dir(), "${ORIGIN}", p.dir())
	var dirs []string
	for _, dir := range strings.Split(list, ":") {
		if dir != "" {
			dirs = append(dirs, path.Clean(origin.Replace(dir)))
		}
	}
	return dirs
}

// rpath returns the directories of DT_RPATH that hold for what a file loads:
// its own, then those of the files that load it, if they have no DT_RUNPATH.
// It is empty if the file has a DT_RUNPATH.
func (p *placed) rpath() []string {
	if p.RunPath != "" {
		return nil
	}
	var dirs []string
	seen := map[*placed]bool{p: true}
	for todo := []*placed{p}; len(todo) > 0; todo = todo[1:] {
		q := todo[0]
		if q.RunPath == "" {
			dirs = append(dirs, q.dirs(q.RPath)...)
		}
		for _, l := range q.loaders {
			if !seen[l] {
				seen[l] = true
				todo = append(todo, l)
			}
		}
	}
	return dirs
}

// findLookups goes the ways of the loader, for every file and every library of the driver that it needs.
func (r *Report) findLookups() {
	for i := range r.files {
		p := &r.files[i]
		add := func(name string, linked bool) {
			if !isDriver(name) || r.isStub(p) || r.isCompat(p) || isDriver(path.Base(p.path)) {
				return
			}
			l := Lookup{Path: p.path, Library: name, Linked: linked, Script: make(map[string]Way), Bare: make(map[string]Way)}
			rpath, runpath := p.rpath(), p.dirs(p.RunPath)
			for _, rt := range Runtimes {
				l.Script[rt] = r.way(&l, rt, rpath, runpath, true)
				l.Bare[rt] = r.way(&l, rt, rpath, runpath, false)
			}
			r.Lookups = append(r.Lookups, l)
		}
		for _, name := range p.Needed {
			add(name, true)
		}
		for _, name := range p.Names {
			// Whoever has both names tries both.
			if !strings.HasSuffix(name, ".so") || !slices.ContainsFunc(p.Names, func(s string) bool { return strings.HasPrefix(s, name+".") }) {
				add(name, false)
			}
		}
	}
}

// way returns how a library is found under a runtime.
func (r *Report) way(l *Lookup, runtime string, rpath, runpath []string, script bool) Way {
	search := func(dirs []string, way Way) Way {
		for _, dir := range dirs {
			if slices.Contains(driverDirs[runtime], dir) {
				return way
			}
			if abs := path.Join(dir, l.Library); r.inDirs[abs] {
				l.Closure = abs
				return WayClosure
			}
		}
		return ""
	}
	if way := search(rpath, WayRPath); way != "" {
		return way
	}
	if script && runtime != ByLink {
		return WayEnv
	}
	if way := search(runpath, WayRunPath); way != "" {
		return way
	}
	if r.fhs && (runtime == ByHook || runtime == ByCDI) {
		return WayCache
	}
	return ""
}

// isStub reports whether a file is one of the libraries that programs are linked with where there is no driver.
func (r *Report) isStub(p *placed) bool { return hasStubs(p.dir()) }

func hasStubs(dir string) bool { return slices.Contains(strings.Split(dir, "/"), "stubs") }
