package gpu

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// FactsVersion is the version of what [Inspector] finds, and of how [Facts] are written as JSON.
const FactsVersion = 3

// Facts are what [Inspector] finds in one tree.
// They follow from the tree alone, so they can be kept as long as the tree stays as it is:
// equal trees have equal facts, and facts that have been through JSON are equal to those that have not.
type Facts struct {
	Files []File `json:"files,omitempty"` // in the order of a walk by name
	Links []Link `json:"links,omitempty"` // likewise
}

// UnmarshalJSON reads facts, and refuses those that refer to nothing.
func (f *Facts) UnmarshalJSON(data []byte) error {
	type plain Facts
	if err := json.Unmarshal(data, (*plain)(f)); err != nil {
		return err
	}
	for i := range f.Files {
		for _, c := range f.Files[i].Containers {
			for _, row := range c.Code {
				if row < 0 || row >= len(f.Files[i].Code) {
					return fmt.Errorf("gpu: read facts: %s: no row %d of code", f.Files[i].Path, row)
				}
			}
		}
	}
	return nil
}

// Link is a symbolic link with the name of a library, such as libcudart.so.12.
type Link struct {
	Path   string `json:"path"` // in the tree
	Target string `json:"target"`
}

// Format is the kind of a file.
type Format string

// Formats of files. What is no [ELF] lies beside the programs that load it.
const (
	ELF    Format = "elf"    // program or library for a CPU
	Cubin  Format = "cubin"  // ELF file for an NVIDIA GPU
	Fatbin Format = "fatbin" // CUDA container, alone
	PTX    Format = "ptx"    // text
	HSACO  Format = "hsaco"  // ELF file for an AMD GPU
	Bundle Format = "bundle" // ROCm bundle, alone
	KDB    Format = "kdb"    // data base of kernels, of MIOpen
	// Tensile names the kernels that rocBLAS and its kin have for a GPU, which its own name tells.
	Tensile Format = "tensile"
	// Libdevice is CUDA's library for compilers that make code at run time.
	Libdevice Format = "libdevice"
	Other     Format = "other" // named like one of these, but something else
)

// File is a file that has to do with programs or GPUs.
type File struct {
	Path    string   `json:"path"` // in the tree; "." is the tree itself; bytes that are no UTF-8 are replaced
	Format  Format   `json:"format"`
	Arch    string   `json:"arch,omitzero"` // of an ELF file for a CPU: Go's name of it, or "machine 123"
	Class   int      `json:"class,omitzero"`
	Interp  string   `json:"interp,omitzero"`
	Soname  string   `json:"soname,omitzero"`
	Needed  []string `json:"needed,omitempty"`
	RPath   string   `json:"rpath,omitzero"`    // DT_RPATH
	RunPath string   `json:"runpath,omitzero"`  // DT_RUNPATH
	Names   []string `json:"names,omitempty"`   // libraries of drivers, CUDA and ROCm that the file names in its data, to load them with dlopen; sorted
	Glibc   Version  `json:"glibc,omitzero"`    // the newest that symbols are needed of
	Damaged string   `json:"damaged,omitempty"` // what could not be read, and why

	Code       []Code      `json:"code,omitempty"`       // by kind and target
	Containers []Container `json:"containers,omitempty"` // of the whole file
	Marks      []Mark      `json:"marks,omitempty"`      // sorted
}

// Kind is a kind of GPU code.
type Kind string

// Kinds of GPU code.
const (
	SASS    Kind = "sass" // machine code of NVIDIA GPUs, as cubin
	PTXCode Kind = "ptx"  // assembly that the driver compiles when the program starts
	LTO     Kind = "lto"  // NVVM IR, which nvJitLink links and compiles when the program starts
	HIP     Kind = "hip"  // machine code of AMD GPUs
)

// kinds has them in the order in which they are listed.
var kinds = []Kind{SASS, PTXCode, LTO, HIP}

// Code counts entries of one kind for one target.
type Code struct {
	Kind   Kind   `json:"kind"`
	Target string `json:"target"` // "sm_80", "sm_90a", "gfx90a", "gfx90a:xnack+"
	// ISA is the newest version of the instruction set that PTX asks for.
	ISA Version `json:"isa,omitzero"`
	// Sections counts entries in the sections that are for them (.nv_fatbin, .hip_fatbin):
	// what cuobjdump lists.
	Sections int `json:"sections"`
	// File counts entries in the whole file. Some libraries keep most of them elsewhere.
	File int `json:"file"`
	// Zstd counts those of them that are compressed with zstd, as nvcc does from CUDA 12.8 on.
	Zstd int `json:"zstd,omitzero"`
}

// Container counts containers, or bundles, that have entries for the same targets.
// A program is given code out of one container, so it is a container that serves a GPU or does not.
type Container struct {
	Code  []int `json:"code"` // indexes of [File.Code], ascending
	Count int   `json:"count"`
	// Empty: there is no code in the entries. nvcc leaves one such container in every library that it links.
	Empty bool `json:"empty,omitzero"`
}

// Mark is a property of a file that says something about code that cannot be seen.
type Mark string

// Marks.
const (
	MarkWrapper    Mark = "registers code"  // has a section .nvFatBinSegment
	MarkCompat     Mark = "forward compat"  // a driver's library of cuda_compat: has a section .note.cuda.fwd_compatibility
	MarkOffloading Mark = "llvm.offloading" // has a section of LLVM's packager, which is not read
	MarkUnknown    Mark = "unknown entries" // has entries of a kind that is not known
	MarkUnreadable Mark = "unreadable"      // has compressed bundles that cannot be read
	MarkConfusing  Mark = "confusing"       // has so much that looks like containers that the search was given up
)

// Version is a version of two numbers, such as that of CUDA, PTX or glibc.
type Version struct{ Major, Minor int }

// IsZero reports whether v is no version.
func (v Version) IsZero() bool { return v == Version{} }

// Compare returns -1, 0 or 1.
func (v Version) Compare(w Version) int {
	if v.Major != w.Major {
		return sign(v.Major - w.Major)
	}
	return sign(v.Minor - w.Minor)
}

func sign(n int) int { return min(1, max(-1, n)) }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// MarshalText writes "12.4".
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads "12.4".
func (v *Version) UnmarshalText(text []byte) error {
	w, ok := parseVersion(string(text))
	if !ok {
		return fmt.Errorf("gpu: %q is not a version", text)
	}
	*v = w
	return nil
}

// parseVersion reads two numbers at the beginning of s.
func parseVersion(s string) (v Version, ok bool) {
	a, rest, ok := strings.Cut(s, ".")
	if !ok {
		return Version{}, false
	}
	b := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	major, err1 := strconv.ParseUint(a, 10, 16)
	minor, err2 := strconv.ParseUint(b, 10, 16)
	return Version{int(major), int(minor)}, err1 == nil && err2 == nil
}

// later returns the later of two versions.
func later(v, w Version) Version {
	if v.Compare(w) < 0 {
		return w
	}
	return v
}
