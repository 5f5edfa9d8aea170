//go:build foreign

package net_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/net"
)

// root returns the store path that a variable names. testdata/test.sh sets it.
func root(t testing.TB, variable string) string {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Fatalf("%s is not set", variable)
	}
	return os.Getenv(variable)
}

// ofClosure makes the report of a closure in the store of this machine.
func ofClosure(t testing.TB, root string) *net.Report {
	t.Helper()
	var trees []inspect.Tree
	paths := strings.Fields(says(t, nil, "nix-store", "-qR", root))
	for _, p := range paths {
		trees = append(trees, inspect.Tree{Root: filepath.Base(p), Inspectors: []inspect.Inspector{net.Inspector}})
	}
	found, err := inspect.Find(context.Background(), closure.DirFS("/nix/store"), trees, 0)
	if err != nil {
		t.Fatal(err)
	}
	var placed []net.Tree
	for i, p := range paths {
		facts, err := net.FactsOf(found[i])
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range facts.Files {
			if f.Damaged != "" {
				t.Errorf("%s/%s: %s", p, f.Path, f.Damaged)
			}
		}
		placed = append(placed, net.Tree{At: p, Facts: facts})
	}
	return net.New(placed)
}

// says returns what a program prints.
func says(t testing.TB, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stderr = append(os.Environ(), env...), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return string(out)
}

// all returns what a pattern's group finds, sorted, each once.
func all(pattern, text string) (list []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func names(parts []net.Part) (list []string) {
	for _, p := range parts {
		list = append(list, p.Name)
	}
	slices.Sort(list)
	return list
}

// fi_info lists the providers that we see, but for two: without a device, that for EFA is not to be seen,
// and of that for verbs only the variables.
func TestLibfabricIsWhatFiInfoSays(t *testing.T) {
	r, bin := ofClosure(t, root(t, "MPI_OPENMPI")), root(t, "MPI_OPENMPI")+"/bin/"
	if len(r.Libfabric) != 1 {
		t.Fatalf("got %+v", r.Libfabric)
	}
	f := r.Libfabric[0]
	want := []string{"efa"}
	for _, name := range all(`(?m)^(?:ofi_)?(\w+):$`, says(t, nil, bin+"fi_info", "-l")) {
		if !strings.HasPrefix(name, "hook_") {
			want = append(want, name)
		}
	}
	if strings.Contains(says(t, nil, bin+"fi_info", "-e"), "FI_VERBS_") {
		want = append(want, "verbs")
	}
	slices.Sort(want)
	if got := names(f.Providers); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if version := all(`(?m)^libfabric: (.*)$`, says(t, nil, bin+"fi_info", "--version")); !slices.Equal(version, []string{f.Version}) {
		t.Errorf("version: got %q, want %q", f.Version, version)
	}
}

// ucx_info says with which modules UCX was built, and lists transports that need no device.
func TestUCXIsWhatUcxInfoSays(t *testing.T) {
	for _, variable := range []string{"MPI_OPENMPI", "MPI_MPICH"} {
		r, program := ofClosure(t, root(t, variable)), root(t, variable)+"/bin/ucx_info"
		if len(r.UCX) != 1 {
			t.Fatalf("got %+v", r.UCX)
		}
		u := r.UCX[0]
		modules := all(`uct_MODULES +"(.*)"`, says(t, nil, program, "-b"))
		want := strings.FieldsFunc(strings.Join(modules, ""), func(c rune) bool { return c == ':' })
		env := []string{"UCX_MODULE_DIR=" + filepath.Dir(u.Path) + "/ucx"}
		for _, name := range all(`(?m)^# *Transport: (.*)$`, says(t, env, program, "-d")) {
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		if got := names(u.Transports); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, p := range u.Transports {
			if len(p.Missing) > 0 {
				t.Errorf("%s: not there: %q", p.Name, p.Missing)
			}
		}
		if version := all(`(?m)^# Version (.*)$`, says(t, nil, program, "-v")); !slices.Equal(version, []string{u.Version}) {
			t.Errorf("version: got %q, want %q", u.Version, version)
		}
	}
}

// ompi_info lists the components that we see.
func TestOpenMPIIsWhatOmpiInfoSays(t *testing.T) {
	r, program := ofClosure(t, root(t, "MPI_OPENMPI")), root(t, "MPI_OPENMPI")+"/bin/ompi_info"
	if len(r.MPI) != 1 {
		t.Fatalf("got %+v", r.MPI)
	}
	m := r.MPI[0]
	env := []string{"OMPI_MCA_mca_base_component_path=" + filepath.Dir(m.Path) + "/openmpi/lib/openmpi3"}
	var want []string
	for _, name := range all(`(?m)^mca:([a-z]+:\w+):version:`, says(t, env, program, "--all", "--parsable")) {
		name = strings.Replace(name, ":", "_", 1)
		if regexp.MustCompile(`^(pml|mtl|btl|osc)_(ucx|ofi|cm|psm2?|openib|uct|tcp)$|^pmix_`).MatchString(name) {
			want = append(want, name)
		}
	}
	if !slices.Equal(m.Components, want) || !slices.Contains(want, "pml_ucx") {
		t.Errorf("got %q, want %q", m.Components, want)
	}
	if version := all(`Open MPI v(\S+)`, says(t, env, program, "--version")); m.Flavour != net.OpenMPI || !slices.Equal(version, []string{m.Version}) {
		t.Errorf("got %s, want version %q", &m, version)
	}
	// The loader agrees on whose MPI is loaded, and LD_LIBRARY_PATH on whether that can be another.
	swaps(t, r, "libmpi.so.40", m.Path)
}

func TestMPICHIsWhatMpichversionSays(t *testing.T) {
	r := ofClosure(t, root(t, "MPI_MPICH"))
	if len(r.MPI) != 1 {
		t.Fatalf("got %+v", r.MPI)
	}
	m := r.MPI[0]
	text := says(t, nil, root(t, "MPI_MPICH")+"/bin/mpichversion")
	if version := all(`MPICH Version:\s+(\S+)`, text); m.Flavour != net.MPICH || !slices.Equal(version, []string{m.Version}) {
		t.Errorf("got %s, want version %q", &m, version)
	}
	if device := all(`MPICH Device:\s+(\S+)`, text); !slices.Equal(device, []string{m.Device}) {
		t.Errorf("device: got %q, want %q", m.Device, device)
	}
	swaps(t, r, "libmpich.so.12", m.Path)
}

// swaps asks the loader of each program where it finds its MPI, and whether one in LD_LIBRARY_PATH takes its place.
func swaps(t *testing.T, r *net.Report, soname, path string) {
	t.Helper()
	dir := t.TempDir()
	if data, err := os.ReadFile(path); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(dir+"/"+soname, data, 0o755); err != nil {
		t.Fatal(err)
	}
	loaded := func(program string, env ...string) string {
		text := says(t, append(env, "LD_TRACE_LOADED_OBJECTS=1"), program)
		at := all(`(?m)^\s*`+regexp.QuoteMeta(soname)+` => (\S+)`, text)
		if len(at) != 1 {
			t.Fatalf("%s: the loader says %q", program, text)
		}
		real, err := filepath.EvalSymlinks(at[0])
		if err != nil {
			t.Fatal(err)
		}
		return real
	}
	kinds := make(map[bool]int)
	for _, p := range r.Programs {
		if strings.HasSuffix(p.Path, ".so") {
			continue
		}
		kinds[p.Swap]++
		if got := loaded(p.Path); !slices.Equal(p.MPI, []string{got}) {
			t.Errorf("%s: got %q, the loader takes %s", p.Path, p.MPI, got)
		}
		if took := loaded(p.Path, "LD_LIBRARY_PATH="+dir) != path; took != p.Swap {
			t.Errorf("%s: swap %v, and the loader %v", p.Path, p.Swap, took)
		}
	}
	if kinds[true] == 0 || kinds[false] == 0 {
		t.Errorf("programs by whether they can be swapped: %v", kinds)
	}
}

// A Python environment has nothing that is taken for a network.
func TestSmallHasNoNetwork(t *testing.T) {
	r := ofClosure(t, root(t, "SMALL"))
	if r.Summary() != nil || len(r.Programs)+len(r.Suspects)+len(r.Host) != 0 {
		t.Errorf("got %+v", r.Summary())
	}
	if r.Glibc != "2.36" {
		t.Errorf("glibc %q", r.Glibc)
	}
}
