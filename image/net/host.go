package net

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// HostPart is something that programs want of a host. Containers have it only if it is bound, or allowed.
type HostPart struct {
	Path string `json:"path"` // of a device or folder, with * for a number; or "memlock", which is a limit
	Why  string `json:"why"`
}

// findHost lists what belongs to what the image has.
func (r *Report) findHost() {
	add := func(name, why string) {
		if !slices.ContainsFunc(r.Host, func(h HostPart) bool { return h.Path == name }) {
			r.Host = append(r.Host, HostPart{name, why})
		}
	}
	uses := func(software Software, base string) bool {
		return slices.ContainsFunc(r.files, func(p *placed) bool { return p.Software == software && strings.HasPrefix(path.Base(p.path), base) })
	}
	if len(r.MPI) > 0 || len(r.Collectives) > 0 {
		add("/dev/shm", "processes of one node exchange messages in memory that they share")
	}
	if r.Summary() == nil {
		return
	}
	if uses(Verbs, "") {
		add("/dev/infiniband", "libibverbs opens the network's devices there")
		add("memlock", "RDMA needs memory that stays where it is: ulimit -l unlimited")
	}
	if uses(FabricDriver, "libcxi.") || slices.ContainsFunc(r.Libfabric, func(f Libfabrics) bool { return f.has("cxi") }) {
		add("/dev/cxi*", "libcxi opens Slingshot's devices there")
	}
	if uses(FabricDriver, "libpsm2.") || uses(FabricDriver, "libpsm_infinipath.") {
		add("/dev/hfi1*", "PSM opens the devices of Omni-Path there")
	}
	for _, m := range []struct{ module, device string }{{"xpmem", "/dev/xpmem"}, {"knem", "/dev/knem"}, {"cuda_gdrcopy", "/dev/gdrdrv"}} {
		if slices.ContainsFunc(r.UCX, func(u UCXs) bool { return u.has(m.module) }) {
			add(m.device, "UCX copies between processes by it")
		}
	}
	if slices.ContainsFunc(r.MPI, func(m MPI) bool { return slices.Contains(m.PMI, "pmix") }) {
		add("/var/spool/slurmd", "PMIx finds Slurm's server there; the folder is SlurmdSpoolDir")
	}
	if slices.ContainsFunc(r.files, func(p *placed) bool {
		return p.Software == PMIx && slices.ContainsFunc(append(p.Needed, p.Names...), func(s string) bool { return strings.HasPrefix(s, "libmunge.") })
	}) {
		add("/run/munge", "PMIx proves by it who somebody is")
	}
}

// A HostLibrary is a library of a host that is to be used in the image.
type HostLibrary struct {
	Path string // on the host, as it is to be called
	File *File
}

// Fit says whether a library of the host can be loaded by the programs of the image.
type Fit struct {
	Path string `json:"path"`
	// Outcome is [Runs], [WillFail] or [Unknown].
	Outcome Outcome `json:"outcome"`
	Text    string  `json:"text"`
	// Missing are libraries that it needs and the image does not have. They have to be bound with it.
	Missing []string `json:"missing,omitempty"`
}

// fit compares what a library needs with what the processes of the image have.
func (r *Report) fit(h *HostLibrary, all []HostLibrary) Fit {
	fit := Fit{Path: h.Path, Outcome: Unknown, Text: "there is no program in the image that would load it, nor a glibc to compare with"}
	set := func(outcome Outcome, format string, args ...any) Fit {
		fit.Outcome, fit.Text = outcome, fmt.Sprintf(format, args...)
		return fit
	}
	libc := r.runtime("libc.so.6")
	if libc == nil {
		return fit
	}
	if h.File.Arch != libc.Arch || h.File.Class != libc.Class {
		return set(WillFail, "it is for %s, and the image for %s", h.File.Arch, libc.Arch)
	}
	fit.Missing = r.missingOf(h, all)
	known := true
	for _, v := range h.File.Needs {
		family, number := cutVersion(v)
		switch has, ok := r.defined(family); {
		case !ok:
			known = known && !slices.Contains([]string{"GLIBC", "GLIBCXX", "CXXABI", "GCC", "GFORTRAN"}, family)
		case compareVersions(number, has) > 0:
			return set(WillFail, "it needs %s, and the image has %s_%s", v, family, has)
		}
	}
	if !known {
		return set(Unknown, "it needs versions of libraries that the image does not have, such as GCC's: bind those as well")
	}
	text := "the image has all versions of glibc's symbols that it needs"
	if len(fit.Missing) > 0 {
		return set(Unknown, "%s, but it needs libraries that have to be bound with it: %s", text, strings.Join(fit.Missing, ", "))
	}
	return set(Runs, "%s", text)
}

// missingOf lists what a library of the host needs that neither the image has nor is bound with it.
func (r *Report) missingOf(h *HostLibrary, all []HostLibrary) (names []string) {
	for _, name := range h.File.Needed {
		given := slices.ContainsFunc(all, func(o HostLibrary) bool { return o.File.Soname == name || path.Base(o.Path) == name })
		if !given && len(r.loader.Named(name)) == 0 && r.link(name) == "" && !strings.HasPrefix(name, "ld-linux") {
			names = append(names, name)
		}
	}
	return names
}

// link returns a link with a name.
func (r *Report) link(name string) string {
	for link := range r.links {
		if path.Base(link) == name {
			return link
		}
	}
	return ""
}

// runtime returns the library of glibc or GCC that the programs with MPI load; without such programs, one of the image.
func (r *Report) runtime(soname string) *placed {
	var least *placed
	for i := range r.Programs {
		if l := r.Programs[i].process.Find(soname); l != nil {
			least = older(least, r.at[l.File])
		}
	}
	if least != nil {
		return least
	}
	for _, p := range r.files {
		if p.Soname == soname {
			least = older(least, p)
		}
	}
	return least
}

// older returns that of two libraries which defines the older versions.
func older(a, b *placed) *placed {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	for _, v := range a.Defines {
		family, number := cutVersion(v)
		if other, ok := versionIn(b.Defines, family); ok && compareVersions(other, number) < 0 {
			return b
		}
	}
	return a
}

func versionIn(list []string, family string) (string, bool) {
	for _, v := range list {
		if f, number := cutVersion(v); f == family {
			return number, true
		}
	}
	return "", false
}

// defined returns the newest version of a family that the image has.
func (r *Report) defined(family string) (string, bool) {
	for _, soname := range []string{"libc.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libgfortran.so.5"} {
		if p := r.runtime(soname); p != nil {
			if number, ok := versionIn(p.Defines, family); ok {
				return number, true
			}
		}
	}
	return "", false
}
