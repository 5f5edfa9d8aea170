//go:build foreign && acceptance

package foreign

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// newDocker starts a dockerd, and returns its client.
func newDocker(t *testing.T) engine {
	dir := runDir(t)
	host := "unix://" + dir + "/socket"
	docker := engine{"docker", "--host", host}
	daemon(t, slices.Concat(docker, []string{"version"}), "dockerd", "--host", host, "--data-root", newDir(t),
		"--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--storage-driver", "vfs",
		"--iptables=false", "--ip6tables=false", "--bridge=none")
	return docker
}

// Docker loads an archive, and a container of it has the files of the store.
func TestDocker(t *testing.T) {
	docker := newDocker(t)
	for _, compression := range []string{"gzip", "none"} {
		t.Run(compression, func(t *testing.T) {
			img := newOCIImage(t, compression, "SMALL")
			if said := docker.run(t, "load", "-q", "-i", img.docker); said != "Loaded image: example/app:1" {
				t.Errorf("docker load: %s", said)
			}
			img.mustBe(t, docker.run(t, "image", "inspect", "example/app:1"))
			dir := newDir(t)
			container := docker.run(t, "create", "--network", "none", "example/app:1")
			docker.run(t, "export", "-o", dir+"/export.tar", container)
			docker.run(t, "rm", container)
			if err := os.Mkdir(dir+"/root", 0o755); err != nil {
				t.Fatal(err)
			}
			output(t, "tar", "-x", "-C", dir+"/root", "-f", dir+"/export.tar")
			mustHave(t, dir+"/root", "SMALL")
			docker.run(t, "image", "rm", "example/app:1")
		})
	}
}

// What is said of how to start the image is what containers start with.
func TestContainersStartAsTold(t *testing.T) {
	archive := filepath.Join(newDir(t), "docker.tar")
	ociBuild(t, "--docker-archive", archive, "--user", "1000:100", "--workdir", "/nix/store", "--env", "GREETING=Hello, world",
		"--entrypoint", `["python3", "-I", "-c"]`, os.Getenv("SMALL"))
	const program = `import os; print(os.getuid(), os.getgid(), os.getcwd(), os.environ["GREETING"])`
	for _, test := range []struct {
		name  string
		start func(*testing.T) engine
		flags []string
	}{
		{"docker", newDocker, nil},
		// Limits that need no right to raise them.
		{"podman", newPodman, []string{"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := test.start(t)
			e.run(t, "load", "-q", "-i", archive)
			got := e.run(t, slices.Concat([]string{"run", "--rm", "--network", "none"}, test.flags, []string{"example/app:1", program})...)
			if want := "1000 100 /nix/store Hello, world"; got != want {
				t.Errorf("the program says %q, want %q", got, want)
			}
		})
	}
}
