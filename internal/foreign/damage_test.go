//go:build foreign

package foreign

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The command's exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitClosure     = 3
	exitVerify      = 5
	exitInterrupted = 130
)

// list names everything below a directory.
func list(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// mustFail runs a build into outDir and checks that it fails as a user may expect:
// with the exit code, a message that holds all the words, nothing on standard output,
// and outDir as it was.
func mustFail(t *testing.T, cmd *exec.Cmd, outDir string, code int, words ...string) {
	t.Helper()
	before := list(t, outDir)
	r := run(t, cmd)
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	message := ""
	for line := range strings.Lines(r.stderr) {
		if strings.HasPrefix(line, "nix2img: error: ") {
			message = line
		}
	}
	for _, word := range words {
		if !strings.Contains(message, word) {
			t.Errorf("the message does not hold %q:\n%s", word, r.stderr)
		}
	}
	if message == "" {
		t.Errorf("no error message in %q", r.stderr)
	}
	for _, unwanted := range []string{"panic", "goroutine "} {
		if strings.Contains(r.stderr, unwanted) {
			t.Errorf("the message holds %q:\n%s", unwanted, r.stderr)
		}
	}
	if r.stdout != "" {
		t.Errorf("standard output: %q", r.stdout)
	}
	if after := list(t, outDir); !slices.Equal(before, after) {
		t.Errorf("there was %q, and now there is %q", before, after)
	}
	t.Logf("%s", strings.TrimSpace(r.stderr))
}

// copyStore copies the shipped closure's store, to be damaged.
func copyStore(t testing.TB) string {
	t.Helper()
	store := filepath.Join(newDir(t), "root")
	output(t, "cp", "-a", helloDir, store)
	output(t, "chmod", "-R", "u+w", store)
	return store
}

// storePath finds the path of the shipped closure with this name.
func storePath(t testing.TB, name string) string {
	t.Helper()
	matches, err := filepath.Glob(helloDir + "/nix/store/*-" + name)
	if err != nil || len(matches) != 1 {
		t.Fatalf("%s: %q, %v", name, matches, err)
	}
	return strings.TrimPrefix(matches[0], helloDir)
}

func writeFile(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Whatever is wrong with the input or the output, a build says so with its exit code,
// and leaves no file behind.
func TestDamage(t *testing.T) {
	// what every case builds, unless it says otherwise
	build := func(outDir, store string, more ...string) *exec.Cmd {
		return command(append([]string{"build", "--sif", "--no-cache", "-o", filepath.Join(outDir, "image.sif"), "--store", store}, more...)...)
	}
	change := func(t *testing.T, store, name string) {
		t.Helper()
		file := store + name
		content := readFile(t, file)
		content[len(content)/2] ^= 1
		writeFile(t, file, content)
	}

	t.Run("truncated database", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		db := store + "/nix/var/nix/db/db.sqlite"
		content := readFile(t, db)
		for _, n := range []int{0, 1, 100, 4096, len(content) / 2} {
			writeFile(t, db, content[:n])
			mustFail(t, build(out, store, hello), out, exitClosure, "db.sqlite")
		}
	})
	t.Run("database of noise", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		writeFile(t, store+"/nix/var/nix/db/db.sqlite", bytes.Repeat([]byte("noise"), 9999))
		mustFail(t, build(out, store, hello), out, exitClosure, "db.sqlite")
	})
	t.Run("no database", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		output(t, "rm", "-r", store+"/nix/var")
		mustFail(t, build(out, store, hello), out, exitClosure, store+"/nix/var/nix/db")
	})
	t.Run("path not in the database", func(t *testing.T) {
		out := newDir(t)
		unknown := "/nix/store/" + strings.Repeat("0", 32) + "-nothing"
		mustFail(t, build(out, helloDir, unknown), out, exitClosure, unknown)
	})
	t.Run("path missing on disk", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		missing := storePath(t, "greeting.txt")
		output(t, "rm", store+missing)
		mustFail(t, build(out, store, hello), out, exitClosure, missing)
	})
	t.Run("list that is not closed", func(t *testing.T) {
		out := newDir(t)
		missing := storePath(t, "musl-1.2.3")
		info := filepath.Join(newDir(t), "dump")
		kept := slices.DeleteFunc(closurePaths(t, helloDir, hello), func(p string) bool { return p == missing })
		writeFile(t, info, []byte(output(t, "nix-store", append([]string{"--store", helloDir, "--dump-db"}, kept...)...)))
		mustFail(t, build(out, helloDir, "--closure", info, hello), out, exitClosure, missing, hello)
	})
	t.Run("malformed hash in a list", func(t *testing.T) {
		out := newDir(t)
		info := filepath.Join(newDir(t), "path-info.json")
		writeFile(t, info, []byte(`[{"path":"`+hello+`","narHash":"sha256:short","narSize":1,"references":[]}]`))
		mustFail(t, build(out, helloDir, "--closure", info), out, exitClosure, hello, "sha256:short")
	})
	t.Run("file changed, same size", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		change(t, store, storePath(t, "tale-1.0")+"/share/tale.txt")
		mustFail(t, build(out, store, hello), out, exitVerify, storePath(t, "tale-1.0"))
	})
	t.Run("file grown", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		file := store + hello + "/bin/tour"
		writeFile(t, file, append(readFile(t, file), '\n'))
		mustFail(t, build(out, store, hello), out, exitVerify, hello)
	})
	t.Run("program no longer executable", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		output(t, "chmod", "a-x", store+hello+"/bin/say")
		mustFail(t, build(out, store, hello), out, exitVerify, hello)
	})
	t.Run("file added", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		writeFile(t, store+hello+"/bin/added", nil)
		mustFail(t, build(out, store, hello), out, exitVerify, hello)
	})
	t.Run("fifo in the store", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		if err := syscall.Mkfifo(store+hello+"/share/pipe", 0o644); err != nil {
			t.Fatal(err)
		}
		mustFail(t, build(out, store, hello), out, exitClosure, hello[len("/nix/store/"):], "neither a regular file")
	})
	t.Run("unreadable file", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		output(t, "chmod", "0", store+hello+"/bin/say")
		if err := os.Chown(out, unprivileged, unprivileged); err != nil {
			t.Fatal(err)
		}
		cmd := build(out, store, hello)
		asNobody(cmd)
		mustFail(t, cmd, out, exitClosure, hello[len("/nix/store/"):]+"/bin/say", "permission denied")
	})
	t.Run("truncated stream", func(t *testing.T) {
		out := newDir(t)
		stream := readFile(t, filepath.Join(module, "testdata/hello.export"))
		for _, n := range []int{0, 7, 8, 5000, len(stream) / 2, len(stream) - 8} {
			cut := filepath.Join(newDir(t), "cut.export")
			writeFile(t, cut, stream[:n])
			cmd := command("build", "--sif", "--no-cache", "-o", filepath.Join(out, "image.sif"), "--from", cut)
			mustFail(t, cmd, out, exitClosure, cut)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		out := mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=256k")
		mustFail(t, build(out, helloDir, hello), out, exitFailed, "no space left on device")
	})
	t.Run("output directory missing", func(t *testing.T) {
		out := newDir(t)
		missing := filepath.Join(out, "missing")
		mustFail(t, build(missing, helloDir, hello), out, exitFailed, missing)
	})
	t.Run("output directory not writable", func(t *testing.T) {
		out := newDir(t)
		cmd := build(out, helloDir, hello)
		asNobody(cmd)
		mustFail(t, cmd, out, exitFailed, out, "permission denied")
	})
	t.Run("output is a directory", func(t *testing.T) {
		out := newDir(t)
		if err := os.Mkdir(filepath.Join(out, "image.sif"), 0o755); err != nil {
			t.Fatal(err)
		}
		mustFail(t, build(out, helloDir, hello), out, exitFailed, out)
	})
	t.Run("former output stays", func(t *testing.T) {
		store, out := copyStore(t), newDir(t)
		change(t, store, storePath(t, "tale-1.0")+"/share/tale.txt")
		former := filepath.Join(out, "image.sif")
		writeFile(t, former, []byte("former"))
		mustFail(t, build(out, store, hello), out, exitVerify, storePath(t, "tale-1.0"))
		if string(readFile(t, former)) != "former" {
			t.Error("the former output has changed")
		}
	})
	t.Run("no root", func(t *testing.T) {
		out := newDir(t)
		mustFail(t, build(out, helloDir), out, exitUsage)
	})
	t.Run("codec that is none", func(t *testing.T) {
		out := newDir(t)
		mustFail(t, build(out, helloDir, "--compression", "lzip", hello), out, exitUsage, "lzip")
	})
}

// startBuild starts a slow build and waits until its output, a new file in out, has begun to grow.
func startBuild(t *testing.T, out string) *exec.Cmd {
	t.Helper()
	before := list(t, out)
	cmd := command("build", "--sif", "--no-cache", "-j", "1", "--compression", "xz", "-o", filepath.Join(out, "image.sif"), os.Getenv("SMALL"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, name := range list(t, out) {
			if info, err := os.Lstat(name); err == nil && info.Size() > 100_000 && !slices.Contains(before, name) {
				return cmd
			}
		}
	}
	t.Fatalf("the build has written nothing within a minute\n%s", stderr.Bytes())
	return nil
}

// An interrupted build leaves nothing behind and says how it ended.
func TestInterrupt(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		out := newDir(t)
		cmd := startBuild(t, out)
		start := time.Now()
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("%v: exit code %d, want %d", signal, code, exitInterrupted)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%v: took %v", signal, took)
		}
		if names := list(t, out)[1:]; len(names) > 0 {
			t.Errorf("%v: left %q", signal, names)
		}
	}
}

// What a killed build had to leave behind, the next one removes;
// but it keeps off what a build that still runs has there.
func TestKilledBuildIsSwept(t *testing.T) {
	out := newDir(t)
	cmd := startBuild(t, out)
	cmd.Process.Kill()
	cmd.Wait()
	left := list(t, out)[1:]
	if len(left) == 0 {
		t.Fatal("the killed build has left nothing")
	}
	running := startBuild(t, out)
	for _, name := range left {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	image := filepath.Join(out, "hello.sif")
	buildTo(t, command("build", "-q", "--sif", "-o", image, "--store", helloDir, hello))
	if names := list(t, out)[1:]; len(names) < 2 {
		t.Errorf("beside a running build, there is only %q", names)
	}
	running.Process.Signal(os.Interrupt)
	running.Wait()
	if names := list(t, out)[1:]; !slices.Equal(names, []string{image}) {
		t.Errorf("there is %q, want only %q", names, image)
	}
}
