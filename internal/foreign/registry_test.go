//go:build foreign

package foreign

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// distribution starts the registry that others are made of, and returns its address.
// With passwords, it knows who is in that file.
func distribution(t *testing.T, passwords string) (host string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host = l.Addr().String()
	l.Close()
	text := fmt.Sprintf("version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", newDir(t), host)
	if passwords != "" {
		text += fmt.Sprintf("auth: {htpasswd: {realm: test, path: %q}}\n", passwords)
	}
	config := filepath.Join(newDir(t), "config.yml")
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	daemon(t, []string{"python3", "-c", "import socket; socket.create_connection(('127.0.0.1', " + strings.TrimPrefix(host, "127.0.0.1:") + "))"},
		"docker-registry", "serve", config)
	return host
}

// Others fetch what was pushed straight from a closure, and what they send is pulled as it was.
func TestRegistries(t *testing.T) {
	for _, reg := range []struct{ name, host string }{
		{"ours", registrytest.New(t).Host},
		{"distribution", distribution(t, "")},
	} {
		t.Run(reg.name, func(t *testing.T) {
			const docker = "docker://"
			dir, cache := newDir(t), filepath.Join(newDir(t), "cache")
			push := func(ref string, args ...string) (result, string) {
				t.Helper()
				r := run(t, command(slices.Concat([]string{"push", "--cache", cache, reg.host + ref}, args, helloSubject().args)...))
				_, digest, ok := strings.Cut(strings.TrimSpace(r.stdout), "@")
				if r.code != 0 || !ok {
					t.Fatalf("push %s: exit code %d\n%s%s", ref, r.code, r.stdout, r.stderr)
				}
				return r, digest
			}
			r, digest := push("/ours:1")
			if strings.Contains(r.stderr, "sent 0 B") {
				t.Errorf("push: %s", r.stderr)
			}
			for ref, want := range map[string]string{"/ours:1": "is that image already", "/ours:2": "sent 0 B of ", "/mounted:1": "sent 0 B of "} {
				if r, again := push(ref, "--mount-from", "ours"); again != digest || !strings.Contains(r.stderr, want) {
					t.Errorf("push %s again: digest %s, want %s and %q\n%s", ref, again, digest, want, r.stderr)
				}
			}
			if got := output(t, "skopeo", "inspect", "--no-tags", "--tls-verify=false", "--format", "{{.Digest}}", docker+reg.host+"/ours:1"); strings.TrimSpace(got) != digest {
				t.Errorf("skopeo inspect says %s, want %s", got, digest)
			}
			copied, pulled := filepath.Join(dir, "copied"), filepath.Join(dir, "pulled")
			output(t, "skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", docker+reg.host+"/ours:1", "oci:"+copied+":1")
			output(t, "skopeo", "copy", "--dest-tls-verify=false", "--preserve-digests", "oci:"+copied+":1", docker+reg.host+"/theirs:1")
			r = run(t, command("pull", "-q", "-o", pulled, reg.host+"/theirs:1"))
			if r.code != 0 || r.stdout != reg.host+"/theirs@"+digest+"\n" {
				t.Fatalf("pull: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			mustEqualBlobs(t, pulled, copied)

			// Podman compresses its layers anew, and calls the image by its configuration.
			podman := newPodman(t)
			id := podman.run(t, "pull", "-q", "--tls-verify=false", reg.host+"/ours:1")
			podman.run(t, "push", "-q", "--tls-verify=false", id, docker+reg.host+"/podman:1")
			again := filepath.Join(dir, "again")
			if r := run(t, command("pull", "-q", "-o", again, reg.host+"/podman:1")); r.code != 0 {
				t.Fatalf("pull: exit code %d\n%s", r.code, r.stderr)
			}
			config := readFile(t, filepath.Join(again, "blobs/sha256", id))
			if !bytes.Equal(config, readFile(t, filepath.Join(pulled, "blobs/sha256", id))) {
				t.Errorf("the configuration is\n%s", config)
			}
		})
	}
}

// Images for several platforms, in one layout, have one name in a registry.
func TestPlatformsInRegistry(t *testing.T) {
	host, dir := distribution(t, ""), newDir(t)
	built := make(map[string]string)
	const data = "/nix/store/bs2mirndaf79f67zn1dkvkx8nzk6qria-oddities-1.0" // has no program, so it may be for any CPU
	for arch, root := range map[string]string{"arm64": data, "amd64": hello} {
		built[arch] = ociBuild(t, "--oci", filepath.Join(dir, "layout"), "--no-cache", "--arch", arch, "--store", helloDir, root)
	}
	if r := run(t, command("push", host+"/app:1", "--oci", filepath.Join(dir, "layout"))); r.code != 0 {
		t.Fatalf("push: exit code %d\n%s", r.code, r.stderr)
	}
	for arch, digest := range built {
		got := output(t, "skopeo", "inspect", "--raw", "--tls-verify=false", "docker://"+host+"/app@"+digest)
		if want := string(readFile(t, filepath.Join(dir, "layout/blobs/sha256", strings.TrimPrefix(digest, "sha256:")))); got != want {
			t.Errorf("%s: the manifest is\n%s, want\n%s", arch, got, want)
		}
		about := output(t, "skopeo", "inspect", "--override-arch", arch, "--no-tags", "--tls-verify=false", "--format", "{{.Architecture}}", "docker://"+host+"/app:1")
		if strings.TrimSpace(about) != arch {
			t.Errorf("for %s, skopeo finds the image for %s", arch, about)
		}
		r := run(t, command("pull", "-q", "--arch", arch, "-o", filepath.Join(dir, "back"), host+"/app:1"))
		if r.code != 0 || r.stdout != host+"/app@"+digest+"\n" {
			t.Errorf("pull for %s: exit code %d\n%s%s", arch, r.code, r.stdout, r.stderr)
		}
	}
	mustEqualBlobs(t, filepath.Join(dir, "back"), filepath.Join(dir, "layout"))
}

// A registry that asks who is there takes nothing from others, and says so before there is anything to send.
func TestRegistryCredentials(t *testing.T) {
	dir := newDir(t)
	passwords := filepath.Join(dir, "htpasswd")
	// of the password "secret", by htpasswd -Bbn
	if err := os.WriteFile(passwords, []byte("me:$2b$05$tu/tqAO5FVGE49gvKLMIve46G1inG3Yhl2EDfNLtSfK655a5XKDgq\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	host := distribution(t, passwords)
	cache := filepath.Join(dir, "cache")
	for _, test := range []struct {
		name, auth string
		code       int
	}{
		{"nobody", "", 4},
		{"a wrong password", "me:guess", 4},
		{"the right one", "me:secret", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"push", "--cache", cache, host + "/app:1"}, helloSubject().args...)
			if test.auth != "" {
				file := filepath.Join(newDir(t), "auth.json")
				text := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(test.auth)))
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--authfile", file)
			}
			r := run(t, command(args...))
			if r.code != test.code {
				t.Fatalf("exit code %d, want %d\n%s", r.code, test.code, r.stderr)
			}
			if _, err := os.Stat(cache); test.code != 0 && (err == nil || !strings.Contains(r.stderr, "podman login "+host)) {
				t.Errorf("there is a cache (%v), or no advice:\n%s", err == nil, r.stderr)
			}
		})
	}
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
