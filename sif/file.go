package sif

import (
	"context"
	"fmt"

	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/tempfile"
)

// WriteFile writes img to a file, which appears under its name when it is complete, or not at all.
// A nil opts or rt means the zero value.
//
// Until then it is a temporary file in the same directory, which is removed when something goes wrong.
// One that a killed process has left there is removed by the next WriteFile.
// The file is executable, as far as the umask allows, so that it can be started by its name.
// A file that has the name already is replaced; a symbolic link is followed.
//
// Unless rt.Reserve says otherwise, an image that has no room on the file system is refused
// as soon as its size is known.
func WriteFile(ctx context.Context, name string, img *image.Image, opts *Options, rt *image.Runtime) (*Result, error) {
	if err := check(img); err != nil {
		return nil, err
	}
	name, err := tempfile.Resolve(name)
	if err != nil {
		return nil, fmt.Errorf("sif: %w", err)
	}
	tempfile.SweepBeside(name)
	f, err := tempfile.NewFile(name, 0o777)
	if err != nil {
		return nil, fmt.Errorf("sif: %w", err)
	}
	defer f.Discard()
	var own image.Runtime
	if rt != nil {
		own = *rt
	}
	if own.Reserve == nil {
		own.Reserve = f.Reserve
	}
	res, err := Write(ctx, f, img, opts, &own)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := f.Commit(); err != nil {
		return nil, fmt.Errorf("sif: %w", err)
	}
	return res, nil
}
