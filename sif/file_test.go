package sif

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// entries returns the names in a directory.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestFileAppearsWhole(t *testing.T) {
	want := new(memory)
	if _, err := Write(t.Context(), want, hello(t), nil, nil); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o027))
	dir := t.TempDir()
	name, link := filepath.Join(dir, "hello.sif"), filepath.Join(dir, "link.sif")
	if err := os.WriteFile(name, []byte("an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("hello.sif", link); err != nil {
		t.Fatal(err)
	}
	// What a killed process leaves.
	dead, err := tempfile.NewFile(name, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()

	res, err := WriteFile(t.Context(), link, hello(t), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want.data) || res.Size != int64(len(got)) {
		t.Errorf("%d bytes, result %+v", len(got), res)
	}
	info, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o750 {
		t.Errorf("mode %v, want -rwxr-x---", info.Mode())
	}
	if got := entries(t, dir); !slices.Equal(got, []string{"hello.sif", "link.sif"}) {
		t.Errorf("in the directory: %q", got)
	}
	if target, err := os.Readlink(link); target != "hello.sif" {
		t.Errorf("link to %q, %v", target, err)
	}
}

func TestFileThatFailsLeavesNothing(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, write := range map[string]func(file string) error{
		"canceled": func(file string) error {
			_, err := WriteFile(canceled, file, hello(t), nil, nil)
			return err
		},
		"no image": func(file string) error {
			_, err := WriteFile(t.Context(), file, &image.Image{}, nil, nil)
			return err
		},
		"unknown architecture": func(file string) error {
			img := hello(t)
			img.Config.Arch = "z80"
			_, err := WriteFile(t.Context(), file, img, nil, nil)
			return err
		},
		"bad options": func(file string) error {
			opts := new(Options)
			opts.Squashfs.BlockSize = 5
			_, err := WriteFile(t.Context(), file, hello(t), opts, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "hello.sif")
			if err := os.WriteFile(file, []byte("an earlier one"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := write(file); err == nil {
				t.Error("no error")
			}
			if data, err := os.ReadFile(file); string(data) != "an earlier one" {
				t.Errorf("%q, %v", data, err)
			}
			if got := entries(t, dir); len(got) != 1 {
				t.Errorf("in the directory: %q", got)
			}
		})
	}
	if _, err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "no", "hello.sif"), hello(t), nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := WriteFile(t.Context(), t.TempDir(), hello(t), nil, nil); !errors.Is(err, syscall.EISDIR) {
		t.Errorf("a directory: %v", err)
	}
}

// TestImagesOfNothing says that there is nothing to write, whatever of the image is missing.
func TestImagesOfNothing(t *testing.T) {
	c := hello(t).Closure
	c.Files = nil
	for name, img := range map[string]*image.Image{
		"nil":                     nil,
		"zero":                    {},
		"an empty closure":        {Closure: &closure.Closure{}},
		"a closure without files": {Closure: c},
	} {
		if _, err := Write(t.Context(), new(memory), img, nil, nil); err == nil {
			t.Errorf("%s: Write: no error", name)
		}
		var out bytes.Buffer
		if _, err := Stream(t.Context(), &out, img, nil, nil); err == nil || out.Len() > 0 {
			t.Errorf("%s: Stream: error %v after %d bytes", name, err, out.Len())
		}
		if _, err := WriteFile(t.Context(), filepath.Join(t.TempDir(), "x"), img, nil, nil); err == nil {
			t.Errorf("%s: WriteFile: no error", name)
		}
	}
}
