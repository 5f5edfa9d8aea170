//go:build foreign

package foreign

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// checkout copies this tree, without what git ignores, to an empty directory.
func checkout(t testing.TB) string {
	t.Helper()
	dir := newDir(t)
	cmd := exec.Command("sh", "-c", `git ls-files -zco --exclude-standard | tar --null -T - -c | tar -xC "$0"`, dir)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("copy the tree: %v\n%s", err, out)
	}
	return dir
}

// The README's terminal session works on a clean checkout,
// with the program run by chroot where the README has a container runtime.
func TestREADMESession(t *testing.T) {
	readme := string(readFile(t, filepath.Join(module, "README.md")))
	session := regexp.MustCompile("(?s)```console\n(.*?)```").FindStringSubmatch(readme)
	if session == nil {
		t.Fatal("the README has no console block")
	}
	dir := checkout(t)
	ran := 0
	for line := range strings.Lines(session[1]) {
		cmd, isCommand := strings.CutPrefix(strings.TrimSpace(line), "$ ")
		switch {
		case !isCommand, strings.HasPrefix(cmd, "git clone "), strings.HasPrefix(cmd, "singularity "):
			continue
		}
		sh := exec.Command("sh", "-c", cmd)
		sh.Dir = dir
		if out, err := sh.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		ran++
	}
	if ran == 0 {
		t.Fatal("no command of the README was run")
	}
	root := mounted(t, filepath.Join(dir, "hello.sif"))
	said := inRoot(t, root, hello+"/bin/hello", "you")
	for line := range strings.Lines(session[1]) {
		if strings.HasPrefix(line, "Hello") && !strings.Contains(said, line) {
			t.Errorf("hello says:\n%sthe README has:\n%s", said, line)
		}
	}
}

// The README's Go code compiles and makes the image that the command makes.
func TestREADMECode(t *testing.T) {
	readme := string(readFile(t, filepath.Join(module, "README.md")))
	code := regexp.MustCompile("(?s)```go\n(.*?)```").FindStringSubmatch(readme)
	if code == nil {
		t.Fatal("the README has no Go block")
	}
	dir := filepath.Join(checkout(t), "internal", "readme")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "main.go"), []byte(`package main

import (
	"context"
	"fmt"

	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func main() {
	if err := run(context.Background()); err != nil {
		panic(err)
	}
}

func run(ctx context.Context) error {
	`+code[1]+`
	fmt.Println(result.ID)
	return err
}
`))
	program := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-o", program, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	root, work := os.Getenv("GREETER"), newDir(t)
	if err := os.Symlink(root, filepath.Join(work, "result")); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(program)
	cmd.Dir = work
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if digest(t, filepath.Join(work, "app.sif")) != digest(t, build(t, "--sif", root)) {
		t.Error("other bytes than the command's")
	}
}
