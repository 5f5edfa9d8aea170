package sif_test

import (
	"bytes"
	"io"
	"path/filepath"
	"testing"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/zerotest"
	"github.com/nix2img/nix2img/sif"
)

func TestNilAndZeroValues(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	zerotest.Check(t, map[string]func(){
		"Write": func() {
			sif.Write(ctx, nil, nil, nil, nil)
			sif.Write(ctx, nil, &image.Image{}, nil, nil)
			sif.Write(ctx, nil, &image.Image{Closure: helloClosure(ctx)}, nil, nil)
		},
		"WriteFile": func() {
			sif.WriteFile(ctx, "", nil, nil, nil)
			sif.WriteFile(ctx, filepath.Join(dir, "x"), nil, nil, nil)
			sif.WriteFile(ctx, filepath.Join(dir, "x"), &image.Image{}, nil, nil)
			sif.WriteFile(ctx, "", &image.Image{Closure: helloClosure(ctx)}, &sif.Options{}, &image.Runtime{})
		},
		"Stream": func() {
			sif.Stream(ctx, nil, nil, nil, nil)
			sif.Stream(ctx, io.Discard, &image.Image{}, nil, nil)
			sif.Stream(ctx, nil, &image.Image{Closure: helloClosure(ctx)}, nil, nil)
			if _, err := sif.Stream(ctx, io.Discard, &image.Image{Closure: helloClosure(ctx)}, &sif.Options{}, &image.Runtime{}); err != nil {
				t.Error(err)
			}
		},
		"Detect":          func() { sif.Detect(nil); sif.Detect(bytes.NewReader(nil)) },
		"Open":            func() { sif.Open(nil); sif.Open(bytes.NewReader(nil)) },
		"OpenFile":        func() { sif.OpenFile(""); sif.OpenFile(dir) },
		"File.FS":         func() { new(sif.File).FS() },
		"File.Close":      func() { new(sif.File).Close() },
		"ArchError.Error": func() { _ = new(sif.ArchError).Error() },
		"NoFSError.Error": func() { _ = new(sif.NoFSError).Error() },
	})
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("there are %s", left)
	}
}
