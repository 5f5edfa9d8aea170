//go:build foreign

package foreign

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// ociImage is an image as the outputs of one build hold it.
type ociImage struct {
	compression             string
	layout, archive, docker string // docker is empty if there is no such archive
	digest, id              string // of manifest and configuration
	diffIDs                 []string
}

// ociImages builds SMALL with gzip and with zstd. It has few layers, for engines that do without overlays
// copy the files of each into the next.
func ociImages(t *testing.T) (images []*ociImage) {
	for _, compression := range []string{"gzip", "zstd"} {
		images = append(images, newOCIImage(t, compression, "SMALL"))
	}
	return images
}

func newOCIImage(t *testing.T, compression, key string) *ociImage {
	t.Helper()
	dir := newDir(t)
	i := &ociImage{compression: compression, layout: filepath.Join(dir, "layout"), archive: filepath.Join(dir, "oci.tar")}
	args := append([]string{"--cache", filepath.Join(dir, "cache"), "--compression", compression, "--layers", "3"}, defaultSubject(key).args...)
	i.digest = ociBuild(t, "--oci", i.layout, args...)
	same := map[string]string{"--oci-archive": i.archive}
	if compression != "zstd" {
		i.docker = filepath.Join(dir, "docker.tar")
		same["--docker-archive"] = i.docker
	}
	for flag, file := range same {
		if digest := ociBuild(t, flag, file, args...); digest != i.digest {
			t.Fatalf("%s has digest %s, the layout %s", flag, digest, i.digest)
		}
	}
	index, err := layout.ImageIndexFromPath(i.layout)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := v1.NewHash(i.digest)
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(hash)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	name, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	i.id = name.String()
	for _, d := range config.RootFS.DiffIDs {
		i.diffIDs = append(i.diffIDs, d.String())
	}
	return i
}

// engineImage is what an engine says of an image that it has.
type engineImage struct {
	ID     string `json:"Id"`
	RootFS struct{ Layers []string }
}

// mustBe compares what "image inspect" of an engine says.
func (i *ociImage) mustBe(t *testing.T, inspected string) {
	t.Helper()
	var got []engineImage
	if err := json.Unmarshal([]byte(inspected), &got); err != nil || len(got) != 1 {
		t.Fatalf("image inspect: %v\n%s", err, inspected)
	}
	if id := strings.TrimPrefix(got[0].ID, "sha256:"); "sha256:"+id != i.id {
		t.Errorf("the image's ID is %s, want %s", id, i.id)
	}
	if !slices.Equal(got[0].RootFS.Layers, i.diffIDs) {
		t.Errorf("the layers are\n%q, want\n%q", got[0].RootFS.Layers, i.diffIDs)
	}
}

// mustHave compares the files of a root file system with those of the store.
func mustHave(t *testing.T, root, key string) {
	t.Helper()
	s := defaultSubject(key)
	mustEqual(t, storeTree(t, "/"+strings.TrimPrefix(s.store, "/"), s.paths(t)), diskTree(t, root).under("nix/store"), "the engine's files")
}

// outputs returns the files to be given to an engine, of those that it takes.
func outputs(takes ...string) []string {
	takes = slices.DeleteFunc(takes, func(file string) bool { return file == "" })
	if !manyOutputs {
		return takes[:1]
	}
	return takes
}

// An engine is a program that takes images, and its first arguments.
type engine []string

// run has the engine do something, and returns what it prints.
func (e engine) run(t testing.TB, args ...string) string {
	t.Helper()
	return strings.TrimSpace(output(t, e[0], slices.Concat(e[1:], args)...))
}

// newPodman returns a Podman with storage of its own.
func newPodman(t *testing.T) engine {
	dir := runDir(t)
	return engine{"podman", "--root", newDir(t), "--runroot", dir + "/run", "--tmpdir", dir + "/tmp",
		"--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"}
}

// Podman loads every output, and has the files of the store then.
func TestPodman(t *testing.T) {
	for _, img := range ociImages(t) {
		// Podman gives an image out of a layout the layout's name, which must be in lower case then.
		layout := runDir(t) + "/layout"
		if err := os.Symlink(img.layout, layout); err != nil {
			t.Fatal(err)
		}
		for _, source := range outputs(img.docker, img.archive, "oci:"+layout+":example/app:1") {
			t.Run(img.compression+" "+filepath.Base(source), func(t *testing.T) {
				podman := newPodman(t)
				if strings.HasPrefix(source, "oci:") {
					podman.run(t, "pull", "-q", source)
				} else if said := podman.run(t, "load", "-q", "-i", source); said != "Loaded image: localhost/example/app:1" {
					t.Errorf("podman load: %s", said)
				}
				img.mustBe(t, podman.run(t, "image", "inspect", img.id))
				mustHave(t, podman.run(t, "image", "mount", img.id), "SMALL")
			})
		}
	}
}

// newContainerd starts a containerd, and returns its client.
func newContainerd(t *testing.T) engine {
	dir := runDir(t)
	config := filepath.Join(dir, "config.toml")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n[ttrpc]\naddress = %q\n",
		newDir(t), dir+"/state", dir+"/socket", dir+"/ttrpc")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	ctr := engine{"ctr", "--address", dir + "/socket"}
	daemon(t, slices.Concat(ctr, []string{"version"}), "containerd", "--config", config)
	return ctr
}

// containerd imports every archive, and has the files of the store then.
func TestContainerd(t *testing.T) {
	ctr := newContainerd(t)
	for _, img := range ociImages(t) {
		for _, archive := range outputs(img.archive, img.docker) {
			t.Run(img.compression+" "+filepath.Base(archive), func(t *testing.T) {
				// It unpacks the layers, and compares their diffIDs.
				ctr.run(t, "image", "import", "--snapshotter", "native", archive)
				ref := ctr.run(t, "image", "ls", "-q")
				t.Cleanup(func() { ctr.run(t, "image", "rm", "--sync", ref) })
				about := strings.Fields(ctr.run(t, "image", "ls"))
				if archive == img.archive && !slices.Contains(about, img.digest) { // containerd writes another manifest for the other one
					t.Errorf("the image is not %s, but %q", img.digest, about)
				}
				if content := ctr.run(t, "content", "ls", "-q"); !strings.Contains(content, img.id) {
					t.Errorf("the configuration is not %s; there are\n%s", img.id, content)
				}
				root := newDir(t)
				ctr.run(t, "image", "mount", "--snapshotter", "native", ref, root)
				t.Cleanup(func() { ctr.run(t, "image", "unmount", "--snapshotter", "native", "--rm", root) })
				mustHave(t, root, "SMALL")
			})
		}
	}
}
