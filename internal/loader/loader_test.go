package loader_test

import (
	"slices"
	"testing"

	"github.com/nix2img/nix2img/internal/loader"
)

// lib is a library of 64 bits for amd64.
func lib(path, soname string, needed ...string) *loader.File {
	return &loader.File{Path: path, Arch: "amd64", Class: 64, Soname: soname, Needed: needed}
}

func load(t *testing.T, links map[string]string, env []string, files ...*loader.File) *loader.Process {
	t.Helper()
	return loader.New(files, links).Load(files[0], env...)
}

func paths(p *loader.Process) (list []string) {
	for _, l := range p.Loaded {
		list = append(list, l.Path+" "+string(l.Way))
	}
	return list
}

func check(t *testing.T, p *loader.Process, want ...string) {
	t.Helper()
	if got := paths(p); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRPathGoesBeforeTheEnvironmentAndRunPathBehind(t *testing.T) {
	a, host := lib("/a/libm.so.1", "libm.so.1"), lib("/host/libm.so.1", "libm.so.1")
	program := lib("/bin/p", "", "libm.so.1")
	program.RPath = "/a"
	check(t, load(t, nil, []string{"/host"}, program, a, host), "/bin/p ", "/a/libm.so.1 RPATH")
	program.RPath, program.RunPath = "", "/a"
	check(t, load(t, nil, []string{"/host"}, program, a, host), "/bin/p ", "/host/libm.so.1 LD_LIBRARY_PATH")
	check(t, load(t, nil, nil, program, a, host), "/bin/p ", "/a/libm.so.1 RUNPATH")
	program.RPath = "/a" // and RUNPATH, which makes it void
	check(t, load(t, nil, []string{"/host"}, program, a, host), "/bin/p ", "/host/libm.so.1 LD_LIBRARY_PATH")
}

func TestRPathHoldsForWhatIsLoadedLater(t *testing.T) {
	program := lib("/bin/p", "", "libx.so")
	program.RPath = "$ORIGIN/../lib:/b"
	x := lib("/lib/libx.so", "libx.so", "liby.so")
	y1, y2 := lib("/b/liby.so", "liby.so"), lib("/c/liby.so", "liby.so")
	check(t, load(t, nil, nil, program, x, y1, y2), "/bin/p ", "/lib/libx.so RPATH", "/b/liby.so RPATH")
	x.RunPath = "/c"
	check(t, load(t, nil, nil, program, x, y1, y2), "/bin/p ", "/lib/libx.so RPATH", "/c/liby.so RUNPATH")
}

func TestALoadedSonameServesAll(t *testing.T) {
	program := lib("/bin/p", "", "libx.so", "liby.so")
	program.RunPath = "/1"
	x := lib("/1/libx.so", "libx.so")
	y := lib("/1/liby.so", "liby.so", "libx.so")
	y.RunPath = "/2"
	other := lib("/2/libx.so", "libx.so")
	check(t, load(t, nil, nil, program, x, y, other), "/bin/p ", "/1/libx.so RUNPATH", "/1/liby.so RUNPATH")
}

func TestLinksAreFollowedAlsoInFolders(t *testing.T) {
	program := lib("/bin/p", "", "libx.so.1")
	program.Interp = "/lib64/ld.so"
	x := lib("/usr/lib/libx.so.1.2", "libx.so.1")
	links := map[string]string{"/lib64": "usr/lib", "/usr/lib/libx.so.1": "libx.so.1.2"}
	check(t, load(t, links, nil, program, x), "/bin/p ", "/usr/lib/libx.so.1.2 default")
	around := map[string]string{"/lib64": "lib64", "/a": "/b", "/b": "/a"}
	program.RunPath = "/a"
	check(t, load(t, around, nil, program, x), "/bin/p ", "/usr/lib/libx.so.1.2 only one")
}

func TestFilesForOtherMachinesArePassedOver(t *testing.T) {
	program := lib("/bin/p", "", "libx.so")
	program.RunPath = "/a:/b"
	arm, x := lib("/a/libx.so", "libx.so"), lib("/b/libx.so", "libx.so")
	arm.Arch = "arm64"
	check(t, load(t, nil, nil, program, arm, x), "/bin/p ", "/b/libx.so RUNPATH")
}

func TestWhatIsMissingIsNamedOnce(t *testing.T) {
	program := lib("/bin/p", "", "libx.so", "liby.so")
	y := lib("/y/liby.so", "liby.so", "libx.so")
	p := load(t, nil, nil, program, y)
	if len(p.Missing) != 1 || p.Missing[0].Name != "libx.so" || p.Missing[0].By != program {
		t.Errorf("got %+v", p.Missing)
	}
	if p.Find("liby.so") == nil || p.Find("libx.so") != nil {
		t.Error("Find does not find what is loaded, or what is not")
	}
	// Nobody knows which of two is meant.
	p = load(t, nil, nil, program, y, lib("/1/libx.so", ""), lib("/2/libx.so", ""))
	if len(p.Missing) != 1 {
		t.Errorf("got %+v", p.Missing)
	}
}
