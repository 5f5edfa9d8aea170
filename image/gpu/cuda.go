package gpu

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Driver is the version of an NVIDIA driver for Linux, such as "535.54.03",
// or only its branch, such as "535": any driver of that. It is empty if not known.
type Driver string

// ParseDriver returns the driver of a version that nvidia-smi prints, two or three numbers with dots between them,
// or of a branch: "535" or "R535".
func ParseDriver(s string) (Driver, error) {
	if m := driverBranch.FindStringSubmatch(s); m != nil {
		return Driver(m[1]), nil
	}
	if !driverVersion.MatchString(s) {
		return "", fmt.Errorf("%q is not a driver's version such as 535.54.03, nor a branch such as R535", s)
	}
	return Driver(s), nil
}

var (
	driverVersion = regexp.MustCompile(`^[0-9]{3,4}\.[0-9]{1,3}(\.[0-9]{1,3})?$`)
	driverBranch  = regexp.MustCompile(`^[rR]?([0-9]{3,4})$`)
)

// String returns the version, or a branch as "R535".
func (d Driver) String() string {
	if d == "" || d.exact() {
		return string(d)
	}
	return "R" + string(d)
}

// exact reports whether more than the branch is known.
func (d Driver) exact() bool { return strings.Contains(string(d), ".") }

// branch returns the first number.
func (d Driver) branch() int {
	number, _, _ := strings.Cut(string(d), ".")
	n, _ := strconv.Atoi(number)
	return n
}

// Compare returns -1, 0 or 1.
func (d Driver) Compare(o Driver) int {
	a, b := strings.Split(string(d), "."), strings.Split(string(o), ".")
	for i := range max(len(a), len(b)) {
		var n, m int
		if i < len(a) {
			n, _ = strconv.Atoi(a[i])
		}
		if i < len(b) {
			m, _ = strconv.Atoi(b[i])
		}
		if n != m {
			return cmp.Compare(n, m)
		}
	}
	return 0
}

// Evidence is what a version of CUDA is known from, the best first.
type Evidence string

// Kinds of evidence.
const (
	FromFile  Evidence = "file"   // name of a file, libcudart.so.12.5.39
	FromStore Evidence = "store"  // name of a store path, cuda_cudart-12.2.140
	FromName  Evidence = "soname" // name under which a library is loaded, libcudart.so.12: the major version alone from CUDA 12 on
	FromNeed  Evidence = "needed" // name of a library that a file needs (DT_NEEDED), be it there or not: likewise
	FromPTX   Evidence = "ptx"    // version of PTX: CUDA may be later
)

// CUDAVersion is a version of CUDA that something was made with.
type CUDAVersion struct {
	Version Version  `json:"version"`
	From    Evidence `json:"from"`
	Path    string   `json:"path"` // in the image
}

var (
	cudartFile = regexp.MustCompile(`^libcudart\.so\.([0-9]+\.[0-9]+)(\.[0-9]+)?$`)
	cudartName = regexp.MustCompile(`^libcudart\.so\.([0-9]+(?:\.[0-9]+)?)$`)
	storeCUDA  = regexp.MustCompile(`^(?:cuda([0-9]+\.[0-9]+)-|(?:cuda_[a-z_]+|cudatoolkit|cuda-merged)-([0-9]+\.[0-9]+))`)
)

// cudaOfFile returns the version of the CUDA run-time library that a file is.
func cudaOfFile(f *File) (v Version, from Evidence, ok bool) {
	if f.Format != ELF {
		return v, "", false
	}
	if m := cudartFile.FindStringSubmatch(path.Base(f.Path)); m != nil {
		if v, ok := parseVersion(m[1]); ok && (m[2] != "" || v.Major < 12) {
			return v, FromFile, true
		}
	}
	if m := cudartName.FindStringSubmatch(f.Soname); m != nil {
		s := m[1]
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		v, ok := parseVersion(s)
		return v, FromName, ok
	}
	return v, "", false
}

// cudaOfStore returns the version in the name of a store path.
func cudaOfStore(at string) (Version, bool) {
	m := storeCUDA.FindStringSubmatch(storeName(at))
	if m == nil || isCompat(at) {
		return Version{}, false
	}
	return parseVersion(m[1] + m[2])
}

// storePath returns the store path that a path lies in or is, or "".
// That is an element of 32 digits in base 32, a hyphen and a name.
func storePath(abs string) string {
	for at := 0; at < len(abs); {
		elem, _, _ := strings.Cut(abs[at:], "/")
		if len(elem) > 33 && elem[32] == '-' && strings.Trim(elem[:32], "0123456789abcdfghijklmnpqrsvwxyz") == "" {
			return abs[:at+len(elem)]
		}
		at += len(elem) + 1
	}
	return ""
}

// storeName returns the name of a store path, without its digest, if at is one.
func storeName(at string) string {
	_, name, _ := strings.Cut(path.Base(at), "-")
	return name
}

// isCompat reports whether a tree is NVIDIA's package for forward compatibility,
// whose libcuda may be shipped.
func isCompat(at string) bool {
	name := storeName(at)
	return strings.Contains(name, "cuda_compat") || strings.Contains(name, "cuda-compat")
}
