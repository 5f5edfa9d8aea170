//go:build foreign

package foreign

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// A nixStore is a store of its own in which Nix builds with the project's expressions and the stand-in for nixpkgs.
type nixStore struct {
	dir     string // nix/store and nix/var are below
	nixpkgs string // the stand-in, complete
	source  string // the project's Nix expressions, as a flake with a lock
	env     []string
}

// staticCommand builds nix2img for a sandbox that has no C library.
var staticCommand = sync.OnceValues(func() (string, error) {
	name := filepath.Join(scratch, "nix2img-static")
	cmd := exec.Command("go", "build", "-tags", "netgo,osusergo", "-ldflags", "-s -w -linkmode=external -extldflags=-static", "-o", name, module+"/cmd/nix2img")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build nix2img: %w\n%s", err, out)
	}
	return name, nil
})

// shared is the store of all tests: what one builds is there for the others.
var shared *nixStore

func openNixStore(t *testing.T) *nixStore {
	t.Helper()
	if shared != nil {
		return shared
	}
	dir, err := os.MkdirTemp(scratch, "nix-")
	if err != nil {
		t.Fatal(err)
	}
	s := &nixStore{
		dir:     filepath.Join(dir, "root"),
		nixpkgs: filepath.Join(dir, "nixpkgs"),
		source:  filepath.Join(dir, "source"),
	}
	s.env = append(os.Environ(), "NIX_CONF_DIR="+dir, "XDG_CACHE_HOME="+filepath.Join(dir, "cache"), "HOME="+dir, "NIX_PATH=", "NIX_REMOTE=")
	writeFile(t, filepath.Join(dir, "nix.conf"), []byte(`
build-users-group =
sandbox = true
substituters =
experimental-features = nix-command flakes
`))
	static, err := staticCommand()
	if err != nil {
		t.Fatal(err)
	}
	output(t, "cp", "-r", filepath.Join(module, "testdata/nixpkgs"), s.nixpkgs)
	output(t, "install", "-D", os.Getenv("BUSYBOX")+"/bin/busybox", s.nixpkgs+"/bin/busybox")
	output(t, "install", "-D", static, s.nixpkgs+"/command/nix2img")
	makeDir(t, s.source)
	output(t, "cp", "-r", module+"/flake.nix", module+"/default.nix", module+"/nix", s.source)
	s.run(t, "nix", "flake", "lock", "path:"+s.source, "--override-input", "nixpkgs", "path:"+s.nixpkgs)
	shared = s
	return s
}

func makeDir(t *testing.T, name string) {
	t.Helper()
	if err := os.MkdirAll(name, 0o755); err != nil {
		t.Fatal(err)
	}
}

// try runs a program of Nix, and returns its standard output and all that it says.
func (s *nixStore) try(t *testing.T, name string, args ...string) (stdout, all string, err error) {
	t.Helper()
	cmd := exec.Command(name, append(args, "--store", s.dir)...)
	cmd.Env = s.env
	cmd.Dir = filepath.Dir(s.dir)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	return out.String(), out.String() + log.String(), err
}

func (s *nixStore) run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, all, err := s.try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, all)
	}
	return strings.TrimSpace(out)
}

// expression is Nix code that has the stand-in as pkgs.
func (s *nixStore) expression(text string) []string {
	return []string{"-E", fmt.Sprintf("let pkgs = import %s { overlays = [ (import %s/nix/overlay.nix) ]; }; in %s", s.nixpkgs, s.source, text)}
}

// build builds what an expression means, and returns its path in the store.
func (s *nixStore) build(t *testing.T, text string) string {
	t.Helper()
	return s.run(t, "nix-build", append(s.expression(text), "--no-out-link")...)
}

// refused builds what must not be built, and returns what Nix says.
func (s *nixStore) refused(t *testing.T, text string) string {
	t.Helper()
	out, all, err := s.try(t, "nix-build", append(s.expression(text), "--no-out-link")...)
	if err == nil {
		t.Errorf("%s was built: %s", text, out)
	}
	return all
}

// file is where a path of the store is on this machine.
func (s *nixStore) file(name string) string { return filepath.Join(s.dir, name) }

// chroot runs a program of the store, where there is nothing else.
func (s *nixStore) chroot(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	makeDir(t, s.dir+"/tmp")
	cmd := exec.Command("chroot", append([]string{s.dir}, args...)...)
	cmd.Env = []string{"PATH=" + s.build(t, "pkgs.busybox") + "/bin", "TMPDIR=/tmp"}
	return cmd
}

// Images that Nix has built have the bytes of those that are built by hand.
func TestNixBuildsTheSameImages(t *testing.T) {
	s := openNixStore(t)
	hello := s.build(t, "pkgs.hello")
	for _, c := range []struct {
		function, args string
		by             []string
	}{
		{"buildSif", "", []string{"--sif", "-o"}},
		{"buildSif", `env.GREETING = "it's a \"day\""; labels.a = 1; entrypoint = [ "hello" "you all" ]; files."/scratch/" = null; nv = "yes";`,
			[]string{"--entrypoint", `["hello","you all"]`, "--env", `GREETING=it's a "day"`, "--label", "a=1", "--file", "/scratch/", "--nv", "yes", "--sif", "-o"}},
		{"buildSif", `compression = "zstd:5"; blockSize = "512K"; created = 1000;`,
			[]string{"--compression", "zstd:5", "--block-size", "512K", "--created", "1000", "--sif", "-o"}},
		{"buildOciSif", "", []string{"--oci-sif", "-o"}},
		{"buildSquashfs", `files."/etc/motd" = builtins.toFile "motd" "Welcome\n";`, []string{"--file", module + "/internal/foreign/testdata/motd:/etc/motd", "--squashfs", "-o"}},
		{"buildOci", `tag = "hello:1"; user = "1000"; exposedPorts = [ "80/tcp" ]; annotations.a = "b"; layers = 2;`,
			[]string{"--tag", "hello:1", "--user", "1000", "--expose", "80/tcp", "--annotation", "a=b", "--layers", "2", "--oci-archive"}},
	} {
		got := s.build(t, fmt.Sprintf("(pkgs.nix2img.%s { roots = [ pkgs.hello ]; %s }).image", c.function, c.args))
		want := filepath.Join(newDir(t), "image")
		args := append(append([]string{"build", "-q", "--no-cache", "--store", s.dir}, c.by...), want, hello)
		buildTo(t, command(args...))
		if digest(t, s.file(got)) != digest(t, want) {
			t.Errorf("%s { %s } has other bytes than nix2img %s", c.function, c.args, strings.Join(args, " "))
		}
		// The names of store paths are in it, but it does not keep them: from Nix 2.18 on, which this one is not.
		if name := filepath.Base(got); !strings.Contains(name, "-hello.") {
			t.Errorf("%s makes %s", c.function, name)
		}
	}
}

// What the functions return is small. It makes images outside of the store.
func TestNixImagesStayOutOfTheStore(t *testing.T) {
	s := openNixStore(t)
	const image = "(pkgs.nix2img.buildSif { roots = [ pkgs.hello ]; })"
	want := digest(t, s.file(s.build(t, image+".image")))
	stream := s.build(t, image+".stream")
	for _, small := range []string{s.build(t, image), stream, s.build(t, image+".closure")} {
		size := strings.Fields(output(t, "du", "-sb", s.file(small)))[0]
		if len(size) > 5 {
			t.Errorf("%s has %s bytes", small, size)
		}
	}
	var out, log bytes.Buffer
	cmd := s.chroot(t, stream+"/bin/stream-hello")
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("stream: %v\n%s", err, log.Bytes())
	}
	if got := digestOf(t, &out); got != want {
		t.Error("the stream has other bytes than the image in the store")
	}
	buildTo(t, s.chroot(t, s.build(t, image)+"/bin/build-hello", "/tmp/hello.sif"))
	copyTo := s.build(t, image+".copyTo") + "/bin/copy-hello"
	buildTo(t, s.chroot(t, copyTo, "/tmp/copy.sif"))
	for _, name := range []string{"/tmp/hello.sif", "/tmp/copy.sif"} {
		if digest(t, s.file(name)) != want {
			t.Errorf("%s has other bytes than the image in the store", name)
		}
	}
	buildTo(t, s.chroot(t, copyTo, "oci:/tmp/layout:hello:1"))
	buildTo(t, s.chroot(t, copyTo, "oci-archive:/tmp/archive.tar"))
	for _, name := range []string{"oci:" + s.file("/tmp/layout:hello:1"), "oci-archive:" + s.file("/tmp/archive.tar")} {
		if inspected := output(t, "skopeo", "inspect", "--config", name); !strings.Contains(inspected, "bin/hello") {
			t.Errorf("%s does not start hello: %s", name, inspected)
		}
	}
	// An engine that keeps what it is to load.
	makeDir(t, s.file("/dev"))
	writeFile(t, s.file("/dev/null"), nil)
	writeFile(t, s.file("/tmp/podman"), []byte("#!/bin/sh\ncat >/tmp/loaded.tar\n"))
	if err := os.Chmod(s.file("/tmp/podman"), 0o755); err != nil {
		t.Fatal(err)
	}
	load := s.chroot(t, s.build(t, "pkgs.busybox")+"/bin/sh", "-c",
		"mkdir -p /bin && ln -sf "+s.build(t, "pkgs.busybox")+"/bin/sh /bin/sh && exec "+s.build(t, image+".load")+"/bin/load-hello")
	load.Env[0] += ":/tmp"
	buildTo(t, load)
	if got := output(t, "skopeo", "inspect", "--config", "docker-archive:"+s.file("/tmp/loaded.tar")); !strings.Contains(got, "bin/hello") {
		t.Errorf("what was loaded does not start hello: %s", got)
	}
}

// An image is sent to a registry without lying in the store.
func TestNixPushes(t *testing.T) {
	s := openNixStore(t)
	registry := distribution(t, "")
	push := s.build(t, "(pkgs.nix2img.buildOci { roots = [ pkgs.hello ]; }).push")
	ref := registry + "/hello:1"
	buildTo(t, s.chroot(t, push+"/bin/push-hello", ref))
	if got := output(t, "skopeo", "inspect", "--tls-verify=false", "--config", "docker://"+ref); !strings.Contains(got, "bin/hello") {
		t.Errorf("what was pushed does not start hello: %s", got)
	}
}

// Checks are builds: some need no GPU, the others a builder that has one.
func TestNixChecks(t *testing.T) {
	s := openNixStore(t)
	const image = `(pkgs.nix2img.buildSif {
		roots = [ pkgs.hello ];
		env.FROM = "the sandbox";
		for = [ "A100" ];
		gpuChecks.greets = [ "hello" "GPU" ];
		gpuBenchmarks.speed = "hello $FROM";
	})`
	if out := output(t, "cat", s.file(s.build(t, image+".checks.runs"))); out != "Hello, --version!\n" {
		t.Errorf("the program printed %q", out)
	}
	if log := s.refused(t, image+".checks.gpuVerdict"); !strings.Contains(log, "A100") {
		t.Errorf("a program without GPU code: %s", log)
	}
	var report map[string]any
	if err := json.Unmarshal([]byte(output(t, "cat", s.file(s.build(t, image+".gpuReport")))), &report); err != nil {
		t.Error(err)
	}
	for _, check := range []struct{ name, features, want string }{
		{".gpuChecks.greets", "cuda", "Hello, GPU!\n"},
		{".gpuBenchmarks.speed", "cuda benchmark", "Hello, the sandbox!\n"},
	} {
		if log := s.refused(t, image+check.name); !strings.Contains(log, "cuda") {
			t.Errorf("%s was refused for another reason: %s", check.name, log)
		}
		got := s.run(t, "nix-build", append(s.expression(image+check.name), "--no-out-link", "--option", "system-features", check.features)...)
		if out := output(t, "cat", s.file(got)); out != check.want {
			t.Errorf("%s printed %q", check.name, out)
		}
	}
}

// A mistake in the arguments is an error that says where.
func TestNixArguments(t *testing.T) {
	s := openNixStore(t)
	for text, want := range map[string]string{
		`(pkgs.nix2img.buildSif { roots = [ pkgs.hello ]; entryPoint = "x"; })`:                                         "no such option: entryPoint",
		`(pkgs.nix2img.buildImage { format = "zip"; roots = [ pkgs.hello ]; })`:                                         "format zip is not one of",
		`pkgs.nix2img.compat.singularity-tools.buildImage { name = "a"; contents = [ ]; runAsRoot = "x"; }`:             "no virtual machine",
		`pkgs.nix2img.compat.dockerTools.buildLayeredImage { name = "a"; fakeRootCommands = "chown 1 x"; }`:             "all files belong to root",
		`pkgs.nix2img.compat.dockerTools.buildLayeredImage { name = "a"; contents = [ pkgs.hello ]; created = "now"; }`: "another image",
	} {
		if log := s.refused(t, text); !strings.Contains(log, want) {
			t.Errorf("%s: %s", text, log)
		}
	}
}

// Calls of nixpkgs' own functions work with another name in front.
func TestNixStandsInForNixpkgs(t *testing.T) {
	s := openNixStore(t)
	got := s.build(t, `pkgs.nix2img.compat.singularity-tools.buildImage {
		name = "greeter"; contents = [ pkgs.hello ]; diskSize = 1024; memSize = 512; runScript = "#!${pkgs.busybox}/bin/sh\nexec hello run script\n";
	}`)
	root := mounted(t, s.file(got))
	if out := output(t, "chroot", root, "/bin/hello", "me"); out != "Hello, me!\n" {
		t.Errorf("/bin/hello says %q", out)
	}
	if script := output(t, "cat", root+"/.singularity.d/runscript"); !strings.Contains(script, "greeter-run-script") {
		t.Errorf("it runs %s", script)
	}
	const docker = `{
		name = "group/hello"; tag = "2"; contents = [ pkgs.hello ]; maxLayers = 3; extraCommands = "mkdir -p data && echo 1 >data/one";
		config = { Cmd = [ "/bin/hello" "you" ]; Env = [ "A=b=c" ]; WorkingDir = "/data"; ExposedPorts."80/tcp" = { }; };
	}`
	archive := s.build(t, "pkgs.nix2img.compat.dockerTools.buildLayeredImage "+docker)
	var config struct {
		Config struct {
			Cmd, Env     []string
			WorkingDir   string
			ExposedPorts map[string]any
		}
	}
	if err := json.Unmarshal([]byte(output(t, "skopeo", "inspect", "--config", "docker-archive:"+s.file(archive))), &config); err != nil {
		t.Fatal(err)
	}
	c := config.Config
	if strings.Join(c.Cmd, " ") != "/bin/hello you" || c.WorkingDir != "/data" || len(c.ExposedPorts) != 1 || !strings.Contains(strings.Join(c.Env, " "), "A=b=c") {
		t.Errorf("the configuration is %+v", c)
	}
	for name, want := range map[string]string{"/data/one": "1\n", "/bin/hello": ""} {
		r := run(t, command("cat", s.file(archive), name))
		if r.code != 0 || want != "" && r.stdout != want {
			t.Errorf("%s: %q, exit code %d: %s", name, r.stdout, r.code, r.stderr)
		}
	}
	stream := s.build(t, "pkgs.nix2img.compat.dockerTools.streamLayeredImage "+docker)
	var out bytes.Buffer
	cmd := s.chroot(t, stream)
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil || digestOf(t, &out) != digest(t, s.file(archive)) {
		t.Errorf("the stream is not the archive: %v", err)
	}
}

// The flake is what Nix takes for one, and its bundlers make images of derivations and of apps.
func TestNixFlake(t *testing.T) {
	s := openNixStore(t)
	flake := "path:" + s.source
	if shown := s.run(t, "nix", "flake", "show", flake); !strings.Contains(shown, "nix2img-") {
		t.Errorf("flake show: %s", shown)
	}
	s.run(t, "nix", "flake", "check", flake)
	makeDir(t, s.nixpkgs+"/app")
	writeFile(t, s.nixpkgs+"/app/flake.nix", []byte(`{
		inputs.nixpkgs.url = "path:`+s.nixpkgs+`";
		outputs = { self, nixpkgs }: {
			apps.x86_64-linux.default = { type = "app"; program = "${nixpkgs.packages.x86_64-linux.hello}/bin/hello"; };
		};
	}`))
	for _, what := range []string{"path:" + s.nixpkgs + "#hello", "path:" + s.nixpkgs + "/app"} {
		for bundler, by := range map[string][]string{
			"toSif": {"--sif", "-o"}, "toSquashfs": {"--squashfs", "-o"}, "toOci": {"--oci-archive"},
		} {
			link := filepath.Join(newDir(t), "image")
			s.run(t, "nix", "bundle", "--bundler", flake+"#"+bundler, what, "-o", link)
			got, err := os.Readlink(link)
			if err != nil {
				t.Fatal(err)
			}
			want := filepath.Join(newDir(t), "image")
			hello := s.build(t, "pkgs.hello")
			args := append([]string{"build", "-q", "--no-cache", "--store", s.dir}, by...)
			args = append(args, want, hello)
			if strings.HasSuffix(what, "app") {
				args = append(args, "--entrypoint", hello+"/bin/hello")
			}
			buildTo(t, command(args...))
			if digest(t, s.file(got)) != digest(t, want) {
				t.Errorf("%s of %s has other bytes than nix2img %s", bundler, what, strings.Join(args, " "))
			}
		}
	}
}

// Under Hydra's rules an expression reads nothing but its inputs.
func TestNixRestrictedEvaluation(t *testing.T) {
	s := openNixStore(t)
	s.run(t, "nix-instantiate", "--option", "restrict-eval", "true", "-I", "nixpkgs="+s.nixpkgs, "-I", "nix2img="+s.source, "-E",
		`(import <nix2img> { pkgs = import <nixpkgs> { }; }).buildSif { roots = [ (import <nixpkgs> { }).hello ]; }`)
}

// One derivation has its image beside it.
func TestNixSession(t *testing.T) {
	s := openNixStore(t)
	dir := filepath.Join(filepath.Dir(s.dir), "edm")
	makeDir(t, dir)
	writeFile(t, dir+"/flake.nix", []byte(`{
		inputs.nixpkgs.url = "path:`+s.nixpkgs+`";
		inputs.nix2img.url = "path:`+s.source+`";
		inputs.nix2img.inputs.nixpkgs.follows = "nixpkgs";
		outputs = { self, nixpkgs, nix2img }:
			let hello = nixpkgs.legacyPackages.x86_64-linux.hello;
			in {
				packages.x86_64-linux.edm = hello // {
					image = (nix2img.lib.x86_64-linux.buildSif { name = "edm"; roots = [ hello ]; }).image;
				};
			};
	}`))
	link := filepath.Join(dir, "edm.img")
	s.run(t, "nix", "build", "-L", "path:"+dir+"#edm.image", "-o", link)
	image, err := os.Readlink(link)
	if err != nil {
		t.Fatal(err)
	}
	if out := output(t, "chroot", mounted(t, s.file(image)), s.build(t, "pkgs.hello")+"/bin/hello", "cluster"); out != "Hello, cluster!\n" {
		t.Errorf("the image says %q", out)
	}
}

// Flake references and derivations are built by Nix, and packed by us.
func TestNixRealises(t *testing.T) {
	s := openNixStore(t)
	hello := s.build(t, "pkgs.hello")
	want := build(t, "--squashfs", "--store", s.dir, hello)
	drv := s.run(t, "nix-instantiate", s.expression("pkgs.hello")...)
	for _, root := range []string{"path:" + s.nixpkgs + "#hello", drv, drv + "^*", drv + "^out"} {
		got := filepath.Join(newDir(t), "image")
		cmd := command("build", "--no-cache", "--squashfs", "-o", got, "--store", s.dir, root)
		cmd.Env = append(s.env, "NIX_REMOTE=local?root="+s.dir)
		r := run(t, cmd)
		if r.code != 0 || !strings.Contains(r.stderr, "nix2img: running nix") {
			t.Fatalf("%s: exit code %d\n%s", root, r.code, r.stderr)
		}
		if digest(t, got) != digest(t, want) {
			t.Errorf("%s has other bytes than %s", root, hello)
		}
	}
}

// The package's hash of the modules is that of the modules.
func TestNixVendorHash(t *testing.T) {
	dir := filepath.Join(newDir(t), "vendor")
	cmd := exec.Command("go", "mod", "vendor", "-o", dir)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := strings.TrimSpace(output(t, "nix", "--extra-experimental-features", "nix-command", "hash", "path", "--type", "sha256", dir))
	text := output(t, "cat", module+"/nix/package.nix")
	got := regexp.MustCompile(`vendorHash = "([^"]*)"`).FindStringSubmatch(text)
	if got == nil || got[1] != want {
		t.Errorf("nix/package.nix has another vendorHash than %s", want)
	}
}
