package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
)

// manyPaths makes a store of n paths below dir, each a file of a few bytes, and returns the one that refers to all others.
// Its metadata go to dir/registration.
func manyPaths(ctx context.Context, dir string, n int) (root string, err error) {
	store := filepath.Join(dir, "nix/store")
	if err := os.MkdirAll(store, 0o755); err != nil {
		return "", err
	}
	files := closure.DirFS(store)
	var registration, references bytes.Buffer
	for i := range n {
		base := fmt.Sprintf("%032d-p", i)
		if err := os.WriteFile(filepath.Join(store, base), fmt.Append(nil, i), 0o444); err != nil {
			return "", err
		}
		hash, size, err := narhash.Sum(ctx, files, base)
		if err != nil {
			return "", err
		}
		root = "/nix/store/" + base
		fmt.Fprintf(&registration, "%s\n%s\n%d\n\n", root, hash, size)
		if i < n-1 {
			fmt.Fprintln(&registration, 0)
			fmt.Fprintln(&references, root)
		} else {
			fmt.Fprintf(&registration, "%d\n%s", i, &references)
		}
	}
	return root, os.WriteFile(filepath.Join(dir, "registration"), registration.Bytes(), 0o644)
}

var paths = flag.Int("paths", 300, "how many store paths TestManyPathsWithFewOpenFiles has")

// However many paths a closure has, 256 open files are enough, wherever they come from.
func TestManyPathsWithFewOpenFiles(t *testing.T) {
	dir := t.TempDir()
	root, err := manyPaths(t.Context(), dir, *paths)
	if err != nil {
		t.Fatal(err)
	}
	run := func(name string, args ...string) []byte {
		t.Helper()
		args = append([]string{"-c", `ulimit -n 256 && exec nix2img build -q "$@"`, "sh",
			"--store", dir, "--closure", dir + "/registration", "--arch", "amd64", root}, args...)
		cmd := exec.Command("sh", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TMPDIR="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		if err != nil || strings.Contains(stderr.String(), "note") {
			t.Fatalf("%s: %v\n%s", name, err, &stderr)
		}
		return stdout
	}
	images := make(map[[32]byte]string)
	for name, args := range inOrder(
		"cold", "--cache cache",
		"warm", "--cache cache",
		"without a cache", "--no-cache",
		"from another", "--no-cache --cache-from cache",
		"through another", "--cache other --cache-from cache",
		"reused", "--no-cache --reuse cold.sif",
		"to a pipe", "--cache cache",
	) {
		out := strings.ReplaceAll(name, " ", "-") + ".sif"
		if name == "to a pipe" {
			out = "-"
		}
		b := run(name, append(strings.Fields(args), "--sif", "-o", out)...)
		if out != "-" {
			if b, err = os.ReadFile(filepath.Join(dir, out)); err != nil {
				t.Fatal(err)
			}
		}
		images[sha256.Sum256(b)] += name + ", "
	}
	if len(images) != 1 {
		t.Errorf("SIFs differ: %q", images)
	}
	layouts := make(map[string]string)
	for name, args := range inOrder(
		"cold", "--cache cache",
		"warm", "--cache cache",
		"without a cache", "--no-cache",
		"from another", "--no-cache --cache-from cache",
	) {
		out := "layout-" + strings.ReplaceAll(name, " ", "-")
		run(name, append(strings.Fields(args), "--oci", out)...)
		index, err := os.ReadFile(filepath.Join(dir, out, "index.json"))
		if err != nil {
			t.Fatal(err)
		}
		layouts[string(index)] += name + ", "
	}
	if len(layouts) != 1 {
		t.Errorf("layouts differ: %q", layouts)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*nix2img-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%q are left: %v", left, err)
	}
}

// inOrder gives pairs of strings.
func inOrder(list ...string) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for ; len(list) > 1 && yield(list[0], list[1]); list = list[2:] {
		}
	}
}
