//go:build foreign

package foreign

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nar"
)

// Caches that nix copy has filled and signed, on a plain web server, are as good as the store
// for a user without Nix, in a root directory without /nix.
func TestBinaryCaches(t *testing.T) {
	dir := newDir(t)
	secret, public := filepath.Join(dir, "secret"), filepath.Join(dir, "public")
	output(t, "nix-store", "--generate-binary-cache-key", "foreign-1", secret, public)
	key, err := os.ReadFile(public)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer server.Close()
	elsewhere := withoutNix(t)
	for _, name := range cacheRoots {
		root := os.Getenv(name)
		store := build(t, "--squashfs", "--compression", "zstd-go:1", root)
		for _, compression := range []string{"zstd", "xz"} {
			cache := filepath.Join(dir, compression)
			output(t, "nix", "copy", "--to", "file://"+cache+"?compression="+compression+"&compression-level=1&secret-key="+secret, root)
			image := filepath.Join(elsewhere, "tmp", "image")
			args := []string{"build", "-q", "--squashfs", "--compression", "zstd-go:1", "-o", "/tmp/image", "--from", server.URL + "/" + compression}
			// Nobody has said that the key can be trusted.
			if r := inside(t, elsewhere, append(args, root)...); r.code != 5 || !strings.Contains(r.stderr, "foreign-1") {
				t.Errorf("%s of %s: exit code %d\n%s", name, compression, r.code, r.stderr)
			}
			r := inside(t, elsewhere, append(args, "--trusted-public-keys", strings.TrimSpace(string(key)), root)...)
			if r.code != 0 {
				t.Fatalf("%s of %s: exit code %d\n%s", name, compression, r.code, r.stderr)
			}
			if digest(t, image) != digest(t, store) {
				t.Errorf("%s of %s: the image is not the one built from the store", name, compression)
			}
			// Segments that are there are not fetched: the NARs may go.
			if err := os.RemoveAll(filepath.Join(cache, "nar")); err != nil {
				t.Fatal(err)
			}
			r = inside(t, elsewhere, append(args, "--trusted-public-keys", strings.TrimSpace(string(key)), root)...)
			if r.code != 0 || digest(t, image) != digest(t, store) {
				t.Errorf("%s of %s, again: exit code %d\n%s", name, compression, r.code, r.stderr)
			}
			if err := removeAll(filepath.Join(elsewhere, "tmp", "caches")); err != nil {
				t.Fatal(err)
			}
			if err := removeAll(cache); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// withoutNix returns a root directory with the system's programs and libraries, and without Nix's store.
func withoutNix(t *testing.T) string {
	dir := newDir(t)
	for _, name := range []string{"usr", "lib", "lib64", "bin"} {
		if target, err := os.Readlink("/" + name); err == nil {
			if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		bind(t, "/"+name, filepath.Join(dir, name))
	}
	bind(t, "/dev", filepath.Join(dir, "dev"))
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	output(t, "cp", nix2img, filepath.Join(dir, "nix2img"))
	return dir
}

func bind(t *testing.T, source, target string) {
	t.Helper()
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	output(t, "mount", "--bind", source, target)
	t.Cleanup(func() { output(t, "umount", target) })
}

// inside runs nix2img in a root directory, as nobody.
func inside(t *testing.T, root string, args ...string) result {
	cmd := exec.Command("chroot", append([]string{"--userspec=65534:65534", root, "/nix2img"}, args...)...)
	cmd.Env = []string{"PATH=/nowhere", "HOME=/nonexistent", "XDG_CACHE_HOME=/tmp/caches"}
	return run(t, cmd)
}

// Nix reads the NARs that we write, and writes the same.
func TestNARsOfNix(t *testing.T) {
	files := closure.DirFS("/nix/store")
	for _, name := range cacheRoots {
		for _, p := range closurePaths(t, "", os.Getenv(name)) {
			base := filepath.Base(p)
			theirs := sha256.New()
			dump := exec.Command("nix-store", "--dump", p)
			dump.Stdout = theirs
			if err := dump.Run(); err != nil {
				t.Fatalf("nix-store --dump %s: %v", p, err)
			}
			ours := sha256.New()
			restored := filepath.Join(newDir(t), "restored")
			restore := exec.Command("nix-store", "--restore", restored)
			in, err := restore.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			restore.Stderr = &stderr
			if err := restore.Start(); err != nil {
				t.Fatal(err)
			}
			err = nar.Dump(io.MultiWriter(ours, in), files, base)
			in.Close()
			if waitErr := restore.Wait(); err != nil || waitErr != nil {
				t.Fatalf("%s: %v, nix-store --restore: %v\n%s", p, err, waitErr, stderr.Bytes())
			}
			if !bytes.Equal(ours.Sum(nil), theirs.Sum(nil)) {
				t.Errorf("%s: our NAR differs from that of nix-store --dump", p)
			}
			// What Nix has made of our NAR is the tree that it was made of.
			again := sha256.New()
			if err := nar.Dump(again, closure.DirFS(filepath.Dir(restored)), "restored"); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again.Sum(nil), theirs.Sum(nil)) {
				t.Errorf("%s: nix-store --restore gives another tree", p)
			}
			if err := removeAll(restored); err != nil {
				t.Fatal(err)
			}
		}
	}
}
