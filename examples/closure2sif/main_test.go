package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/closure/nixdb/nixdbtest"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"closure2sif": main}) }

// What comes from a database has the bytes of what comes from a stream.
func TestSIFOfStore(t *testing.T) {
	stream, err := os.ReadFile("../../testdata/hello.export")
	if err != nil {
		t.Fatal(err)
	}
	c, err := export.Open(t.Context(), bytes.NewReader(stream), int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := nixdbtest.Write(dir, c); err != nil {
		t.Fatal(err)
	}
	name, want := filepath.Join(dir, "store.sif"), filepath.Join(dir, "stream.sif")
	id, err := exec.Command("closure2sif", dir, string(c.Roots()[0]), name).Output()
	if err != nil {
		t.Fatal(err)
	}
	result, err := sif.WriteFile(t.Context(), want, &image.Image{Closure: c}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(id)); got != result.ID {
		t.Errorf("the ID is %s, want %s", got, result.ID)
	}
	a, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Error("the files differ")
	}
	// What does not exist is said.
	out, err := exec.Command("closure2sif", dir, filepath.Join(dir, "result"), name).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no such file") {
		t.Errorf("%v: %s", err, out)
	}
}
