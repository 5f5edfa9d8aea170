package net

import (
	"regexp"
	"slices"
	"strings"
)

// names say by the name of a file what it is a part of. What an MPI library is, its contents say.
var names = []struct {
	pattern  *regexp.Regexp
	software Software
}{
	{regexp.MustCompile(`^libmpi(_abi|_cray|_gnu_\d+|_intel|_nvidia|ch|_mt)?\.so(\.|$)`), UnknownMPI},
	{regexp.MustCompile(`^mca_[a-z0-9]+_\w+\.so$`), MCA},
	{regexp.MustCompile(`^libfabric\.so(\.|$)`), Libfabric},
	{regexp.MustCompile(`^lib\w+-fi\.so$`), Provider},
	{regexp.MustCompile(`^libuct_\w+\.so(\.|$)`), UCXModule},
	{regexp.MustCompile(`^libuc[pts]\.so(\.|$)`), UCX},
	{regexp.MustCompile(`^libpmix\.so(\.|$)`), PMIx},
	{regexp.MustCompile(`^libpmi\.so(\.|$)`), PMI1},
	{regexp.MustCompile(`^libpmi2\.so(\.|$)`), PMI2},
	{regexp.MustCompile(`^libnccl\.so(\.|$)`), NCCL},
	{regexp.MustCompile(`^librccl\.so(\.|$)`), RCCL},
	{regexp.MustCompile(`^lib[nr]ccl-(net|tuner|profiler)[-\w]*\.so(\.|$)`), NCCLPlugin},
	{regexp.MustCompile(`^libibverbs\.so(\.|$)`), Verbs},
	{regexp.MustCompile(`^lib\w+-rdmav\d+\.so$`), VerbsDriver},
	{regexp.MustCompile(`^lib(cxi|psm2|psm_infinipath|opasdk)\.so(\.|$)`), FabricDriver},
}

// softwareOf returns what a file with this name is a part of, or "".
func softwareOf(base string) Software {
	if !strings.HasPrefix(base, "lib") && !strings.HasPrefix(base, "mca_") {
		return ""
	}
	for _, n := range names {
		if n.pattern.MatchString(base) {
			return n.software
		}
	}
	return ""
}

// IsMPI reports whether a library with this name is one of MPI.
func IsMPI(name string) bool { return softwareOf(name).mpi() }

// library reports whether a name that is found in data is one of those that facts have.
func library(name string) bool {
	if softwareOf(name) != "" {
		return true
	}
	return slices.ContainsFunc([]string{"librdmacm.", "libmlx4.", "libmlx5.", "libefa.", "libxpmem.", "libgdrapi.", "libmunge."},
		func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// readsText reports whether the texts in a file say something about it beside the names of libraries.
func (s Software) readsText() bool {
	return s.mpi() || s == Libfabric || s == UCX || s == PMIx || s == NCCL || s == RCCL
}

// A builtin is a part that may be linked into a library. It is there if the names of its functions are,
// which log messages have: several that begin with one of the prefixes.
// The text of a library has the names of all providers, built in or not, so they say nothing.
type builtin struct {
	part     string
	prefixes []string
}

// builtins are the providers of libfabric 1.9 to 2.x, by their sources.
var builtins = []builtin{
	{"verbs", []string{"vrb_", "fi_ibv_"}},
	{"net", []string{"xnet_"}}, // of 1.17; later it is called tcp
	{"tcp", []string{"tcpx_"}}, // up to 1.17
	{"sockets", []string{"sock_"}},
	{"udp", []string{"udpx_"}},
	{"rxm", []string{"rxm_"}},
	{"rxd", []string{"rxd_"}},
	{"shm", []string{"smr_"}},
	{"sm2", []string{"sm2_"}},
	{"efa", []string{"efa_", "rxr_"}},
	{"psm", []string{"psmx_"}},
	{"psm2", []string{"psmx2_"}},
	{"psm3", []string{"psmx3_"}},
	{"opx", []string{"fi_opx_", "opx_hfi1_"}},
	{"cxi", []string{"cxip_"}},
	{"gni", []string{"gnix_", "_gnix_"}},
	{"usnic", []string{"usdf_"}},
	{"mrail", []string{"mrail_"}},
	{"lnx", []string{"lnx_"}},
	{"ucx", []string{"ucx_"}},
}

// enough is how many names of functions a part must have.
const enough = 4

// texts collects what the texts in a file say.
type texts struct {
	software Software
	counts   []int // by builtin
	device   string
	version  string // best so far
	exact    bool   // it is said that this is the version
	pmi      bool
}

var (
	// What is before the version of UCX in the file is no text, but may look like a letter.
	versionAlone = regexp.MustCompile(`^[A-Za-z]?([0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?:[a-z]{1,2}[0-9]{1,2})?)$`)
	versionTold  = regexp.MustCompile(`^(?:Open MPI v|NCCL version |RCCL version |OpenPMIx |UCX version |MPICH Version:?\s+|MVAPICH2? Version:?\s+|CRAY MPICH version |Intel\(R\) MPI Library )(20\d\d\.\d+|\d+\.\d+(?:\.\d+)?[-\w.]*)`)
	mpichDevice  = regexp.MustCompile(`^ch[34]:\w+$`)
)

// flavours say by its texts what an MPI library is, the more special ones first.
var flavours = []struct {
	text     string
	software Software
}{
	{"Open MPI", OpenMPI},
	{"Intel(R) MPI", IntelMPI},
	{"CRAY MPICH", CrayMPICH},
	{"MVAPICH", MVAPICH},
	{"MPICH Version", MPICH},
}

// text takes a text of a file, without the NUL behind it.
func (t *texts) text(s string) {
	switch {
	case t.software.mpi():
		t.flavour(s)
		fallthrough
	case t.software == Libfabric:
		t.count(s)
	}
	if m := versionTold.FindStringSubmatch(s); m != nil && !t.exact {
		t.version, t.exact = m[1], true
	} else if m := versionAlone.FindStringSubmatch(s); m != nil && t.version == "" {
		t.version = m[1]
	}
}

func (t *texts) flavour(s string) {
	if mpichDevice.MatchString(s) {
		t.device = s
	}
	t.pmi = t.pmi || strings.HasPrefix(s, "cmd=init pmi_version") || s == "PMI_FD"
	rank := func(software Software) int {
		for i, f := range flavours {
			if f.software == software {
				return i
			}
		}
		return len(flavours)
	}
	for i, f := range flavours {
		if i < rank(t.software) && strings.Contains(s, f.text) {
			t.software = f.software
		}
	}
}

func (t *texts) count(s string) {
	if t.counts == nil {
		t.counts = make([]int, len(builtins))
	}
	for i, b := range builtins {
		if slices.ContainsFunc(b.prefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) }) {
			t.counts[i]++
		}
	}
}

// report puts what has been found into f.
func (t *texts) report(f *File) {
	f.Software, f.Version = t.software, t.version
	for i, n := range t.counts {
		if n >= enough {
			f.Parts = append(f.Parts, builtins[i].part)
		}
	}
	if i := slices.Index(f.Parts, "net"); i >= 0 && !slices.Contains(f.Parts, "tcp") {
		f.Parts[i] = "tcp"
	}
	if t.device != "" {
		f.Parts = append(f.Parts, t.device)
	}
	if t.pmi {
		f.Parts = append(f.Parts, "PMI")
	}
	slices.Sort(f.Parts)
}
