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
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"sifcat": main}) }

func TestFilesOfSIF(t *testing.T) {
	stream, err := os.ReadFile("../../testdata/hello.export")
	if err != nil {
		t.Fatal(err)
	}
	c, err := export.Open(t.Context(), bytes.NewReader(stream), int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "hello.sif")
	if _, err := sif.WriteFile(t.Context(), name, &image.Image{Closure: c}, nil, nil); err != nil {
		t.Fatal(err)
	}
	root := strings.TrimPrefix(string(c.Roots()[0]), "/")
	for file, want := range map[string]string{
		"etc/passwd":        "root:x:0:0",
		root + "/bin/hello": "\x7fELF",
		"/etc/passwd":       "in an fs.FS, this is etc/passwd",
		"etc/nothing":       "file does not exist",
		"etc":               "is a directory",
	} {
		out, err := exec.Command("sifcat", name, file).CombinedOutput()
		if !strings.Contains(string(out), want) {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
}
