//go:build foreign

package foreign

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/internal/foreign/container"
)

// Set by TestMain.
var (
	nix2img  string // the command, built from this tree
	module   string // the root of this tree
	scratch  string // a directory that everybody may read, for all tests
	hello    string // the root of testdata/hello.export
	helloDir string // a store with hello, laid out as a root file system: nix/store and nix/var/nix/db
)

const unprivileged = 65534 // uid and gid of nobody

func TestMain(m *testing.M) {
	if os.Getenv(containerVar) != "" {
		fmt.Fprintln(os.Stderr, "container:", container.Exec(os.Args[1:]))
		os.Exit(1)
	}
	code, err := setUp(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		code = 1
	}
	os.Exit(code)
}

// setUp runs the tests between making and removing what they share.
func setUp(m *testing.M) (code int, err error) {
	if os.Getuid() != 0 {
		return 0, errors.New("these tests mount file systems: run them as root")
	}
	for _, tool := range append(moreTools, []string{
		"chroot", "containerd", "ctr", "diff", "docker-registry", "gcc", "gensquashfs", "losetup", "mkfs.xfs", "mksquashfs", "mount", "nix", "nix-instantiate", "nix-store",
		"podman", "python3", "qemu-aarch64", "qemu-arm", "setpriv", "siftool", "skopeo", "sqfsdiff", "squashfuse", "strace", "umoci", "umount", "unsquashfs", "zstd",
	}...) {
		if _, err := exec.LookPath(tool); err != nil {
			return 0, fmt.Errorf("%w (testdata/test.sh installs it)", err)
		}
	}
	for _, key := range []string{"HELLO", "BUSYBOX", "GREETER", "SMALL", "SMALL_PATH_INFO", "SMALL_CLOSURE_INFO"} {
		if os.Getenv(key) == "" {
			return 0, fmt.Errorf("%s is not set (testdata/test.sh sets it)", key)
		}
	}
	if module, err = filepath.Abs("../.."); err != nil {
		return 0, err
	}
	if scratch, err = os.MkdirTemp("", "nix2img-foreign-"); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, removeAll(scratch)) }()
	if err := os.Chmod(scratch, 0o755); err != nil {
		return 0, err
	}
	// Nothing touches the user's caches, but for Go's own.
	goCache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		return 0, fmt.Errorf("go env: %w", err)
	}
	os.Setenv("GOCACHE", strings.TrimSpace(string(goCache)))
	os.Setenv("XDG_CACHE_HOME", filepath.Join(scratch, "caches"))
	nix2img = filepath.Join(scratch, "nix2img")
	if out, err := exec.Command("go", "build", "-o", nix2img, module+"/cmd/nix2img").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build nix2img: %w\n%s", err, out)
	}
	helloDir = filepath.Join(scratch, "hello-root")
	if hello, err = importStore(helloDir, filepath.Join(module, "testdata/hello.export")); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

// importStore has Nix make a store of its own below dir and import a stream into it.
// It returns the path that the stream ends with: the root of what it holds.
func importStore(dir, stream string) (string, error) {
	f, err := os.Open(stream)
	if err != nil {
		return "", err
	}
	defer f.Close()
	cmd := exec.Command("nix-store", "--store", dir, "--import")
	cmd.Stdin = f
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("nix-store --import: %w\n%s", err, stderr.Bytes())
	}
	paths := strings.Fields(string(out))
	return paths[len(paths)-1], nil
}

// removeAll removes a directory even if it holds read-only ones, as stores do.
func removeAll(dir string) error {
	out, err := exec.Command("rm", "-rf", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("rm -rf %s: %w\n%s", dir, err, out)
	}
	return nil
}

// newDir makes a directory that everybody may read and that only this test uses.
func newDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, strings.NewReplacer("/", "_", " ", "_").Replace(t.Name())+"-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// output runs a program that must succeed and returns what it writes to standard output.
func output(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

// command prepares a run of nix2img with a fixed environment.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(nix2img, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "XDG_CACHE_HOME=" + filepath.Join(scratch, "caches")}
	return cmd
}

// result is how a run of nix2img ended.
type result struct {
	stdout, stderr string
	code           int
}

func run(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// build runs "nix2img build --no-cache -o FILE" with further arguments and returns the file.
func build(t testing.TB, args ...string) string {
	t.Helper()
	file := filepath.Join(newDir(t), "image")
	buildTo(t, command(append([]string{"build", "-q", "--no-cache", "-o", file}, args...)...))
	return file
}

func buildTo(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	if r := run(t, cmd); r.code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strings.Join(cmd.Args, " "), r.code, r.stderr)
	}
}

// digest is the SHA-256 of a file, or of size bytes of it from offset on.
func digest(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return digestOf(t, f)
}

func digestOf(t testing.TB, r io.Reader) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// inspection is the part of "nix2img inspect --json" that the tests look at.
type inspection struct {
	ImageID   string `json:"imageID"`
	Partition struct {
		Offset, Size int64
	}
	Record struct {
		Architecture string
		Segments     []struct {
			Name         string
			Offset, Size int64
		}
	}
}

func inspect(t testing.TB, image string) inspection {
	t.Helper()
	r := run(t, command("inspect", "--json", image))
	if r.code != 0 {
		t.Fatalf("inspect: exit code %d\n%s", r.code, r.stderr)
	}
	var i inspection
	if err := json.Unmarshal([]byte(r.stdout), &i); err != nil {
		t.Fatalf("inspect: %v\n%s", err, r.stdout)
	}
	if i.Partition.Size == 0 {
		t.Fatalf("inspect: no partition.size in %s", r.stdout)
	}
	return i
}

// partition opens the squashfs of an image, SIF or not.
func partition(t testing.TB, image string) *io.SectionReader {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := inspect(t, image).Partition
	return io.NewSectionReader(f, p.Offset, p.Size)
}

// mounted has the kernel mount the squashfs of an image, and returns where.
func mounted(t testing.TB, image string) string {
	t.Helper()
	p := inspect(t, image).Partition
	return mount(t, image, "-t", "squashfs", "-o",
		"loop,ro,offset="+strconv.FormatInt(p.Offset, 10)+",sizelimit="+strconv.FormatInt(p.Size, 10))
}

// mount mounts a file or file system until the test ends.
func mount(t testing.TB, source string, args ...string) string {
	t.Helper()
	dir := newDir(t)
	output(t, "mount", append(args, source, dir)...)
	t.Cleanup(func() { output(t, "umount", dir) })
	return dir
}

// closurePaths is what Nix says that a root needs, in the store below dir ("" for the default).
func closurePaths(t testing.TB, dir, root string) []string {
	t.Helper()
	args := []string{"-qR", root}
	if dir != "" {
		args = append([]string{"--store", dir}, args...)
	}
	return strings.Fields(output(t, "nix-store", args...))
}
