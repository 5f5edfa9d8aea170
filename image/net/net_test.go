package net_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/net"
	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// tree has the files of an image by their absolute paths: an elftest.Object, or a string, which is a link's target.
type tree map[string]any

const digest = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-"

// text is data with texts between NULs.
func text(lines ...string) []elftest.Section {
	return []elftest.Section{{Name: ".rodata", Flags: elf.SectionAlloc, Data: []byte("\x00" + strings.Join(lines, "\x00") + "\x00")}}
}

func library(soname string, needed []string, lines ...string) elftest.Object {
	return elftest.Object{Arch: "amd64", Soname: soname, Needed: needed, Sections: text(lines...)}
}

func program(runpath string, needed ...string) elftest.Object {
	return elftest.Object{Arch: "amd64", Interp: digest + "glibc/lib/ld.so", Needed: append(needed, "libc.so.6"), RunPath: runpath}
}

// functions are names as providers log them.
func functions(prefix string) (names []string) {
	for i := range 5 {
		names = append(names, fmt.Sprintf("%sfunction_%d", prefix, i))
	}
	return names
}

var glibc = tree{digest + "glibc/lib/libc.so.6": elftest.Object{Arch: "amd64", Soname: "libc.so.6", Defines: []string{"GLIBC_2.2.5", "GLIBC_2.36", "GLIBC_PRIVATE"}}}

// report looks at an image.
func report(t testing.TB, trees ...tree) *net.Report {
	t.Helper()
	fsys := make(fstest.MapFS)
	for _, files := range append(trees, glibc) {
		for name, v := range files {
			switch v := v.(type) {
			case elftest.Object:
				fsys[name[1:]] = &fstest.MapFile{Data: v.Bytes(), Mode: 0o755}
			case string:
				fsys[name[1:]] = &fstest.MapFile{Data: []byte(v), Mode: 0o777 | 1<<27}
			}
		}
	}
	facts, err := net.Inspect(context.Background(), fsys, ".", 1)
	if err != nil {
		t.Fatal(err)
	}
	return net.New(net.Split(facts))
}

const lib = digest + "p/lib/"

func TestAnMPILibrarySaysWhoseItIs(t *testing.T) {
	for _, test := range []struct {
		soname  string
		lines   []string
		flavour net.Software
		version string
		abi     net.ABI
	}{
		{"libmpi.so.40", []string{"Open MPI v%d.%d.%d", "4.1.4"}, net.OpenMPI, "4.1.4", net.ABIOpenMPI},
		{"libmpi.so.12", []string{"MPICH Version:\t%s\n", "4.0.2", "ch4:ofi"}, net.MPICH, "4.0.2", net.ABIMPICH},
		{"libmpich.so.12", []string{"MPICH Version:\t%s\n", "4.0.2"}, net.MPICH, "4.0.2", net.ABIMPICH},
		{"libmpi.so.12", []string{"MPICH Version:", "Intel(R) MPI Library 2021.11 for Linux* OS"}, net.IntelMPI, "2021.11", net.ABIMPICH},
		{"libmpi.so.12", []string{"CRAY MPICH version 8.1.28 (ANL base 3.4a2)", "MPICH Version"}, net.CrayMPICH, "8.1.28", net.ABIMPICH},
		{"libmpi.so.12", []string{"MVAPICH2 Version      :\t%s\n", "2.3.7"}, net.MVAPICH, "2.3.7", net.ABIMPICH},
		{"libmpi.so.12", nil, net.UnknownMPI, "", net.ABIMPICH},
		{"libmpi_abi.so.0", []string{"MPICH Version:\t%s\n", "5.0.0"}, net.MPICH, "5.0.0", net.ABIStandard},
		{"libmpi.so.99", nil, net.UnknownMPI, "", ""},
	} {
		r := report(t, tree{lib + test.soname + ".1.2": library(test.soname, nil, test.lines...)})
		if len(r.MPI) != 1 {
			t.Fatalf("%+v: %d libraries", test, len(r.MPI))
		}
		if m := r.MPI[0]; m.Flavour != test.flavour || m.Version != test.version || m.ABI != test.abi {
			t.Errorf("%+v: got %s %q, ABI %q", test, m.Flavour, m.Version, m.ABI)
		}
	}
}

func TestProvidersAreKnownByTheirFunctionsAndNotByTheirNames(t *testing.T) {
	names := []string{"verbs", "efa", "cxi", "tcp", "1.22.0"}
	r := report(t, tree{
		lib + "libfabric.so.1.2":            library("libfabric.so.1", nil, slices.Concat(names, functions("xnet_"), functions("cxip_"), functions("vrb_")[:2])...),
		lib + "libfabric/libpsm3-fi.so":     library("libpsm3-fi.so", nil),
		lib + "libfabric/libopx-fi.so":      library("libopx-fi.so", []string{"libgone.so.1"}),
		digest + "other/lib/libfabric.so.1": library("libfabric.so.1", nil, functions("smr_")...),
	})
	if len(r.Libfabric) != 2 {
		t.Fatalf("%d libraries", len(r.Libfabric))
	}
	want := []net.Part{{Name: "cxi"}, {Name: "opx", Path: lib + "libfabric/libopx-fi.so", Missing: []string{"libgone.so.1"}}, {Name: "psm3", Path: lib + "libfabric/libpsm3-fi.so"}, {Name: "tcp"}}
	got := r.Libfabric[slices.IndexFunc(r.Libfabric, func(f net.Libfabrics) bool { return strings.HasPrefix(f.Path, lib) })]
	if !reflect.DeepEqual(got.Providers, want) || got.Version != "1.22.0" {
		t.Errorf("got %+v", got)
	}
	if len(r.Suspects) != 1 || !strings.Contains(r.Suspects[0].Text, "libgone.so.1") {
		t.Errorf("suspects: %+v", r.Suspects)
	}
}

func mpich(device string, needed ...string) elftest.Object {
	return library("libmpi.so.12", needed, "MPICH Version:\t%s\n", "4.2.0", "PMI_FD", device)
}

func openmpi(needed ...string) elftest.Object {
	return library("libmpi.so.40", needed, "Open MPI v%d.%d.%d", "5.0.6")
}

// programOf returns what is said about the only program.
func programOf(t *testing.T, r *net.Report) net.Program {
	t.Helper()
	if len(r.Programs) != 1 {
		t.Fatalf("programs: %+v", r.Programs)
	}
	return r.Programs[0]
}

func TestRPathForbidsThatTheHostsMPITakesThePlace(t *testing.T) {
	p := program(lib, "libmpi.so.12")
	image := tree{lib + "libmpi.so.12": mpich("ch4:ofi"), digest + "p/bin/p": p}
	if got := programOf(t, report(t, image)); !got.Swap || !slices.Equal(got.MPI, []string{lib + "libmpi.so.12"}) {
		t.Errorf("RUNPATH: %+v", got)
	}
	p.RPath, p.RunPath = lib, ""
	image[digest+"p/bin/p"] = p
	r := report(t, image)
	if got := programOf(t, r); got.Swap || !strings.Contains(got.Why, "RPATH") {
		t.Errorf("RPATH: %+v", got)
	}
	if v := r.Check(&net.Demand{Fabric: net.Slingshot}); v.Outcome == net.NeedsHost {
		t.Errorf("the host's cannot take its place: %+v", v)
	}
	p.RPath, p.Needed[0] = "", lib+"libmpi.so.12"
	image[digest+"p/bin/p"] = p
	if got := programOf(t, report(t, image)); got.Swap {
		t.Errorf("asked for by its path: %+v", got)
	}
}

func TestTwoFlavoursInOneProcessWillNotStart(t *testing.T) {
	x := library("libx.so", []string{"libmpi.so.40"})
	x.RunPath = lib
	image := tree{
		lib + "libmpi.so.12": mpich("ch4:ofi"), lib + "libmpi.so.40": openmpi(), lib + "libx.so": x,
		digest + "p/bin/p": program(lib, "libmpi.so.12", "libx.so"),
	}
	r := report(t, image)
	v := r.Check(&net.Demand{Fabric: net.Ethernet})
	if v.Outcome != net.WillFail || !strings.Contains(v.Reasons[0].Text, "MPICH 4.2.0 and Open MPI 5.0.6") {
		t.Errorf("got %+v", v)
	}
	image[digest+"p/bin/p"] = program(lib, "libmpi.so.12")
	image[digest+"p/bin/q"] = program(lib, "libx.so")
	if v := report(t, image).Check(&net.Demand{Fabric: net.Ethernet}); v.Outcome != net.Runs {
		t.Errorf("one each: %+v", v)
	}
}

func TestSrun(t *testing.T) {
	pmix := library("libpmix.so.2", nil, "OpenPMIx 4.2.2 (PMIx Standard: 4.2)")
	for name, test := range map[string]struct {
		image tree
		srun  string
		pmi   []string
	}{
		"Open MPI 5":         {tree{lib + "libmpi.so.40": openmpi("libpmix.so.2"), lib + "libpmix.so.2": pmix}, "pmix", []string{"pmix"}},
		"Open MPI 4":         {tree{lib + "libmpi.so.40": openmpi(), lib + "openmpi/mca_pmix_ext3x.so": library("", []string{"libpmix.so.2"}), lib + "libpmix.so.2": pmix}, "pmix", []string{"pmix"}},
		"Open MPI, PMI-2":    {tree{lib + "libmpi.so.40": openmpi(), lib + "openmpi/mca_pmix_s2.so": library("", nil)}, "pmi2", []string{"pmi2"}},
		"Open MPI, nothing":  {tree{lib + "libmpi.so.40": openmpi()}, "", []string{}},
		"MPICH by itself":    {tree{lib + "libmpi.so.12": mpich("ch4:ofi")}, "pmi2", []string{"pmi1"}},
		"MPICH with Slurm's": {tree{lib + "libmpi.so.12": library("libmpi.so.12", []string{"libpmi.so.0"}, "MPICH Version"), lib + "libpmi.so.0": library("libpmi.so.0", nil)}, "none", []string{"pmi1"}},
		"MPICH with PMIx":    {tree{lib + "libmpi.so.12": mpich("ch4:ofi", "libpmix.so.2"), lib + "libpmix.so.2": pmix}, "pmix", []string{"pmix", "pmi1"}},
		"Intel MPI":          {tree{lib + "libmpi.so.12": library("libmpi.so.12", nil, "Intel(R) MPI Library 2021.11 for Linux")}, "pmi2", []string{}},
	} {
		m := report(t, test.image).MPI[0]
		if m.Srun != test.srun || !slices.Equal(m.PMI, test.pmi) {
			t.Errorf("%s: got %q, %q", name, m.Srun, m.PMI)
		}
		if slices.Contains(m.PMI, "pmix") && m.PMIx != "4.2.2" {
			t.Errorf("%s: PMIx %q", name, m.PMIx)
		}
	}
}

// rdma has libibverbs with a driver.
var rdma = tree{lib + "libibverbs.so.1": library("libibverbs.so.1", nil), lib + "libibverbs/libmlx5-rdmav34.so": "../libmlx5.so.1"}

func TestFabrics(t *testing.T) {
	p := tree{digest + "p/bin/p": program(lib, "libmpi.so.12")}
	o := tree{digest + "p/bin/p": program(lib, "libmpi.so.40")}
	ucx := tree{lib + "libucp.so.0": library("libucp.so.0", nil), lib + "ucx/libuct_ib.so.0": library("libuct_ib.so.0", nil)}
	ofi := func(prefixes ...string) tree {
		var lines []string
		for _, prefix := range prefixes {
			lines = append(lines, functions(prefix)...)
		}
		return tree{lib + "libfabric.so.1": library("libfabric.so.1", nil, lines...)}
	}
	m := func(object elftest.Object) tree { return tree{lib + object.Soname: object} }
	for name, test := range map[string]struct {
		image  []tree
		fabric net.Fabric
		want   net.Outcome
		text   string
	}{
		"nothing":                     {nil, net.InfiniBand, net.Unknown, "nothing in the image"},
		"Ethernet":                    {[]tree{p, m(mpich("ch4:ofi", "libfabric.so.1")), ofi("xnet_")}, net.Ethernet, net.Runs, "over TCP"},
		"MPICH, cxi":                  {[]tree{p, m(mpich("ch4:ofi", "libfabric.so.1")), ofi("xnet_", "cxip_")}, net.Slingshot, net.Runs, "provider cxi"},
		"MPICH without cxi":           {[]tree{p, m(mpich("ch4:ofi", "libfabric.so.1")), ofi("xnet_")}, net.Slingshot, net.NeedsHost, "libcxi-fi.so in a folder that FI_PROVIDER_PATH names"},
		"MPICH by UCX on Slingshot":   {[]tree{p, m(mpich("ch4:ucx", "libucp.so.0")), ucx}, net.Slingshot, net.NeedsHost, net.HostMPI},
		"MPICH by UCX":                {[]tree{p, m(mpich("ch4:ucx", "libucp.so.0")), ucx, rdma}, net.InfiniBand, net.Runs, "module ib"},
		"MPICH by UCX, no driver":     {[]tree{p, m(mpich("ch4:ucx", "libucp.so.0")), ucx}, net.InfiniBand, net.NeedsHost, "/etc/libibverbs.d"},
		"MPICH by libfabric, not UCX": {[]tree{p, m(mpich("ch4:ofi", "libucp.so.0")), ucx, rdma}, net.InfiniBand, net.NeedsHost, net.HostMPI},
		"libfabric inside":            {[]tree{p, m(library("libmpi.so.12", nil, append(functions("efa_"), "MPICH Version", "ch4:ofi")...)), tree{lib + "libefa-rdmav34.so": library("", nil)}}, net.EFA, net.Runs, "provider efa"},
		"EFA without its driver":      {[]tree{p, m(mpich("ch4:ofi", "libfabric.so.1")), ofi("efa_")}, net.EFA, net.NeedsHost, "FI_PROVIDER_PATH"},
		"Open MPI, nothing":           {[]tree{o, m(openmpi("libucp.so.0")), ucx}, net.Slingshot, net.OverTCP, "nothing for slingshot"},
		"Open MPI, UCX":               {[]tree{o, m(openmpi("libucp.so.0")), ucx, rdma}, net.InfiniBand, net.Runs, "module ib"},
		"Open MPI, component":         {[]tree{o, m(openmpi()), tree{lib + "openmpi/mca_mtl_psm2.so": library("", []string{"libpsm2.so.2"}), lib + "libpsm2.so.2": library("libpsm2.so.2", nil)}}, net.OmniPath, net.Runs, "mtl_psm2"},
		"Open MPI, broken component":  {[]tree{o, m(openmpi()), tree{lib + "openmpi/mca_mtl_psm2.so": library("", []string{"libpsm2.so.2"})}}, net.OmniPath, net.Unknown, "cannot be seen"},
		"no MPI":                      {[]tree{p}, net.Slingshot, net.NeedsHost, "libmpi.so.12: it needs the host's at " + net.HostMPI},
		"unknown MPI":                 {[]tree{p, m(library("libmpi.so.12", nil))}, net.Slingshot, net.Unknown, "not known"},
		"missing library":             {[]tree{tree{digest + "p/bin/p": program(lib, "libmpi.so.12", "libgone.so")}, m(mpich("ch4:ofi"))}, net.Ethernet, net.WillFail, "libgone.so"},
	} {
		v := report(t, test.image...).Check(&net.Demand{Fabric: test.fabric})
		if v.Outcome != test.want || !strings.Contains(v.Reasons[0].Text, test.text) {
			t.Errorf("%s: got %+v, want %q with %q", name, v, test.want, test.text)
		}
	}
}

func TestNCCLTakesSocketsUnlessItFindsLibibverbs(t *testing.T) {
	nccl := library("libnccl.so.2", nil, "NCCL version 2.18.3+cuda12.2", "libibverbs.so.1", "libnccl-net.so")
	image := func(runpath string, more ...tree) []tree {
		nccl.RunPath = runpath
		return append(more, tree{lib + "libnccl.so.2.18.3": nccl}, rdma)
	}
	r := report(t, image("")...)
	if c := r.Collectives[0]; c.Verbs != "" || c.Version != "2.18.3" || c.Inside {
		t.Errorf("in no folder of NCCL's: %+v", c)
	}
	if v := r.Check(&net.Demand{Fabric: net.InfiniBand}); v.Outcome != net.OverTCP {
		t.Errorf("got %+v", v)
	}
	r = report(t, image(lib)...)
	if c := r.Collectives[0]; c.Verbs != lib+"libibverbs.so.1" {
		t.Errorf("in its RUNPATH: %+v", c)
	}
	if v := r.Check(&net.Demand{Fabric: net.InfiniBand}); v.Outcome != net.Runs {
		t.Errorf("got %+v", v)
	}
	plugin := library("libnccl-net.so", []string{"libfabric.so.1"})
	plugin.RunPath = digest + "ofi/lib"
	aws := tree{
		lib + "libnccl-net.so": plugin, lib + "libefa-rdmav34.so": library("", nil),
		digest + "ofi/lib/libfabric.so.1": library("libfabric.so.1", nil, functions("efa_")...),
	}
	if v := report(t, image(lib, aws)...).Check(&net.Demand{Fabric: net.EFA}); v.Outcome != net.Runs || !strings.Contains(v.Reasons[0].Text, "plugin") {
		t.Errorf("got %+v", v)
	}
	if v := report(t, image("", aws)...).Check(&net.Demand{Fabric: net.EFA}); v.Outcome != net.NeedsHost {
		t.Errorf("a plugin that is not found: %+v", v)
	}
	// In another library.
	r = report(t, tree{lib + "libtorch_cuda.so": library("libtorch_cuda.so", nil, "libnccl-net.so", "libibverbs.so")})
	if len(r.Collectives) != 1 || !r.Collectives[0].Inside || r.Collectives[0].Name != net.NCCL {
		t.Errorf("got %+v", r.Collectives)
	}
}

func TestHostLibrariesNeedTheGlibcOfTheImage(t *testing.T) {
	r := report(t, tree{lib + "libmpi.so.12": mpich("ch4:ofi"), digest + "p/bin/p": program(lib, "libmpi.so.12")})
	for name, test := range map[string]struct {
		object elftest.Object
		want   net.Outcome
		text   string
	}{
		"older":   {elftest.Object{Versions: []string{"GLIBC_2.2.5", "GLIBC_2.36"}, Needed: []string{"libc.so.6"}}, net.Runs, "all versions"},
		"later":   {elftest.Object{Versions: []string{"GLIBC_2.38"}}, net.WillFail, "it needs GLIBC_2.38, and the image has GLIBC_2.36"},
		"another": {elftest.Object{Arch: "arm64"}, net.WillFail, "it is for arm64"},
		"C++":     {elftest.Object{Versions: []string{"GLIBCXX_3.4.30"}}, net.Unknown, "bind those as well"},
		"others":  {elftest.Object{Needed: []string{"libcxi.so.1", "libc.so.6"}}, net.Unknown, "libcxi.so.1"},
	} {
		if test.object.Arch == "" {
			test.object.Arch = "amd64"
		}
		test.object.Soname = "libmpi.so.12"
		facts, err := net.Inspect(context.Background(), fstest.MapFS{"libmpi.so.12": {Data: test.object.Bytes()}}, ".", 1)
		if err != nil {
			t.Fatal(err)
		}
		v := r.Check(&net.Demand{Host: []net.HostLibrary{{Path: "/host/libmpi.so.12", File: &facts.Files[0]}}})
		if len(v.Host) != 1 || v.Host[0].Outcome != test.want || v.Outcome != test.want || !strings.Contains(v.Host[0].Text, test.text) {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}

func TestTextsAreFoundWhereverTheyLie(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		pad := random.IntN(600 << 10)
		data := slices.Concat(bytes.Repeat([]byte{1}, pad), []byte("\x00MPICH Version\x00ch4:ofi\x00libibverbs.so.1\x004.1.1\x00"), bytes.Repeat([]byte("x\x00"), random.IntN(200<<10)))
		r := report(t, tree{lib + "libmpi.so.12": elftest.Object{Arch: "amd64", Soname: "libmpi.so.12", Sections: []elftest.Section{{Name: ".rodata", Flags: elf.SectionAlloc, Data: data}}}})
		if m := r.MPI[0]; m.Flavour != net.MPICH || m.Device != "ch4:ofi" || m.Version != "4.1.1" {
			t.Errorf("after %d bytes: %+v", pad, m)
		}
	}
}

func TestFactsSurviveJSON(t *testing.T) {
	fsys := fstest.MapFS{"lib/libmpi.so.12": {Data: new(mpich("ch4:ofi", "libx.so")).Bytes()}, "lib/libmpi.so": {Data: []byte("libmpi.so.12"), Mode: 0o777 | 1<<27}}
	facts, err := net.Inspect(context.Background(), fsys, ".", 1)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	again := new(net.Facts)
	if err := json.Unmarshal(data, again); err != nil || !reflect.DeepEqual(facts, again) || len(facts.Files)+len(facts.Links) != 2 {
		t.Errorf("got %+v, %v, want %+v", again, err, facts)
	}
}

// However strange the facts, there is a report and a verdict, with a reason of its outcome.
func FuzzReport(f *testing.F) {
	for _, image := range []tree{rdma, glibc, {lib + "libmpi.so.12": mpich("ch4:ofi"), digest + "p/bin/p": program(lib, "libmpi.so.12")}} {
		for _, name := range slices.Sorted(maps.Keys(image)) {
			if o, ok := image[name].(elftest.Object); ok {
				f.Add(o.Bytes(), path.Base(name), "../"+path.Base(name))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, name, target string) {
		if name == "" || strings.Contains(name, "/") || name == "." || name == ".." {
			return
		}
		fsys := fstest.MapFS{"bin/p": {Data: data}, "lib/" + name: {Data: data}, "lib/liblink.so": {Data: []byte(target), Mode: 0o777 | 1<<27}}
		facts, err := net.Inspect(context.Background(), fsys, ".", 1)
		if err != nil {
			return // fstest does not like the name
		}
		r := net.New(net.Split(facts))
		var host []net.HostLibrary
		for i := range facts.Files {
			host = append(host, net.HostLibrary{Path: name, File: &facts.Files[i]})
		}
		for _, fabric := range append([]net.Fabric{""}, net.Fabrics...) {
			v := r.Check(&net.Demand{Fabric: fabric, Host: host})
			if len(v.Reasons) == 0 || v.Outcome != v.Reasons[0].Outcome {
				t.Errorf("%s: %+v", fabric, v)
			}
		}
		r.Summary()
	})
}
