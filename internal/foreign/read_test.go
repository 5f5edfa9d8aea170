//go:build foreign

package foreign

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A subject is a closure and the ways to name it.
type subject struct {
	name  string
	root  string   // a store path
	store string   // the root directory of its store; "" for the default
	args  []string // what names it on the command line
}

func helloSubject() subject {
	return subject{"hello", hello, helloDir, []string{"--store", helloDir, hello}}
}

func defaultSubject(key string) subject {
	root := os.Getenv(key)
	if root == "" {
		panic(key + " is not set: TestMain should have said so")
	}
	return subject{strings.ToLower(key), root, "", []string{root}}
}

func (s subject) paths(t testing.TB) []string { return closurePaths(t, s.store, s.root) }

// checkStore has the kernel mount an image and compares its store with the subject's.
// It returns the whole root file system.
func checkStore(t *testing.T, s subject, image string) tree {
	t.Helper()
	root := diskTree(t, mounted(t, image))
	want := storeTree(t, "/"+strings.TrimPrefix(s.store, "/"), s.paths(t))
	got := root.under("nix/store")
	mustEqual(t, want, got, "kernel")
	return root
}

// The partition of a SIF, mounted by the kernel, holds the store paths as Nix has made them,
// and every other reader sees what the kernel sees.
func TestReadersAgree(t *testing.T) {
	for _, s := range []subject{helloSubject(), defaultSubject("GREETER"), defaultSubject("SMALL")} {
		t.Run(s.name, func(t *testing.T) {
			sif := build(t, append([]string{"--sif"}, s.args...)...)
			kernel := checkStore(t, s, sif)
			mustEqual(t, kernel, unsquashfsTree(t, sif), "unsquashfs")
			mustEqual(t, kernel, fuseTree(t, sif), "squashfuse")
			mustEqual(t, kernel, ownTree(t, partition(t, sif)), "squashfs.Open")
			mustEqual(t, asDiskfs(kernel), diskfsTree(t, sif), "go-diskfs")
		})
	}
}

// Every codec and block size gives images that the kernel reads.
func TestKernelReadsEveryCodec(t *testing.T) {
	s := helloSubject()
	for _, codec := range []string{"gzip", "gzip:1", "gzip:9", "zstd", "zstd:19", "zstd-go", "lz4", "xz", "none"} {
		for _, size := range []string{"4K", "128K", "1M"} {
			t.Run(codec+"/"+size, func(t *testing.T) {
				args := append([]string{"--squashfs", "--compression", codec, "--block-size", size}, s.args...)
				image := build(t, args...)
				checkStore(t, s, image)
				if codec != "none" && fileSize(t, image) > 1_500_000 {
					t.Errorf("%d bytes: nothing was compressed", fileSize(t, image))
				}
			})
		}
	}
}

func fileSize(t testing.TB, name string) int64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// A SIF is a header, the squashfs that --squashfs gives, and the build record.
func TestSIFHoldsTheSquashfs(t *testing.T) {
	dir := newDir(t)
	sif, bare := filepath.Join(dir, "sif"), filepath.Join(dir, "squashfs")
	id := func(format, file string) string {
		t.Helper()
		r := run(t, command(append([]string{"build", format, "-o", file}, helloSubject().args...)...))
		id, name, _ := strings.Cut(strings.TrimPrefix(strings.TrimSuffix(r.stdout, "\n"), "image ID "), " ")
		if r.code != 0 || name != file || !strings.HasPrefix(id, "sha256:") {
			t.Fatalf("exit code %d, result %q\n%s", r.code, r.stdout, r.stderr)
		}
		return id
	}
	if s, b := id("--sif", sif), id("--squashfs", bare); s != b || s != inspect(t, sif).ImageID {
		t.Errorf("image IDs: %q, %q, and %q from inspect", s, b, inspect(t, sif).ImageID)
	}
	if digestOf(t, partition(t, sif)) != digest(t, bare) {
		t.Error("the partition differs from the squashfs")
	}
	if size := fileSize(t, bare); size%4096 != 0 {
		t.Errorf("the squashfs has %d bytes, not a multiple of 4096", size)
	}
}

// siftool reads the SIF, finds the primary partition first, and extracts the very squashfs.
func TestSiftool(t *testing.T) {
	sif := build(t, append([]string{"--sif"}, helloSubject().args...)...)
	header := output(t, "siftool", "header", sif)
	for _, want := range []string{"run-singularity", "amd64"} {
		if !strings.Contains(header, want) {
			t.Errorf("siftool header: no %q in\n%s", want, header)
		}
	}
	list := output(t, "siftool", "list", sif)
	for _, want := range []string{"FS (Squashfs/*System/amd64)", "JSON", "Def.FILE"} {
		if !strings.Contains(list, want) {
			t.Errorf("siftool list: no %q in\n%s", want, list)
		}
	}
	dump := exec.Command("siftool", "dump", "1", sif)
	dump.Stderr = os.Stderr
	pipe, err := dump.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := dump.Start(); err != nil {
		t.Fatal(err)
	}
	dumped := digestOf(t, pipe)
	if err := dump.Wait(); err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, partition(t, sif)); dumped != want {
		t.Error("siftool dump 1 differs from the partition that inspect names")
	}
	info, err := os.Stat(sif)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o755 {
		t.Errorf("the SIF has mode %v; to be run as a program it needs 0755", info.Mode())
	}
}

// inRoot runs a program with an image as its root directory and nothing else.
func inRoot(t testing.TB, root string, args ...string) string {
	t.Helper()
	cmd := exec.Command("/usr/sbin/chroot", append([]string{root}, args...)...)
	cmd.Env = []string{}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Programs run with the mounted image as root directory.
func TestProgramsRun(t *testing.T) {
	s := helloSubject()
	root := mounted(t, build(t, append([]string{"--sif"}, s.args...)...))
	const greeting = `Hello from a closure that Nix has built.
arguments: [you]
PATH: (not set)
tale: 1048577 bytes, checksum ac1f7f6ef6c1aa3e
oddities: 22 entries
time of hello: 1
/etc/passwd: yes
/tmp: yes
`
	if got := inRoot(t, root, hello+"/bin/hello", "you"); got != greeting {
		t.Errorf("hello says:\n%swant:\n%s", got, greeting)
	}
	const tour = "This script needs no shell: its interpreter lies in the store.\n"
	if got := inRoot(t, root, hello+"/bin/tour"); got != tour {
		t.Errorf("tour says %q", got)
	}

	for key, want := range map[string]string{"HELLO": "Hello, world!\n", "BUSYBOX": "ok\n"} {
		s := defaultSubject(key)
		root := mounted(t, build(t, append([]string{"--sif"}, s.args...)...))
		args := map[string][]string{"HELLO": {"/bin/hello"}, "BUSYBOX": {"/bin/busybox", "echo", "ok"}}[key]
		if got := inRoot(t, root, append([]string{s.root + args[0]}, args[1:]...)...); got != want {
			t.Errorf("%s says %q, want %q", key, got, want)
		}
	}

	s = defaultSubject("SMALL")
	root = mounted(t, build(t, append([]string{"--sif"}, s.args...)...))
	got := inRoot(t, root, s.root+"/bin/python3", "-c",
		"import numpy, os; print(round(numpy.linalg.det(numpy.eye(3) * 2)), int(os.stat(numpy.__file__).st_mtime))")
	if got != "8 1\n" {
		t.Errorf("NumPy says %q", got)
	}
}

// Images of mksquashfs and gensquashfs, with everything that a file system can hold,
// are read as the kernel reads them.
func TestReadsImagesOfOthers(t *testing.T) {
	source := filepath.Join(newDir(t), "source")
	output(t, "cp", "-a", helloDir+"/nix/store", source)
	output(t, "chmod", "-R", "u+w", source)
	many := filepath.Join(source, "many")
	for _, err := range []error{
		os.Mkdir(many, 0o2750),
		syscall.Mkfifo(source+"/fifo", 0o600),
		syscall.Mknod(source+"/null", syscall.S_IFCHR|0o666, 1<<8|3),
		syscall.Mknod(source+"/disk", syscall.S_IFBLK|0o640, 8<<8),
		os.WriteFile(source+"/setuid", []byte("x"), 0o755),
		os.Chmod(source+"/setuid", 0o755|os.ModeSetuid),
		os.Lchown(source+"/setuid", 1234, 70000),
		os.Link(source+"/setuid", source+"/hard-link"),
		os.WriteFile(source+"/sparse", nil, 0o644),
		os.Truncate(source+"/sparse", 3<<20+17),
		syscall.Setxattr(source+"/sparse", "user.note", []byte("kept\x00whole"), 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3000 {
		name := fmt.Sprintf("%s/%0*d", many, 1+i%60, i)
		if err := os.WriteFile(name, []byte(name), 0o640); err != nil {
			t.Fatal(err)
		}
	}

	writers := map[string]func(codec, image string) *exec.Cmd{
		"mksquashfs": func(codec, image string) *exec.Cmd {
			return exec.Command("mksquashfs", source, image, "-comp", codec, "-quiet", "-no-progress")
		},
		"mksquashfs -b 4K -no-fragments": func(codec, image string) *exec.Cmd {
			return exec.Command("mksquashfs", source, image, "-comp", codec, "-quiet", "-no-progress", "-b", "4K", "-no-fragments")
		},
		"gensquashfs": func(codec, image string) *exec.Cmd {
			return exec.Command("gensquashfs", "--pack-dir", source, "--keep-time", "--keep-xattr", "--compressor", codec, "--quiet", image)
		},
	}
	for writer, write := range writers {
		for _, codec := range []string{"gzip", "lzo", "lz4", "xz", "zstd"} {
			if writer == "gensquashfs" && codec == "lzo" {
				continue // Debian builds it without
			}
			t.Run(writer+"/"+codec, func(t *testing.T) {
				image := filepath.Join(newDir(t), "image")
				if out, err := write(codec, image).CombinedOutput(); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				f, err := os.Open(image)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				dir := mount(t, image, "-t", "squashfs", "-o", "loop,ro")
				mustEqual(t, diskTree(t, dir), ownTree(t, f), "squashfs.Open")
			})
		}
	}
}

// ls lists what is there, cat prints a file, and extract unpacks what the kernel shows.
func TestListCatExtract(t *testing.T) {
	s := helloSubject()
	for _, format := range []string{"--sif", "--squashfs"} {
		t.Run(format, func(t *testing.T) {
			image := build(t, append([]string{format}, s.args...)...)
			r := run(t, command("ls", image, path.Join(s.root, "bin")))
			var names []string
			for line := range strings.Lines(r.stdout) {
				// mode, owner, size, day, time, name
				names = append(names, strings.Join(strings.Fields(line)[5:], " "))
			}
			if want := []string{"greet -> hello", "hello", "say", "tour"}; !slices.Equal(names, want) {
				t.Errorf("ls: %q, want %q\n%s", names, want, r.stderr)
			}
			r = run(t, command("cat", image, path.Join(s.root, "share/tale.txt")))
			if digestOf(t, strings.NewReader(r.stdout)) != digest(t, tale(t)) {
				t.Errorf("cat through links: %d bytes\n%s", len(r.stdout), r.stderr)
			}
			dir := filepath.Join(newDir(t), "out")
			if r := run(t, command("extract", "--exact", image, dir)); r.code != 0 {
				t.Fatalf("extract: %s", r.stderr)
			}
			mustEqual(t, diskTree(t, mounted(t, image)), diskTree(t, dir), "extract")
		})
	}
}

// tale is the large file of the shipped closure, in the store.
func tale(t testing.TB) string {
	t.Helper()
	names, err := filepath.Glob(helloDir + "/nix/store/*-tale-1.0/share/tale.txt")
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return names[0]
}
