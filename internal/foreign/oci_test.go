//go:build foreign

package foreign

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// ociBuild builds an OCI image and returns its digest and where it is.
func ociBuild(t testing.TB, flag, file string, args ...string) (digest string) {
	t.Helper()
	cmd := command(slices.Concat([]string{"build", "-q", flag, file, "--tag", "example/app:1"}, args)...)
	r := run(t, cmd)
	if r.code != 0 {
		t.Fatalf("%q: exit code %d\n%s", cmd.Args, r.code, r.stderr)
	}
	digest, _, _ = strings.Cut(r.stdout, " ")
	return digest
}

// unpackOCI has umoci unpack a layout, and returns where the bundle is.
func unpackOCI(t testing.TB, layout string) string {
	t.Helper()
	// umoci looks for tags without a colon.
	dir := newDir(t)
	output(t, "skopeo", "copy", "-q", "--insecure-policy", "oci:"+layout+":example/app:1", "oci:"+dir+"/plain:app")
	output(t, "umoci", "unpack", "--image", dir+"/plain:app", dir+"/bundle")
	return dir + "/bundle"
}

// umociTree is what is in a layout, as umoci unpacks it.
func umociTree(t testing.TB, layout string) tree {
	t.Helper()
	return diskTree(t, unpackOCI(t, layout)+"/rootfs")
}

// Other programs read what is written, whatever the codec, and unpack what the store has:
// the same root file system as that of a squashfs.
func TestOCIReaders(t *testing.T) {
	for _, s := range []subject{helloSubject(), defaultSubject("SMALL")} {
		t.Run(s.name, func(t *testing.T) {
			dir := newDir(t)
			layout := filepath.Join(dir, "layout")
			args := append([]string{"--cache", filepath.Join(dir, "cache")}, s.args...)
			digest := ociBuild(t, "--oci", layout, args...)

			got := umociTree(t, layout)
			mustEqual(t, storeTree(t, "/"+strings.TrimPrefix(s.store, "/"), s.paths(t)), got.under("nix/store"), "umoci")
			squash := diskTree(t, mounted(t, build(t, slices.Concat([]string{"--squashfs"}, s.args)...)))
			for _, tr := range []tree{squash, got} {
				delete(tr, ".nix2img/record.json") // it tells of the squashfs
				delete(tr, ".")                    // unpackers make the root
			}
			mustEqual(t, squash, got, "the OCI image, beside the squashfs")

			var about struct{ Digest, Architecture string }
			out := output(t, "skopeo", "inspect", "oci:"+layout+":example/app:1")
			if err := json.Unmarshal([]byte(out), &about); err != nil || about.Digest != digest || about.Architecture != "amd64" {
				t.Errorf("skopeo inspect: %v\n%s", err, out)
			}
			for flag, kind := range map[string]string{"--oci-archive": "oci-archive:", "--docker-archive": "docker-archive:"} {
				file := filepath.Join(dir, kind[:3]+".tar")
				if d := ociBuild(t, flag, file, args...); d != digest {
					t.Errorf("%s: digest %s, not %s", flag, d, digest)
				}
				output(t, "skopeo", "copy", "-q", "--insecure-policy", kind+file, "dir:"+file+".dir")
			}
		})
	}
}

func TestOCIZstd(t *testing.T) {
	dir := newDir(t)
	layout := filepath.Join(dir, "layout")
	ociBuild(t, "--oci", layout, "--no-cache", "--compression", "zstd", os.Getenv("SMALL"))
	output(t, "skopeo", "copy", "-q", "--insecure-policy", "oci:"+layout+":example/app:1", "dir:"+dir+"/copy")
	blobs, err := filepath.Glob(layout + "/blobs/sha256/*")
	if err != nil || len(blobs) < 10 {
		t.Fatalf("%d blobs: %v", len(blobs), err)
	}
	for _, blob := range blobs {
		if data := readFile(t, blob); data[0] != '{' {
			output(t, "sh", "-c", "zstd -dc "+blob+" | tar -t >/dev/null")
		}
	}
}

// The digest depends neither on the number of jobs, nor on the cache, nor on hard links in the store.
func TestOCISameDigest(t *testing.T) {
	dir := newDir(t)
	cache := filepath.Join(dir, "cache")
	want := ""
	for i, args := range [][]string{
		{"--no-cache", "-j", "1"}, {"--no-cache", "-j", "2"}, {"--no-cache", "-j", "7"}, {"--no-cache", "--no-verify"},
		{"--cache", cache}, {"--cache", cache},
	} {
		got := ociBuild(t, "--oci", filepath.Join(dir, "layout"), append(args, os.Getenv("SMALL"))...)
		if i > 0 && got != want {
			t.Errorf("%q: %s, not %s", args, got, want)
		}
		want = got
	}
	store := copyStore(t)
	plain := ociBuild(t, "--oci", filepath.Join(dir, "layout"), "--no-cache", "--store", store, hello)
	output(t, "nix-store", "--store", store, "--optimise")
	if linked := ociBuild(t, "--oci", filepath.Join(dir, "layout"), "--no-cache", "--store", store, hello); linked != plain {
		t.Errorf("hard links: %s, not %s", linked, plain)
	}
}

// A build that finds everything in the cache opens no file of any store path.
func TestWarmOCIBuildOpensNoStoreFile(t *testing.T) {
	dir := newDir(t)
	args := []string{"build", "-q", "--oci", filepath.Join(dir, "layout"), "--cache", filepath.Join(dir, "cache"), os.Getenv("SMALL")}
	if cold := opened(t, args...); len(cold) < 1000 {
		t.Fatalf("the cold build opened only %d files: the trace is of no use", len(cold))
	}
	if files := opened(t, args...); len(files) > 0 {
		t.Errorf("opened %d files of the store, such as %s", len(files), files[0])
	}
}
