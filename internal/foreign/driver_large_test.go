//go:build foreign && acceptance

package foreign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The CUDA libraries of a real closure find the driver, and its own libGL is kept.
func TestLargeFindsDriver(t *testing.T) {
	large, probe := os.Getenv("LARGE"), os.Getenv("CUDA_PROBE")+"/bin/cuda-probe"
	sif := build(t, "--sif", "--compression", "lz4", large)
	if r := run(t, command("inspect", sif)); !strings.Contains(r.stdout, "singularity run --nv "+sif) &&
		!strings.Contains(r.stdout, "singularity exec --nv "+sif) {
		t.Errorf("inspect does not say --nv:\n%s", r.stdout)
	}
	d := &driverImage{root: mounted(t, sif)}
	defer d.bind(t, "/proc", "/proc")()
	defer d.bind(t, "/dev", "/dev")()
	const where = `
import ctypes, os
try:
    ctypes.CDLL("libGL.so.1")
except OSError:
    pass
print(*{line.split()[-1] for line in open("/proc/self/maps") if "/libGL.so" in line})
print(os.environ.get("LD_LIBRARY_PATH"))`
	python := []string{large + "/bin/python", "-c", where}

	if got := inContainer(t, d.root, nil, python...); got != "None" {
		t.Errorf("without a driver: %q", got)
	}
	defer d.bind(t, standIn(t), "/.singularity.d/libs")()
	const want = "cuDriverGetVersion rc=0 version=12.4\ncuInit/cuDeviceGetCount rc=0 devices=1"
	if got := inContainer(t, d.root, nil, probe); got != want {
		t.Errorf("cuda-probe says %q, want %q", got, want)
	}
	gl, path, _ := strings.Cut(inContainer(t, d.root, nil, python...), "\n")
	if !strings.HasPrefix(gl, "/nix/store/") || path != "/.nix2img/shield:/.singularity.d/libs" {
		t.Errorf("Python loads %q, with LD_LIBRARY_PATH=%s", gl, path)
	}
	links, err := filepath.Glob(d.root + "/.nix2img/shield/*")
	if err != nil || len(links) == 0 {
		t.Fatalf("no shield: %v", err)
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err != nil || !strings.HasPrefix(target, "/nix/store/") {
			t.Errorf("%s -> %s, %v", link, target, err)
		} else if _, err := os.Stat(d.root + target); err != nil {
			t.Error(err)
		}
	}
}
