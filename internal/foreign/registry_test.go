//go:build foreign

package foreign

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// skopeo fetches what was pushed straight from a closure, and what skopeo sends is pulled as it was.
func TestSkopeoRegistry(t *testing.T) {
	reg := registrytest.New(t)
	dir := newDir(t)
	r := run(t, command(append([]string{"push", "-q", reg.Host + "/ours:1"}, helloSubject().args...)...))
	_, digest, ok := strings.Cut(strings.TrimSpace(r.stdout), "/ours@")
	if r.code != 0 || !ok {
		t.Fatalf("push: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	if got := output(t, "skopeo", "inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+reg.Host+"/ours:1"); strings.TrimSpace(got) != digest {
		t.Errorf("skopeo inspect says %s, want %s", got, digest)
	}
	copied, pulled := filepath.Join(dir, "copied"), filepath.Join(dir, "pulled")
	output(t, "skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", "docker://"+reg.Host+"/ours:1", "oci:"+copied+":1")
	output(t, "skopeo", "copy", "--dest-tls-verify=false", "--preserve-digests", "oci:"+copied+":1", "docker://"+reg.Host+"/theirs:1")
	r = run(t, command("pull", "-q", "-o", pulled, reg.Host+"/theirs:1"))
	if r.code != 0 || r.stdout != reg.Host+"/theirs@"+digest+"\n" {
		t.Fatalf("pull: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	mustEqualBlobs(t, pulled, copied)
}

// mustEqualBlobs compares the blobs of two layouts, byte by byte.
func mustEqualBlobs(t *testing.T, got, want string) {
	t.Helper()
	output(t, "diff", "-r", filepath.Join(got, "blobs"), filepath.Join(want, "blobs"))
}

// siftool reads an OCI-SIF, whose layer is the squashfs of the SIF.
func TestOCISIF(t *testing.T) {
	native := build(t, append([]string{"--sif"}, helloSubject().args...)...)
	image := build(t, append([]string{"--oci-sif"}, helloSubject().args...)...)
	list := output(t, "siftool", "list", image)
	for _, kind := range []string{"OCI.Blob", "OCI.RootIndex"} {
		if !strings.Contains(list, kind) {
			t.Errorf("siftool list: no %s in\n%s", kind, list)
		}
	}
	layer := filepath.Join(newDir(t), "layer")
	if err := os.WriteFile(layer, []byte(output(t, "siftool", "dump", "1", image)), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := digest(t, layer), digestOf(t, partition(t, native)); got != want {
		t.Errorf("siftool dump 1 has %s, the squashfs of the SIF %s", got, want)
	}
	root := mounted(t, image)
	if said := inRoot(t, root, hello+"/bin/hello", "you"); !strings.Contains(said, "Hello") {
		t.Errorf("hello says %q", said)
	}
}

// A SIF that has been to a registry is the SIF that it was.
func TestSIFRegistry(t *testing.T) {
	reg := registrytest.New(t)
	image := build(t, "--sif", os.Getenv("SMALL"))
	for range 2 {
		if r := run(t, command("push", "oras://"+reg.Host+"/small:1", image)); r.code != 0 {
			t.Fatalf("push: exit code %d\n%s", r.code, r.stderr)
		}
	}
	info, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	if sent, _ := reg.Reset(); sent != info.Size()+2 { // and the configuration
		t.Errorf("two pushes of %d bytes have sent %d", info.Size(), sent)
	}
	back := filepath.Join(newDir(t), "back.sif")
	if r := run(t, command("pull", "-o", back, "oras://"+reg.Host+"/small:1")); r.code != 0 {
		t.Fatalf("pull: exit code %d\n%s", r.code, r.stderr)
	}
	if digest(t, back) != digest(t, image) {
		t.Error("the SIF has other bytes")
	}
}
