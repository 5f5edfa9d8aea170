package image

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
)

// shieldDir is where an image has links to those of its libraries that the host's must not replace.
const shieldDir = "/.nix2img/shield"

// What --nv and --rocm bind from the host beside the driver itself:
// libraries that the closure may have as well, and that must then be the closure's.
// These are names in nvliblist.conf and rocmliblist.conf of SingularityCE 4.5.1 and Apptainer 1.5.3,
// which stand for all libraries that have them before .so.
// Of NVIDIA's list, those that belong to the driver are not here: they must be the host's.
var (
	nvNames = []string{
		"libEGL", "libGL", "libGLESv1_CM", "libGLESv2", "libGLX", "libGLdispatch", "libOpenCL", "libOpenGL",
	}
	rocmNames = []string{
		"libCXLActivityLogger", "libMIOpen", "libOpenCL", "libamd_comgr", "libamdcomgr64", "libamdocl64", "libcltrace",
		"libcomgr", "libdrm", "libdrm_amdgpu", "libelf", "libhc_am", "libhip_hcc", "libhipblas", "libhiprand",
		"libhsa-runtime64", "libhsakmt", "libmcwamp", "libmcwamp_cpu", "libmcwamp_hsa", "libmiopengemm", "libnuma",
		"libpci", "librccl", "librocblas", "librocfft", "librocfft-device", "librocr_debug_agent64", "librocrand",
	}
)

// A library is a shared library in the closure, for the image's architecture.
type library struct {
	*gpu.File
	object closure.Path
	path   string // absolute
}

// version returns the numbers in what follows .so. in the name of the file.
func (l *library) version() []int {
	_, version, _ := strings.Cut(path.Base(l.path), ".so.")
	return numbers(version)
}

// newer orders libraries by age, the newest first:
// by the version in the file's name, then by that in the object's. The path decides between equals.
func newer(a, b library) int {
	return cmp.Or(
		slices.Compare(b.version(), a.version()),
		slices.Compare(packageVersion(b.object), packageVersion(a.object)),
		cmp.Compare(a.path, b.path),
	)
}

// packageVersion returns the numbers in the version of an object, as far as its name has one.
func packageVersion(p closure.Path) []int {
	return numbers(strings.TrimPrefix(p.Name(), packageName(p.Name())))
}

// numbers returns the numbers in a text.
func numbers(s string) []int {
	var list []int
	for _, digits := range strings.FieldsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits) // the largest int if there are too many
		list = append(list, n)
	}
	return list
}

// libraries returns the shared libraries with a soname that accept likes.
// Stubs, which are there to link programs with, do not count.
func (r *Resolved) libraries(accept func(soname string) bool) ([]library, error) {
	var libs []library
	for _, p := range r.store.byName {
		facts := r.facts[p]
		for i := range facts.Files {
			f := &facts.Files[i]
			if f.Format != gpu.ELF || f.Arch != r.Arch || !accept(f.Soname) || path.Base(path.Dir(f.Path)) == "stubs" {
				continue
			}
			l := library{f, p, path.Join(string(p), f.Path)}
			// A name that is not UTF-8 has been changed.
			if ok, err := r.store.exists(l.path, false); err != nil {
				return nil, err
			} else if ok {
				libs = append(libs, l)
			}
		}
	}
	return libs, nil
}

// isSoname reports whether a link can have the name.
func isSoname(name string) bool {
	return strings.Contains(name, ".so") && !strings.Contains(name, "/") && checkText(name) == ""
}

// A libraryLink is a link from a soname to a library.
type libraryLink struct{ soname, path string }

// newest returns a link to the newest library of each soname, sorted,
// and tells several about those that have been chosen from n.
func newest(libs []library, several func(l library, n int)) []libraryLink {
	slices.SortFunc(libs, func(a, b library) int { return cmp.Or(cmp.Compare(a.Soname, b.Soname), newer(a, b)) })
	var links []libraryLink
	for len(libs) > 0 {
		first, n := libs[0], 1
		for n < len(libs) && libs[n].Soname == first.Soname {
			n++
		}
		if n > 1 {
			several(first, n)
		}
		links = append(links, libraryLink{first.Soname, first.path})
		libs = libs[n:]
	}
	return links
}

// resolveShield finds the libraries that the host's must not replace.
//
// LD_LIBRARY_PATH goes before what a program's RUNPATH says, so all programs get those.
// Of several with one soname it takes the newest, as that serves programs that were linked with an older one.
func (r *Resolved) resolveShield() error {
	libs, err := r.libraries(func(soname string) bool {
		stem, _, ok := strings.Cut(soname, ".so")
		return ok && isSoname(soname) && (r.NV && slices.Contains(nvNames, stem) || r.ROCm && slices.Contains(rocmNames, stem))
	})
	if err != nil {
		return err
	}
	r.shield = newest(libs, func(l library, n int) {
		r.note("the closure has %d libraries %s: where there is a GPU driver, all programs use %s", n, l.Soname, l.path)
	})
	return nil
}

// addLibraries adds the folders of links.
func (r *Resolved) addLibraries(t *baseTree) {
	add := func(dir string, links []libraryLink) {
		for _, l := range links {
			t.symlink(strings.TrimPrefix(dir, "/")+"/"+l.soname, l.path)
		}
	}
	add(shieldDir, r.shield)
	if r.compat != nil {
		add(compatDir, r.compat.links)
	}
}
