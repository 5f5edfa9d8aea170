package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/nix2img/nix2img/image"
)

// The man pages and the pages about commands say what --help says.
func TestPagesAreFresh(t *testing.T) {
	root := newRoot(&app{ui: &ui{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}})
	root.InitDefaultVersionFlag()
	prepare(root)
	header := &doc.GenManHeader{Section: "1", Source: "nix2img " + image.Version, Manual: "nix2img", Date: new(time.Time)}
	for _, pages := range []struct {
		dir      string
		generate func(dir string) error
	}{
		{"../../docs/man", func(dir string) error { return doc.GenManTree(root, header, dir) }},
		{"../../docs/commands", func(dir string) error { return doc.GenMarkdownTree(root, dir) }},
	} {
		made := t.TempDir()
		if err := pages.generate(made); err != nil {
			t.Fatal(err)
		}
		if *update {
			os.RemoveAll(pages.dir)
			if err := os.CopyFS(pages.dir, os.DirFS(made)); err != nil {
				t.Fatal(err)
			}
		}
		if want, got := contents(t, made), contents(t, pages.dir); !slices.Equal(want, got) {
			t.Errorf("%s is not what the commands say: go test ./cmd/nix2img -run TestPagesAreFresh -update", pages.dir)
		}
	}
}

// prepare has no page say when it was made, and indents preformatted text as Markdown wants it.
func prepare(cmd *cobra.Command) {
	cmd.DisableAutoGenTag = true
	cmd.Long = strings.ReplaceAll(cmd.Long, "\n  ", "\n    ")
	for _, c := range cmd.Commands() {
		prepare(c)
	}
}

// contents lists the files of a directory with what is in them.
func contents(t *testing.T, dir string) (list []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, filepath.Base(name)+"\n"+string(data))
	}
	return list
}
