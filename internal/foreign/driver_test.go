//go:build foreign

package foreign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// containerVar, in the environment, has this test program take the part of a container runtime.
const containerVar = "NIX2IMG_FOREIGN_CONTAINER"

// inContainer returns what a program says in a container.
func inContainer(t *testing.T, root string, user []string, program ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, slices.Concat([]string{root}, user, []string{"--"}, program)...)
	cmd.Env = []string{containerVar + "=1"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v", program, err)
	}
	return strings.TrimSpace(string(out))
}

// compileC compiles a C file in testdata.
func compileC(t *testing.T, source, out string, flags ...string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, "gcc", append([]string{"-O1", "-o", out, filepath.Join(module, "internal/foreign/testdata", source)}, flags...)...)
}

// standIn makes a folder with the libraries of a host, under the names that --nv binds them with.
func standIn(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	library := func(soname string, flags ...string) {
		flags = append(flags, "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,"+soname)
		compileC(t, "driver.c", filepath.Join(dir, soname), flags...)
	}
	library("libcuda.so.1", "-DCUDA=12040")
	library("libnvidia-ptxjitcompiler.so.1", "-DEMPTY")
	library("libnvidia-ml.so.1", "-DEMPTY")
	// That of the host needs a library which is not brought along.
	library("libX11-of-the-host.so.6", "-DEMPTY")
	library("libGL.so.1", `-DGL="host"`, "-Wl,--no-as-needed", "-L"+dir, "-l:libX11-of-the-host.so.6")
	if err := os.Remove(filepath.Join(dir, "libX11-of-the-host.so.6")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A driverImage is a mounted image with programs that look for a driver.
type driverImage struct {
	root        string // where it is mounted
	probe, bare string // with the driver's folder in RUNPATH, and without
	gl          string // the image's own libGL.so.1
	glibc       string // the store path
}

// newDriverImage makes a store of glibc, a path with programs and a libGL of its own,
// and if asked for a compatibility package, and mounts an image of all that.
func newDriverImage(t *testing.T, compat bool) *driverImage {
	t.Helper()
	store := newDir(t)
	export := exec.Command("sh", "-c", "nix-store --export $(nix-store -qR "+os.Getenv("HELLO")+") | nix-store --store "+store+" --import")
	if out, err := export.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	add := func(dir string) string {
		return strings.TrimSpace(output(t, "nix-store", "--store", store, "--add", dir))
	}
	var glibc string
	for _, p := range closurePaths(t, "", os.Getenv("HELLO")) {
		if strings.Contains(p, "-glibc-") {
			glibc = p
		}
	}

	dir := filepath.Join(newDir(t), "probe")
	for name, runpath := range map[string]string{"probe": "/run/opengl-driver/lib:$ORIGIN/../lib:", "bare": ""} {
		compileC(t, "probe.c", filepath.Join(dir, "bin", name), "-Wl,--enable-new-dtags",
			"-Wl,--dynamic-linker="+glibc+"/lib/ld-linux-x86-64.so.2", "-Wl,-rpath,"+runpath+glibc+"/lib")
	}
	compileC(t, "driver.c", filepath.Join(dir, "lib/libGL.so.1"), `-DGL="closure"`, "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libGL.so.1")
	probe := add(dir)
	args := []string{"--sif", "--store", store, "--nv", "yes", os.Getenv("HELLO"), probe}
	if compat {
		dir := filepath.Join(newDir(t), "cuda_compat")
		compileC(t, "driver.c", filepath.Join(dir, "compat/libcuda.so.575.57.08"), "-DCUDA=12090", "-shared", "-fPIC", "-nostdlib", "-Wl,-soname,libcuda.so.1")
		args = append(args, add(dir))
	}
	return &driverImage{mounted(t, build(t, args...)), probe + "/bin/probe", probe + "/bin/bare", probe + "/lib/libGL.so.1", glibc}
}

// bind shows a folder at a place in the image, until the function that it returns is called.
func (d *driverImage) bind(t *testing.T, dir, at string) (unbind func()) {
	t.Helper()
	output(t, "mount", "--bind", dir, d.root+at)
	return func() { output(t, "umount", d.root+at) }
}

// mustSay runs both programs.
func (d *driverImage) mustSay(t *testing.T, what string, user []string, want string) {
	t.Helper()
	for _, program := range []string{d.probe, d.bare} {
		if got := inContainer(t, d.root, user, program); got != want {
			t.Errorf("%s: %s says %q, want %q", what, filepath.Base(program), got, want)
		}
	}
}

// hostDirs are where a driver comes to lie in a container, and what is bound to bring it there.
var hostDirs = []struct{ name, mount, libs string }{
	{"--nv", "/.singularity.d/libs", "/.singularity.d/libs"},
	{"hook", "/usr/lib64", "/usr/lib64"},
	{"CDI on Debian", "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"},
	{"NixOS", "/run/opengl-driver", "/run/opengl-driver/lib"},
	{"WSL", "/usr/lib/wsl/lib", "/usr/lib/wsl/lib"},
	{"CDI on Debian with alternatives", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/x86_64-linux-gnu/nvidia/current"},
	{"CDI on Fedora once", "/usr/lib64/nvidia", "/usr/lib64/nvidia"},
	{"CDI on openSUSE once", "/usr/lib/nvidia", "/usr/lib/nvidia"},
	{"CDI on Arch", "/usr/lib", "/usr/lib"},
	{"Kubernetes of Google", "/usr/local/nvidia/lib64", "/usr/local/nvidia/lib64"},
}

// Programs find the driver, that finds its own libraries, and the closure's are not replaced.
func TestDriverIsFound(t *testing.T) {
	d := newDriverImage(t, false)
	if got, err := os.Readlink(d.root + "/.nix2img/shield/libGL.so.1"); err != nil || got != d.gl {
		t.Errorf("the shield has %s, %v, want %s", got, err, d.gl)
	}
	defer d.bind(t, "/proc", "/proc")() // for $ORIGIN
	host := standIn(t)
	onNixOS := newDir(t)
	output(t, "cp", "-r", host, onNixOS+"/lib")
	const found = "cuda=12040 init=0 ml=yes gl=closure path="
	for _, h := range hostDirs {
		dir := host
		if h.name == "NixOS" {
			dir = onNixOS
		}
		unbind := d.bind(t, dir, h.mount)
		d.mustSay(t, h.name, nil, found+"/.nix2img/shield:"+h.libs)
		const user = "/opt/my lib:/.singularity.d/libs" // as the runtime passes it
		d.mustSay(t, h.name+", user's", []string{"LD_LIBRARY_PATH=" + user}, found+"/opt/my lib:/.nix2img/shield:"+h.libs)
		const all = "/.nix2img/shield:/.singularity.d/libs:/usr/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib/wsl/lib" +
			":/usr/lib/x86_64-linux-gnu/nvidia/current:/usr/lib64/nvidia:/usr/lib/nvidia:/usr/lib:/usr/local/nvidia/lib64:/run/opengl-driver/lib"
		d.mustSay(t, h.name+", without scripts", []string{"oci"}, found+all)
		unbind()
	}
	// A program of the host finds its loader and the driver. It would find the C library of nixpkgs, too,
	// but the one here has no default folder.
	smi := filepath.Join(newDir(t), "nvidia-smi")
	compileC(t, "probe.c", smi, "-Wl,-rpath,"+d.glibc+"/lib")
	defer d.bind(t, smi, "/usr/bin/nvidia-smi")()
	unbind := d.bind(t, host, "/.singularity.d/libs")
	if got, want := inContainer(t, d.root, nil, "/usr/bin/nvidia-smi"), found+"/.nix2img/shield:/.singularity.d/libs"; got != want {
		t.Errorf("nvidia-smi: got %q, want %q", got, want)
	}
	unbind()
	if got, want := inContainer(t, d.root, nil, d.probe), "cuda=0 init=-1 ml=no gl=closure path=-"; got != want {
		t.Errorf("without a driver: got %q, want %q", got, want)
	}
}

// The libraries of a newer driver go before those of an older one, on GPUs for which they are made.
func TestCompatibilityPackage(t *testing.T) {
	d := newDriverImage(t, true)
	defer d.bind(t, standIn(t), "/.singularity.d/libs")()
	for _, test := range []struct {
		driver, gpu, user string
		want              int
	}{
		{"535.54.03", "NVIDIA A100-SXM4-40GB", "", 12090},
		{"535.54.03", "NVIDIA GeForce RTX 3090", "", 12040},
		{"580.65.06", "NVIDIA A100-SXM4-40GB", "", 12040},
		{"580.65.06", "NVIDIA A100-SXM4-40GB", "NIX2IMG_CUDA_COMPAT=yes", 12090},
		{"535.54.03", "NVIDIA A100-SXM4-40GB", "NIX2IMG_CUDA_COMPAT=no", 12040},
	} {
		proc := newDir(t)
		write := func(name, text string) {
			if err := os.MkdirAll(filepath.Dir(proc+name), 0o755); err != nil {
				t.Fatal(err)
			}
			writeFile(t, proc+name, []byte(text))
		}
		write("/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  "+test.driver+"  Wed Jul 19 2026\n")
		write("/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t "+test.gpu+"\n")
		unbind := d.bind(t, proc, "/proc")
		var user []string
		path := "/.nix2img/shield:/.singularity.d/libs"
		if test.want == 12090 {
			path = "/.nix2img/compat:" + path
		}
		if test.user != "" {
			user = []string{test.user}
		}
		d.mustSay(t, fmt.Sprint(test), user, fmt.Sprintf("cuda=%d init=0 ml=yes gl=closure path=%s", test.want, path))
		unbind()
	}
}

// The script that compares verdicts with what a GPU does works, as far as that can be seen without one.
func TestGPUCheckScript(t *testing.T) {
	dir := newDir(t)
	compileC(t, "gpudriver.c", filepath.Join(dir, "libs/libcuda.so.1"), "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
	smi := filepath.Join(dir, "smi")
	writeFile(t, smi, []byte("#!/bin/sh\necho 550.54.14\n"))
	if err := os.Chmod(smi, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(module, "testdata/gpu-check.sh"))
	cmd.Env = append(os.Environ(), "DRIVER_LIBS="+filepath.Join(dir, "libs"), "NVIDIA_SMI="+smi)
	out, err := cmd.CombinedOutput()
	want := []string{"GPU: NVIDIA A100-SXM4-80GB (sm_80), driver 550.54.14", "native said: runs happened: 42 as said", "jit said: jit happened: 42 as said",
		"later said: fails happened: cuModuleLoadData: error 222 as said", "other said: fails happened: cuModuleLoadData: error 209 as said"}
	var got []string
	for line := range strings.Lines(string(out)) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v\n%s", err, out)
	}
}
