//go:build foreign

package foreign

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
)

// release makes a release of a clone of the last commit, which has a cache of Go for itself if it is to be built from nothing.
func release(t *testing.T, platforms string, fromNothing bool) (dist string) {
	t.Helper()
	clone := filepath.Join(newDir(t), "clone")
	output(t, "git", "clone", "-q", "-c", "safe.directory=*", module, clone)
	dist = filepath.Join(newDir(t), "dist")
	cmd := exec.Command("testdata/release.sh", image.Version, dist)
	cmd.Dir = clone
	cmd.Env = append(os.Environ(), "PLATFORMS="+platforms)
	if fromNothing {
		cmd.Env = append(cmd.Env, "GOCACHE="+newDir(t))
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("release.sh: %v\n%s", err, out)
	}
	return dist
}

// The released program needs nothing of the machine: not a C library, nor a file.
func TestReleaseRunsAnywhere(t *testing.T) {
	dist := release(t, "linux/amd64", false)
	root := newDir(t)
	output(t, "tar", "-xzf", filepath.Join(dist, "nix2img-"+image.Version+"-linux-amd64.tar.gz"), "-C", root, "--strip-components=1")
	output(t, "cp", filepath.Join(module, "testdata/hello.export"), root)
	for _, codec := range []string{"gzip", "zstd"} {
		r := run(t, exec.Command("chroot", root, "/nix2img", "build", "-q", "--compression", codec, "--squashfs", "-o", "/"+codec, "--from", "/hello.export"))
		if r.code != 0 {
			t.Fatalf("%s: exit code %d\n%s", codec, r.code, r.stderr)
		}
		want := build(t, "--compression", codec, "--squashfs", "--from", filepath.Join(module, "testdata/hello.export"))
		if digest(t, filepath.Join(root, codec)) != digest(t, want) {
			t.Errorf("%s: the static program makes other bytes", codec)
		}
	}
	for name, want := range map[string]string{
		"LICENSE": "Apache", "NOTICE": "musl", "man/nix2img-build.1": ".TH", "completions/nix2img.bash": "nix2img",
	} {
		if text := string(readFile(t, filepath.Join(root, name))); !strings.Contains(text, want) {
			t.Errorf("%s has no %s in it", name, want)
		}
	}
	output(t, "man", "--warnings", "-l", filepath.Join(root, "man/nix2img-build.1"))
	deb := filepath.Join(dist, "nix2img_"+image.Version+"-1_amd64.deb")
	if files := output(t, "dpkg-deb", "-c", deb); !strings.Contains(files, "./usr/bin/nix2img") || !strings.Contains(files, "man1/nix2img-build.1.gz") {
		t.Errorf("the Debian package has %s", files)
	}
	if depends := strings.TrimSpace(output(t, "dpkg-deb", "-f", deb, "Depends")); depends != "" {
		t.Errorf("the Debian package depends on %s", depends)
	}
	oci := "oci-archive:" + filepath.Join(dist, "nix2img-"+image.Version+"-oci.tar")
	if config := output(t, "skopeo", "inspect", "--config", oci); !strings.Contains(config, "bin/nix2img") {
		t.Errorf("the image of the command has the configuration %s", config)
	}
	checkSums(t, dist)
}

// checkSums compares the files of a release with their sums, and returns those.
func checkSums(t *testing.T, dist string) string {
	t.Helper()
	sums := string(readFile(t, filepath.Join(dist, "SHA256SUMS")))
	for s := bufio.NewScanner(strings.NewReader(sums)); s.Scan(); {
		sum, name, _ := strings.Cut(s.Text(), "  ")
		if digest(t, filepath.Join(dist, name)) != sum {
			t.Errorf("%s has another sum", name)
		}
	}
	return sums
}
