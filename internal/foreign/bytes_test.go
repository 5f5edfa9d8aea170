//go:build foreign

package foreign

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A variant is a way to build an image that must not change a byte of it.
type variant struct {
	name    string
	args    []string
	stdin   string          // a file
	prepare func(*exec.Cmd) // last changes to the command
}

// mustGiveSameBytes builds an image in each way, with a cache that is empty at first and without,
// and compares the files.
func mustGiveSameBytes(t *testing.T, reference []string, variants []variant) {
	want := digest(t, build(t, append([]string{"--sif"}, reference...)...))
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			dir := newDir(t)
			if err := os.Chown(dir, unprivileged, unprivileged); err != nil {
				t.Fatal(err)
			}
			for _, noCache := range []bool{false, true} {
				file := filepath.Join(dir, "image")
				cmd := command(append([]string{"build", "-q", "-o", file, "--sif", fmt.Sprintf("--no-cache=%t", noCache)}, v.args...)...)
				cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+dir)
				if v.stdin != "" {
					f, err := os.Open(v.stdin)
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
					cmd.Stdin = f
				}
				if v.prepare != nil {
					v.prepare(cmd)
				}
				buildTo(t, cmd)
				if digest(t, file) != want {
					t.Errorf("--no-cache=%t: other bytes", noCache)
				}
			}
		})
	}
}

func asNobody(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: unprivileged, Gid: unprivileged}}
}

func environment(vars ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, vars...) }
}

// The shipped closure gives one image: from any source, at any number of workers,
// for any user, and whatever the store's files look like beside their contents.
func TestSameBytes(t *testing.T) {
	dir := newDir(t)
	write := func(name, content string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	paths := closurePaths(t, helloDir, hello)
	pathInfo := write("path-info.json", output(t, "nix", "--extra-experimental-features", "nix-command",
		"path-info", "--store", helloDir, "--json", "-r", hello))
	dump := write("dump-db", output(t, "nix-store", append([]string{"--store", helloDir, "--dump-db"}, paths...)...))
	stream := write("export", output(t, "nix-store", append([]string{"--store", helloDir, "--export"}, paths...)...))

	result := filepath.Join(dir, "result")
	inside := filepath.Join(dir, "inside")
	for link, target := range map[string]string{result: hello, inside: hello + "/bin/hello"} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}

	copyOf := func(name string) string {
		t.Helper()
		copied := filepath.Join(dir, name)
		output(t, "cp", "-a", helloDir, copied)
		return copied
	}
	optimised := copyOf("optimised")
	output(t, "nix-store", "--store", optimised, "--optimise")
	if linked := output(t, "find", optimised+"/nix/store", "-maxdepth", "5", "-type", "f", "-links", "+2"); linked == "" {
		t.Fatal("nix-store --optimise has linked nothing")
	}
	touched := copyOf("touched")
	output(t, "find", touched+"/nix/store", "-exec", "touch", "-h", "{}", "+")
	output(t, "chmod", "-R", "u+w", touched)
	output(t, "chown", "-hR", "1234:5678", touched+"/nix/store")
	optimisedByNobody := filepath.Join(dir, "nobody")
	output(t, "cp", "-a", optimised, optimisedByNobody)
	output(t, "chown", "-hR", "65534:65534", optimisedByNobody)

	in := func(store string, more ...string) []string {
		return append([]string{"--store", store}, more...)
	}
	db := in(helloDir, hello)
	mustGiveSameBytes(t, db, []variant{
		{name: "again", args: db},
		{name: "1 worker", args: append([]string{"-j", "1"}, db...)},
		{name: "2 workers", args: append([]string{"-j", "2"}, db...)},
		{name: "7 workers", args: append([]string{"-j", "7"}, db...)},
		{name: "64 workers", args: append([]string{"-j", "64"}, db...)},
		{name: "stream", args: []string{"--from", stream}},
		{name: "stream on stdin", args: []string{"--from", "-"}, stdin: stream},
		{name: "shipped stream", args: []string{"--from", filepath.Join(module, "testdata/hello.export")}},
		{name: "stream and root", args: []string{"--from", stream, hello}},
		{name: "path-info", args: in(helloDir, "--closure", pathInfo)},
		{name: "path-info on stdin", args: in(helloDir, "--closure", "-", hello), stdin: pathInfo},
		{name: "dump-db", args: in(helloDir, "--closure", dump, hello)},
		{name: "result link", args: in(helloDir, result)},
		{name: "path inside", args: in(helloDir, hello+"/bin/hello")},
		{name: "link to a path inside", args: in(helloDir, inside)},
		{name: "hard-linked store", args: in(optimised, hello)},
		{name: "times, modes and owners of the store", args: in(touched, hello)},
		{name: "nobody", args: db, prepare: asNobody},
		{name: "nobody's store", args: in(optimisedByNobody, hello), prepare: asNobody},
		{name: "umask 077", args: db, prepare: func(cmd *exec.Cmd) {
			cmd.Args = append([]string{"sh", "-c", `umask 077; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
			cmd.Path = "/bin/sh"
		}},
		{name: "time zone", args: db, prepare: environment("TZ=Asia/Kathmandu")},
		{name: "locale", args: db, prepare: environment("LANG=de_DE.UTF-8", "LC_ALL=tr_TR.UTF-8")},
		{name: "SOURCE_DATE_EPOCH", args: db, prepare: environment("SOURCE_DATE_EPOCH=1700000000")},
		{name: "GOMAXPROCS", args: db, prepare: environment("GOMAXPROCS=1")},
		{name: "no environment", args: db, prepare: func(cmd *exec.Cmd) { cmd.Env = []string{} }},
		{name: "other directory", args: db, prepare: func(cmd *exec.Cmd) { cmd.Dir = dir }},
	})
}

// A closure with a Python environment gives one image from everything that Nix says of it.
func TestSameBytesOfSmall(t *testing.T) {
	dir := newDir(t)
	root := os.Getenv("SMALL")
	info := os.Getenv("SMALL_CLOSURE_INFO")
	stream := filepath.Join(dir, "export")
	output(t, "sh", "-c", `nix-store --export $(nix-store -qR "$0") >"$1"`, root, stream)
	// a builder sees the graph without hashes in this form, too
	graph := filepath.Join(dir, "graph")
	writeReferencesGraph(t, graph, "", root)

	mustGiveSameBytes(t, []string{root}, []variant{
		{name: "1 worker", args: []string{"-j", "1", root}},
		{name: "7 workers", args: []string{"-j", "7", root}},
		{name: "nobody", args: []string{root}, prepare: asNobody},
		{name: "path-info", args: []string{"--closure", os.Getenv("SMALL_PATH_INFO")}},
		{name: "closureInfo", args: []string{"--closure", info}},
		{name: "registration", args: []string{"--closure", filepath.Join(info, "registration"), root}},
		{name: "attrs.json", args: []string{"--closure", filepath.Join(info, "attrs.json")}},
		{name: "references graph", args: []string{"--closure", graph}},
		{name: "stream", args: []string{"--from", stream}},
	})
}

// writeReferencesGraph writes what Nix gives to a derivation with exportReferencesGraph:
// for each path its name, its deriver, and its references with their number before them.
func writeReferencesGraph(t testing.TB, file, store, root string) {
	t.Helper()
	var b strings.Builder
	for _, p := range closurePaths(t, store, root) {
		refs := strings.Fields(output(t, "nix-store", "-q", "--references", p))
		b.WriteString(p + "\n\n")
		b.WriteString(strconv.Itoa(len(refs)) + "\n")
		for _, ref := range refs {
			b.WriteString(ref + "\n")
		}
	}
	if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The command gives the same bytes when it is built without cgo, without assembly,
// and for other machines, one of them of 32 bits, which are emulated.
func TestSameBytesOfOtherBuilds(t *testing.T) {
	dir := newDir(t)
	for _, b := range []struct {
		name     string
		args     []string
		env      []string
		emulator string // or none
		subject  subject
	}{
		{"no cgo", nil, []string{"CGO_ENABLED=0"}, "", defaultSubject("SMALL")},
		{"no assembly", []string{"-tags", "noasm"}, []string{"CGO_ENABLED=0"}, "", defaultSubject("SMALL")},
		{"arm64", nil, []string{"CGO_ENABLED=0", "GOARCH=arm64"}, "qemu-aarch64", helloSubject()},
		{"32 bits", nil, []string{"CGO_ENABLED=0", "GOARCH=arm"}, "qemu-arm", helloSubject()},
	} {
		t.Run(b.name, func(t *testing.T) {
			other := filepath.Join(dir, "nix2img")
			cmd := exec.Command("go", append(append([]string{"build"}, b.args...), "-o", other, module+"/cmd/nix2img")...)
			cmd.Env = append(os.Environ(), b.env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			run := func(cmd *exec.Cmd) {
				cmd.Path = other
				if b.emulator != "" {
					emulated := exec.Command(b.emulator, append([]string{other}, cmd.Args[1:]...)...)
					cmd.Path, cmd.Args, cmd.Err = emulated.Path, emulated.Args, emulated.Err
				}
			}
			for codec, s := range map[string]subject{"gzip": b.subject, "zstd-go": b.subject, "lz4": b.subject, "xz": helloSubject()} {
				args := append([]string{"--compression", codec}, s.args...)
				mustGiveSameBytes(t, args, []variant{{name: codec, args: args, prepare: run}})
			}
			out := newDir(t)
			refused := command("build", "--sif", "--compression", "zstd", "-o", filepath.Join(out, "image"), "--store", helloDir, hello)
			run(refused)
			mustFail(t, refused, out, exitFailed, "zstd", "cgo")
		})
	}
}

// With -o - the image goes to standard output, and the result to standard error.
func TestStandardOutput(t *testing.T) {
	for _, format := range []string{"--sif", "--squashfs"} {
		r := run(t, command(append([]string{"build", format, "-o", "-"}, helloSubject().args...)...))
		if r.code != 0 {
			t.Fatalf("%s: exit code %d\n%s", format, r.code, r.stderr)
		}
		if digestOf(t, strings.NewReader(r.stdout)) != digest(t, build(t, append([]string{format}, helloSubject().args...)...)) {
			t.Errorf("%s: other bytes than in a file", format)
		}
		if !strings.Contains(r.stderr, "sha256:") {
			t.Errorf("%s: no image ID in %q", format, r.stderr)
		}
		r = run(t, command(append([]string{"build", format, "--no-cache", "-o", "-"}, helloSubject().args...)...))
		if r.code != 0 || digestOf(t, strings.NewReader(r.stdout)) != digest(t, build(t, append([]string{format}, helloSubject().args...)...)) {
			t.Errorf("%s, without a cache: exit code %d, or other bytes\n%s", format, r.code, r.stderr)
		}
	}
}
