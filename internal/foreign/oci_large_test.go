//go:build foreign && acceptance

package foreign

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// After a change of one line in the application, a build opens no file but those of what has changed,
// and writes no layer but those that have it.
func TestOCIAfterChange(t *testing.T) {
	dir := newDir(t)
	layout, cache := filepath.Join(dir, "layout"), filepath.Join(dir, "cache")
	ociBuild(t, "--oci", layout, "--cache", cache, "--compression", "zstd", os.Getenv("MEDIUM"))
	args := []string{"build", "-q", "--json", "--oci", layout, "--tag", "2", "--cache", cache, "--compression", "zstd", os.Getenv("MEDIUM2")}
	fresh := map[string]bool{}
	for _, p := range closurePaths(t, "", os.Getenv("MEDIUM2")) {
		fresh[p] = true
	}
	for _, p := range closurePaths(t, "", os.Getenv("MEDIUM")) {
		delete(fresh, p)
	}
	for _, file := range opened(t, args...) {
		if object := strings.Join(strings.SplitN(file, "/", 5)[:4], "/"); !fresh[object] {
			t.Errorf("opened %s", file)
		}
	}
	// The second time, to another layout that has the first image only.
	ociBuild(t, "--oci", layout+"2", "--cache", cache, "--compression", "zstd", os.Getenv("MEDIUM"))
	args[4] = layout + "2"
	r := run(t, command(args...))
	var res struct{ Size, Written int64 }
	if err := json.Unmarshal([]byte(r.stdout), &res); err != nil {
		t.Fatalf("%v\n%s", err, r.stderr)
	}
	if res.Written > 1_000_000 || res.Written == 0 || res.Size < 100_000_000 {
		t.Errorf("wrote %d of %d bytes", res.Written, res.Size)
	}
}

// A container has the files of the store, and the program in it, when runc starts it, draws the same picture.
func TestOCIContainer(t *testing.T) {
	root, layout, temp := os.Getenv("MEDIUM"), filepath.Join(newDir(t), "layout"), newDir(t)
	ociBuild(t, "--oci", layout, "--no-cache", "--compression", "gzip:1", root)
	bundle := unpackOCI(t, layout)
	mustHave(t, bundle+"/rootfs", "MEDIUM")
	runContainer(t, bundle, temp, root+"/bin/python", "-m", "edm.example", "/tmp/image.png")
	outside := filepath.Join(temp, "store.png")
	cmd := exec.Command(root+"/bin/python", "-m", "edm.example", outside)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if digest(t, filepath.Join(temp, "image.png")) != digest(t, outside) {
		t.Error("the picture drawn in the container differs")
	}
}

// runContainer has runc run a program in a bundle, with temp as its /tmp.
func runContainer(t testing.TB, bundle, temp string, args ...string) {
	t.Helper()
	name := filepath.Join(bundle, "config.json")
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	process := config["process"].(map[string]any)
	process["args"], process["terminal"] = args, false
	delete(config["linux"].(map[string]any), "resources") // not every machine lets cgroups be made
	config["mounts"] = append(config["mounts"].([]any), map[string]any{
		"destination": "/tmp", "type": "bind", "source": temp, "options": []string{"bind", "rw"},
	})
	if raw, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, "runc", "--root", newDir(t), "run", "--bundle", bundle, "nix2img-"+filepath.Base(temp))
}
