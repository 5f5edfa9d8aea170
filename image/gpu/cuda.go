package gpu

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Driver is the version of an NVIDIA driver for Linux, such as "535.54.03". It is empty if not known.
type Driver string

// ParseDriver returns the driver of a version that nvidia-smi prints: two or three numbers with dots between them.
func ParseDriver(s string) (Driver, error) {
	if !driverVersion.MatchString(s) {
		return "", fmt.Errorf("%q is not a driver's version such as 535.54.03", s)
	}
	return Driver(s), nil
}

var driverVersion = regexp.MustCompile(`^[0-9]{3,4}\.[0-9]{1,3}(\.[0-9]{1,3})?$`)

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

// releases are the releases of CUDA, by NVIDIA's release notes and page on compatibility.
// Native is the first driver that knows all of a release, which a release of the same major version
// and code for the GPU do not need: they run from the floor on.
// There has been no 12.7, but drivers and PTX of it.
var releases = []struct {
	cuda, isa     Version
	native, floor Driver
}{
	{Version{11, 0}, Version{7, 0}, "450.36.06", "450.80.02"},
	{Version{11, 1}, Version{7, 1}, "455.23", "450.80.02"},
	{Version{11, 2}, Version{7, 2}, "460.27", "450.80.02"},
	{Version{11, 3}, Version{7, 3}, "465.19.01", "450.80.02"},
	{Version{11, 4}, Version{7, 4}, "470.42", "450.80.02"},
	{Version{11, 5}, Version{7, 5}, "495.29.05", "450.80.02"},
	{Version{11, 6}, Version{7, 6}, "510.39", "450.80.02"},
	{Version{11, 7}, Version{7, 7}, "515.43.04", "450.80.02"},
	{Version{11, 8}, Version{7, 8}, "520.61.05", "450.80.02"},
	{Version{12, 0}, Version{8, 0}, "525.60.13", "525.60.13"},
	{Version{12, 1}, Version{8, 1}, "530.30.02", "525.60.13"},
	{Version{12, 2}, Version{8, 2}, "535.54.03", "525.60.13"},
	{Version{12, 3}, Version{8, 3}, "545.23.06", "525.60.13"},
	{Version{12, 4}, Version{8, 4}, "550.54.14", "525.60.13"},
	{Version{12, 5}, Version{8, 5}, "555.42.02", "525.60.13"},
	{Version{12, 6}, Version{8, 5}, "560.28.03", "525.60.13"},
	{Version{12, 8}, Version{8, 7}, "570.26", "525.60.13"},
	{Version{12, 9}, Version{8, 8}, "575.51.03", "525.60.13"},
	{Version{13, 0}, Version{9, 0}, "580.65.06", "580.65.06"},
	{Version{13, 1}, Version{9, 1}, "590.44.01", "580.65.06"},
	{Version{13, 2}, Version{9, 1}, "595.45.04", "580.65.06"}, // at least 9.1
}

// toolkit returns the first release that knows a version of PTX. It is zero if none does.
// PTX older than CUDA 11 counts as of CUDA 11.0.
func toolkit(isa Version) Version {
	for _, r := range releases {
		if isa.Compare(r.isa) <= 0 {
			return r.cuda
		}
	}
	return Version{}
}

// drivers returns the first driver for all of a release of CUDA,
// and the first that runs its programs if they have code for the GPU. They are empty if not known.
func drivers(cuda Version) (native, floor Driver) {
	for _, r := range releases {
		if cuda.Compare(r.cuda) <= 0 {
			return r.native, r.floor
		}
	}
	return "", ""
}

// driverCUDA returns the release of CUDA, and the version of PTX, that a driver knows.
func driverCUDA(d Driver) (cuda, isa Version) {
	for _, r := range releases {
		if d.Compare(r.native) >= 0 {
			cuda, isa = r.cuda, r.isa
		}
	}
	return cuda, isa
}

// Evidence is what a version of CUDA is known from, the best first.
type Evidence string

// Kinds of evidence.
const (
	FromFile  Evidence = "file"   // name of a file, libcudart.so.12.5.39
	FromStore Evidence = "store"  // name of a store path, cuda_cudart-12.2.140
	FromName  Evidence = "soname" // name that is loaded, libcudart.so.11.0: of CUDA 12 and later it has only the major version
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
