//go:build foreign && acceptance

package foreign

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
)

// A commit has one release, whoever makes it and wherever.
func TestReleaseIsReproducible(t *testing.T) {
	const all = "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64"
	dist := release(t, all, true)
	first := checkSums(t, dist)
	if second := checkSums(t, release(t, all, true)); first != second {
		t.Errorf("two releases of one commit:\n%s\n%s", first, second)
	}
	if n := strings.Count(first, "\n"); n != 4+2*2+2 {
		t.Errorf("%d files: %s", n, first)
	}
	root := newDir(t)
	output(t, "tar", "-xzf", filepath.Join(dist, "nix2img-"+image.Version+"-linux-arm64.tar.gz"), "-C", root, "--strip-components=1")
	out := filepath.Join(newDir(t), "image")
	hello := filepath.Join(module, "testdata/hello.export")
	r := run(t, exec.Command("qemu-aarch64", filepath.Join(root, "nix2img"), "build", "-q", "--no-cache", "--compression", "zstd", "--squashfs", "-o", out, "--from", hello))
	if r.code != 0 || digest(t, out) != digest(t, build(t, "--compression", "zstd", "--squashfs", "--from", hello)) {
		t.Errorf("on arm64: exit code %d, or other bytes\n%s", r.code, r.stderr)
	}
}
