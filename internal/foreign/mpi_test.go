//go:build foreign && acceptance

package foreign

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// An mpiImage is a mounted image of a program that uses MPI.
type mpiImage struct {
	root    string // where it is mounted
	file    string
	hello   string   // the program
	library string   // its MPI, in the closure
	srun    string   // what "nix2img net" says is srun's --mpi
	user    []string // variables that the user sets
}

// newMPIImage builds an image of a closure of the word mpi. As Debian's packages look for components where Debian has them,
// variables say where they are in the closure, as patterns.
func newMPIImage(t *testing.T, root, library string, variables map[string]string) *mpiImage {
	t.Helper()
	args := []string{"--sif"}
	one := func(pattern string) string {
		for _, p := range closurePaths(t, "", root) {
			if found, _ := filepath.Glob(p + pattern); len(found) == 1 {
				return found[0]
			}
		}
		t.Fatalf("%s: no %s in the closure", root, pattern)
		return ""
	}
	for name, pattern := range variables {
		args = append(args, "--env", name+"="+one(pattern))
	}
	m := &mpiImage{file: build(t, append(args, root)...), hello: root + "/bin/mpi-hello", library: one("/lib/" + library)}
	m.root = mounted(t, m.file)
	for _, dir := range []string{"proc", "dev", "sys", "tmp"} {
		output(t, "mount", "--rbind", "--make-rprivate", "/"+dir, m.root+"/"+dir)
		t.Cleanup(func() { output(t, "umount", "-R", "-l", m.root+"/"+dir) })
	}
	var says struct{ MPI []struct{ Srun string } }
	if err := json.Unmarshal([]byte(output(t, nix2img, "net", "--json", "--fabric", "ethernet", m.file)), &says); err != nil || len(says.MPI) != 1 {
		t.Fatalf("net: %+v, %v", says, err)
	}
	m.srun = says.MPI[0].Srun
	return m
}

// start has a launcher of the host start a program in the image, which takes the variables that it is given, and returns what it says.
func (m *mpiImage) start(t *testing.T, env []string, launcher string, program ...string) string {
	t.Helper()
	out, err := m.try(t, env, launcher, program...)
	if err != nil {
		t.Errorf("%s: %v", launcher, err)
	}
	return out
}

func (m *mpiImage) try(t *testing.T, env []string, launcher string, program ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	words := slices.Concat(strings.Fields(launcher), []string{self, m.root, "host"}, m.user, []string{"--"}, program)
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env = append(slices.Clone(env), containerVar+"=1", "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, out, stderr.String())
	}
	return strings.TrimSpace(string(out)), err
}

// submit submits the example's job, with a runtime that runs programs of the mounted image.
func (m *mpiImage) submit(t *testing.T, env []string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := newDir(t)
	runtime := dir + "/runtime"
	writeFile(t, runtime, fmt.Appendf(nil, "#!/bin/sh\n[ $# = 3 ] && [ $1 = exec ] || exit 2\n%s=1 exec %s %s host -- \"$3\"\n", containerVar, self, m.root))
	if err := os.Chmod(runtime, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sbatch", "--wait", "--output="+dir+"/log", filepath.Join(module, "examples/edm/mpi.sbatch"))
	cmd.Env = append(slices.Clone(env), "RUNTIME="+runtime, "IMAGE="+m.file, "PROGRAM="+m.hello)
	out, err := cmd.CombinedOutput()
	log := string(readFile(t, dir+"/log"))
	if err != nil {
		t.Errorf("sbatch: %v\n%s%s", err, out, log)
	}
	m.mustSay(t, strings.TrimSpace(log), 8, m.library)
}

// mustSay has n processes find each other, by an MPI at a path.
func (m *mpiImage) mustSay(t *testing.T, got string, n int, library string) {
	t.Helper()
	begin := fmt.Sprintf("%d processes, sum %d, ", n, n*(n-1)/2)
	if !strings.HasPrefix(got, begin) || !strings.HasSuffix(got, ", "+library) || strings.Contains(got, "\n") {
		t.Errorf("got %q, want %q and %s", got, begin, library)
	}
}

// Programs of images run on two nodes, started by what "nix2img net" says, and by the host's mpirun.
func TestMPIPrograms(t *testing.T) {
	env := slurm(t)
	for name, test := range map[string]struct {
		image  *mpiImage
		srun   string
		mpirun string
	}{
		"Open MPI": {newMPIImage(t, os.Getenv("MPI_OPENMPI"), "libmpi.so.40", map[string]string{
			"OMPI_MCA_mca_base_component_path": "/lib/openmpi/lib/openmpi3", "UCX_MODULE_DIR": "/lib/ucx",
		}), "pmix", "mpirun.openmpi --oversubscribe -np 3"},
		"MPICH": {newMPIImage(t, os.Getenv("MPI_MPICH"), "libmpich.so.12", map[string]string{"UCX_MODULE_DIR": "/lib/ucx"}), "pmi2", "mpirun.mpich -np 3"},
	} {
		m := test.image
		if m.srun != test.srun {
			t.Errorf("%s: net says --mpi=%s, want %s", name, m.srun, test.srun)
		}
		m.mustSay(t, m.start(t, env, "srun --nodes=2 --ntasks=4 --mpi="+m.srun, m.hello), 4, m.library)
		m.mustSay(t, m.start(t, os.Environ(), test.mpirun, m.hello), 3, m.library)
		m.submit(t, env)
		// Without PMI, MPICH does not know of other processes, and Open MPI gives up.
		got, err := m.try(t, env, "srun --nodes=2 --ntasks=4 --mpi=none", m.hello)
		if name == "MPICH" && (err != nil || strings.Count(got, "1 processes") != 4) || name == "Open MPI" && err == nil {
			t.Errorf("%s, --mpi=none: got %q, %v", name, got, err)
		}
	}
}

// hostMPI makes a folder with the MPICH of this machine, and what it needs beside glibc.
func hostMPI(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	const library = "/usr/lib/x86_64-linux-gnu/libmpich.so.12"
	files := map[string]string{"libmpich.so.12": library}
	for line := range strings.Lines(output(t, "ldd", library)) {
		if name, file, ok := strings.Cut(strings.TrimSpace(line), " => "); ok && name != "libc.so.6" && name != "libm.so.6" {
			files[name], _, _ = strings.Cut(file, " ")
		}
	}
	for name, file := range files {
		writeFile(t, filepath.Join(dir, name), readFile(t, file))
	}
	return dir
}

// The host's MPICH takes the place of the closure's where it is bound, unless RPATH or the user forbids it.
func TestTheHostsMPICHTakesThePlace(t *testing.T) {
	env := slurm(t)
	m := newMPIImage(t, os.Getenv("MPI_MPICH"), "libmpich.so.12", map[string]string{"UCX_MODULE_DIR": "/lib/ucx"})
	dir := hostMPI(t)
	args := []string{"net"}
	found, err := filepath.Glob(dir + "/*.so*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		args = append(args, "--host-lib", name)
	}
	if got := output(t, nix2img, append(args, m.file)...); !strings.HasPrefix(got, "host's  runs\n") {
		t.Errorf("net: got %q", got)
	}
	output(t, "mount", "--bind", dir, m.root+"/.nix2img/host-mpi")
	// nixpkgs' loader always finds the libraries of its own glibc. That of these closures finds nothing by itself.
	for _, p := range closurePaths(t, "", os.Getenv("MPI_MPICH")) {
		if strings.Contains(p, "-glibc-") {
			m.user = []string{"LD_LIBRARY_PATH=" + p + "/lib"}
		}
	}
	t.Cleanup(func() { output(t, "umount", m.root+"/.nix2img/host-mpi") })
	const srun = "srun --nodes=2 --ntasks=4 --mpi=pmi2"
	m.mustSay(t, m.start(t, env, srun, m.hello), 4, "/.nix2img/host-mpi/libmpich.so.12")
	m.mustSay(t, m.start(t, env, srun, m.hello+"-rpath"), 4, m.library)
	m.mustSay(t, m.start(t, append(env, "NIX2IMG_HOST_MPI=no"), srun, m.hello), 4, m.library)
	m.mustSay(t, m.start(t, os.Environ(), "mpirun.mpich -np 3", m.hello), 3, "/.nix2img/host-mpi/libmpich.so.12")
}
