package net

import (
	"strconv"
	"strings"
)

// FactsVersion is the version of what [Inspector] finds, and of how [Facts] are written as JSON.
const FactsVersion = 1

// Facts are what [Inspector] finds in one tree.
// They follow from the tree alone, so they can be kept as long as the tree stays as it is.
type Facts struct {
	Files []File `json:"files,omitempty"` // in the order of a NAR
	Links []Link `json:"links,omitempty"` // likewise
}

// Link is a symbolic link that may lead to a library: it has a name that begins with lib.
type Link struct {
	Path   string `json:"path"` // in the tree
	Target string `json:"target"`
}

// File is a program or a library.
type File struct {
	Path    string   `json:"path"`          // in the tree; "." is the tree itself; bytes that are no UTF-8 are replaced
	Arch    string   `json:"arch,omitzero"` // of the CPU: Go's name of it, or "machine 123"
	Class   int      `json:"class,omitzero"`
	Interp  string   `json:"interp,omitzero"`
	Soname  string   `json:"soname,omitzero"`
	Needed  []string `json:"needed,omitempty"`
	RPath   string   `json:"rpath,omitzero"`   // DT_RPATH
	RunPath string   `json:"runpath,omitzero"` // DT_RUNPATH
	// Names are the libraries of networks and MPI that the file names in its data, to load them with dlopen; sorted.
	Names []string `json:"names,omitempty"`
	// Needs has the newest versions that symbols are needed of, one of each family, such as "GLIBC_2.34"; sorted.
	// Defines has likewise those of its own symbols, if they are of glibc or of GCC's libraries.
	Needs   []string `json:"needs,omitempty"`
	Defines []string `json:"defines,omitempty"`
	// Software is what the file is a part of, if that is known.
	Software Software `json:"software,omitzero"`
	// Version is that of the software, as the file says it.
	Version string `json:"version,omitzero"`
	// Parts are what is built in of the software: the providers of libfabric, "ch4:ofi" of MPICH,
	// "PMI" if it speaks PMI by itself; sorted.
	Parts   []string `json:"parts,omitempty"`
	Damaged string   `json:"damaged,omitempty"` // what could not be read, and why
}

// Software is what has to do with networks and MPI.
type Software string

// Software that is known. The first ones are implementations of MPI.
const (
	OpenMPI      Software = "Open MPI"
	MPICH        Software = "MPICH"
	IntelMPI     Software = "Intel MPI"
	CrayMPICH    Software = "Cray MPICH"
	MVAPICH      Software = "MVAPICH"
	UnknownMPI   Software = "MPI" // it has the name of an MPI library, and says nothing of itself
	MCA          Software = "Open MPI component"
	Libfabric    Software = "libfabric"
	Provider     Software = "libfabric provider" // as a library of its own
	UCX          Software = "UCX"
	UCXModule    Software = "UCX module"
	PMIx         Software = "PMIx"
	PMI1         Software = "PMI-1"
	PMI2         Software = "PMI-2"
	NCCL         Software = "NCCL"
	RCCL         Software = "RCCL"
	NCCLPlugin   Software = "NCCL plugin" // of RCCL too
	Verbs        Software = "libibverbs"
	VerbsDriver  Software = "libibverbs driver"
	FabricDriver Software = "fabric library" // of one vendor: libcxi, libpsm2, libefa
)

// mpi reports whether it is an implementation of MPI.
func (s Software) mpi() bool {
	switch s {
	case OpenMPI, MPICH, IntelMPI, CrayMPICH, MVAPICH, UnknownMPI:
		return true
	}
	return false
}

// newest returns the newest version of each family, such as GLIBC_2.34 of GLIBC_2.2.5 and GLIBC_2.34.
// The list is sorted by family, and so is the result. What has no number is left out, as GLIBC_PRIVATE.
func newest(versions []string) []string {
	best := make(map[string]string)
	var families []string
	for _, v := range versions {
		family, number := cutVersion(v)
		if number == "" {
			continue
		}
		old, ok := best[family]
		if !ok {
			families = append(families, family)
		}
		if !ok || compareVersions(number, old) > 0 {
			best[family] = number
		}
	}
	list := families[:0]
	for _, family := range families {
		list = append(list, family+"_"+best[family])
	}
	return list
}

// cutVersion takes "GLIBC_2.34" apart. The number is empty if there is none.
func cutVersion(v string) (family, number string) {
	i := strings.LastIndexByte(v, '_')
	if i < 0 || i+1 == len(v) || v[i+1] < '0' || v[i+1] > '9' {
		return v, ""
	}
	return v[:i], v[i+1:]
}

// compareVersions compares numbers with dots between them.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(digits(x))
		n, _ := strconv.Atoi(digits(y))
		if m != n {
			return min(1, max(-1, m-n))
		}
	}
	return 0
}

// digits returns the digits that s begins with, at most nine.
func digits(s string) string {
	n := 0
	for n < len(s) && n < 9 && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return s[:n]
}
