//go:build foreign

package foreign

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What others have written, or could have, is not used: neither an entry nor its folder. What nobody may read is not removed.
func TestCacheEntriesOfOthers(t *testing.T) {
	dir := newDir(t)
	cache, image := filepath.Join(dir, "cache"), filepath.Join(dir, "image.sif")
	args := []string{"--sif", "--store", helloDir, hello}
	want := digest(t, build(t, args...))
	cached := func(prepare func(*exec.Cmd)) string {
		t.Helper()
		cmd := command(append([]string{"build", "--cache", cache, "-o", image}, args...)...)
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
		if prepare != nil {
			prepare(cmd)
		}
		r := run(t, cmd)
		if r.code != 0 {
			t.Fatalf("exit code %d\n%s", r.code, r.stderr)
		}
		if digest(t, image) != want {
			t.Error("other bytes")
		}
		return r.stderr
	}
	cached(nil)
	entry := entries(t, cache)[0]
	owner := func(name string, uid int) {
		t.Helper()
		if err := os.Chown(name, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	owner(entry, unprivileged)
	if said := cached(nil); !strings.Contains(said, "belongs to the user") {
		t.Errorf("an entry of somebody else:\n%s", said)
	}
	if said := cached(nil); strings.Contains(said, "note:") { // it has been made again
		t.Errorf("the next time:\n%s", said)
	}
	owner(filepath.Dir(entry), unprivileged)
	if said := cached(nil); !strings.Contains(said, "belongs to the user") {
		t.Errorf("a folder of somebody else:\n%s", said)
	}
	owner(filepath.Dir(entry), 0)

	// Another user: what belongs to root is relied on, and cannot be written to.
	owner(dir, unprivileged)
	if said := cached(asNobody); strings.Contains(said, "nothing more is kept") {
		t.Errorf("a cache of root that has all:\n%s", said)
	}
	if err := os.Chmod(entry, 0o600); err != nil {
		t.Fatal(err)
	}
	if said := cached(asNobody); !strings.Contains(said, "permission denied") {
		t.Errorf("an entry that must not be read:\n%s", said)
	}
	if _, err := os.Stat(entry); err != nil {
		t.Error(err)
	}
	mustBeSound(t, cache)
}

// A device in the place of an entry is not opened, let alone waited for.
func TestCacheWithDevices(t *testing.T) {
	dir := newDir(t)
	cache, image := filepath.Join(dir, "cache"), filepath.Join(dir, "image.sif")
	args := []string{"build", "--cache", cache, "-o", image, "--sif", "--store", helloDir, hello}
	buildTo(t, command(args...))
	want := digest(t, image)
	entry := entries(t, cache)[0]
	for _, node := range [][]string{{"c", "1", "5"}, {"c", "5", "0"}, {"b", "7", "0"}, {"p"}} { // zeros, a terminal, a disk, a pipe
		if err := os.Remove(entry); err != nil {
			t.Fatal(err)
		}
		output(t, "mknod", append([]string{entry}, node...)...)
		r := run(t, command(args...))
		if r.code != 0 || !strings.Contains(r.stderr, "made again") || digest(t, image) != want {
			t.Errorf("%q: exit code %d\n%s", node, r.code, r.stderr)
		}
		mustBeSound(t, cache)
	}
}

// A cache on a file system that is read-only here is used all the same. So is one in which there is no room for another name.
func TestCacheThatTakesNothing(t *testing.T) {
	dir := newDir(t)
	image := filepath.Join(dir, "image.sif")
	cached := func(cache string, prepare ...string) string {
		t.Helper()
		r := run(t, command("build", "--cache", cache, "-o", image, "--sif", "--store", helloDir, hello))
		if r.code != 0 {
			t.Fatalf("exit code %d\n%s", r.code, r.stderr)
		}
		return r.stderr
	}
	want := digest(t, build(t, "--sif", "--store", helloDir, hello))

	disk := mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=64m")
	cache := filepath.Join(disk, "cache")
	cached(cache)
	output(t, "mount", "-o", "remount,ro", disk)
	if said := cached(cache); digest(t, image) != want || strings.Contains(said, "read-only") {
		t.Errorf("all is there, and nothing to be written:\n%s", said)
	}
	empty := filepath.Join(mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=64m"), "cache")
	makeDir(t, empty)
	output(t, "mount", "-o", "remount,ro", filepath.Dir(empty))
	if said := cached(empty); digest(t, image) != want || strings.Count(said, "read-only file system") != 1 {
		t.Errorf("nothing is there:\n%s", said)
	}

	small := filepath.Join(mount(t, "tmpfs", "-t", "tmpfs", "-o", "nr_inodes=6,mode=755"), "cache")
	if said := cached(small); digest(t, image) != want || strings.Count(said, "no space left on device") != 1 {
		t.Errorf("few names:\n%s", said)
	}
	mustBeSound(t, small)
	if r := run(t, command("warm", "--cache", small, "--store", helloDir, hello)); r.code != exitFailed {
		t.Errorf("warm: exit code %d\n%s", r.code, r.stderr)
	}
}

// In a Nix build there is no home directory, and must not be one after it.
func TestCacheInNixBuild(t *testing.T) {
	s := openNixStore(t)
	path := s.build(t, `derivation {
  name = "image.sqsh";
  system = builtins.currentSystem;
  builder = "${pkgs.busybox}/bin/sh";
  PATH = "${pkgs.busybox}/bin";
  args = [ "-euc" ''
    [ "$HOME" = /homeless-shelter ]
    ${pkgs.nix2img}/bin/nix2img build --squashfs -o $out --from ${`+module+`/testdata/hello.export} 2>log
    cat log
    ! grep note: log
    [ ! -e /homeless-shelter ]
  '' ];
}`)
	if digest(t, s.file(path)) != digest(t, build(t, "--squashfs", "--from", filepath.Join(module, "testdata/hello.export"))) {
		t.Error("other bytes")
	}
}
