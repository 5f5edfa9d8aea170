package gpu

import (
	"bytes"
	"cmp"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/nix2img/nix2img/internal/elf"
)

// looseNames are the endings of files that hold GPU code outside of programs and libraries.
var looseNames = map[string]Format{
	".cubin": Cubin, ".fatbin": Fatbin, ".ptx": PTX, ".hsaco": Bundle, ".co": Bundle, ".kdb": KDB,
}

// tensileList is the name of a file that says which kernels rocBLAS, hipBLASLt and their kin have for a GPU.
var tensileList = regexp.MustCompile(`^TensileLibrary(?:_lazy)?_(gfx[0-9a-f]+)\.dat$`)

// namedFormat returns what a file is by its name, if that says something.
func namedFormat(name string) (Format, bool) {
	base := path.Base(name)
	switch {
	case tensileList.MatchString(base):
		return Tensile, true
	case base == "libdevice.10.bc":
		return Libdevice, true
	}
	format, ok := looseNames[path.Ext(base)]
	return format, ok
}

// loose notes the only entry of a file.
func (s *scanner) loose(f *File, c Code) {
	c.File = 1
	f.Code, f.Containers = []Code{c}, []Container{{Code: []int{0}, Count: 1}}
}

// cubinTarget returns what a cubin is for. Its flags have the number of the architecture in bits 0 to 7
// and "a" in bit 11, but from CUDA 13 on, in version 8 of the ABI, in bits 8 to 15 and bit 3.
func cubinTarget(o *elf.Object) string {
	if o.ABI >= 8 {
		return smName(o.Flags>>8&0xff, o.Flags&(1<<3) != 0)
	}
	return smName(o.Flags&0xff, o.Flags&(1<<11) != 0)
}

// hsacoTargets has the names of AMD GPUs by the low byte of the flags of an ELF file (EF_AMDGPU_MACH of LLVM).
var hsacoTargets = map[uint32]string{
	0x2c: "gfx900", 0x2d: "gfx902", 0x2e: "gfx904", 0x2f: "gfx906", 0x30: "gfx908", 0x31: "gfx909", 0x32: "gfx90c",
	0x33: "gfx1010", 0x34: "gfx1011", 0x35: "gfx1012", 0x36: "gfx1030", 0x37: "gfx1031", 0x38: "gfx1032", 0x39: "gfx1033",
	0x3d: "gfx1035", 0x3e: "gfx1034", 0x3f: "gfx90a", 0x40: "gfx940", 0x41: "gfx1100", 0x42: "gfx1013", 0x43: "gfx1150",
	0x44: "gfx1103", 0x45: "gfx1036", 0x46: "gfx1101", 0x47: "gfx1102", 0x48: "gfx1200", 0x4a: "gfx1151", 0x4b: "gfx941",
	0x4c: "gfx942", 0x4e: "gfx1201", 0x4f: "gfx950", 0x51: "gfx9-generic", 0x52: "gfx10-1-generic", 0x53: "gfx10-3-generic",
	0x54: "gfx11-generic", 0x55: "gfx1152", 0x58: "gfx1153", 0x59: "gfx12-generic", 0x5f: "gfx9-4-generic",
}

func hsacoTarget(flags uint32) string { return hsacoTargets[flags&0xff] }

// ptx reads the directives at the begin of PTX text: .version 8.4 and .target sm_80, with more words behind commas.
func (s *scanner) ptx(f *File, text []byte) {
	e := entry{kind: PTXCode}
	for line := range bytes.Lines(text) {
		words := strings.FieldsFunc(string(line), func(r rune) bool { return strings.ContainsRune(" \t\r\n,", r) })
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case ".version":
			e.isa, _ = parseVersion(words[1])
		case ".target":
			if _, _, _, ok := parseSM(words[1]); ok {
				e.target = words[1]
				s.begin()
				s.add(e)
				s.count(false)
			}
			return
		}
	}
}

// parseSM takes "sm_90a" apart into 9, 0 and "a".
func parseSM(name string) (major, minor int, suffix string, ok bool) {
	number, ok := strings.CutPrefix(name, "sm_")
	if !ok {
		return 0, 0, "", false
	}
	if digits := strings.TrimRight(number, "af"); len(number)-len(digits) <= 1 {
		number, suffix = digits, number[len(digits):]
	}
	n, err := strconv.ParseUint(number, 10, 16)
	return int(n) / 10, int(n) % 10, suffix, err == nil && n >= 10
}

// compareTargets orders "sm_90" before "sm_90a" before "sm_100" before "gfx90a" before "gfx1100".
func compareTargets(a, b string) int {
	aMajor, aMinor, aSuffix, aOK := parseSM(a)
	bMajor, bMinor, bSuffix, bOK := parseSM(b)
	switch {
	case aOK && bOK:
		return cmp.Or(cmp.Compare(aMajor, bMajor), cmp.Compare(aMinor, bMinor), cmp.Compare(aSuffix, bSuffix))
	case aOK != bOK:
		return map[bool]int{true: -1, false: 1}[aOK]
	}
	// The number has hexadecimal digits, the shorter being the older.
	aNumber, aRest, _ := strings.Cut(a, ":")
	bNumber, bRest, _ := strings.Cut(b, ":")
	return cmp.Or(cmp.Compare(len(aNumber), len(bNumber)), cmp.Compare(aNumber, bNumber), cmp.Compare(aRest, bRest))
}
