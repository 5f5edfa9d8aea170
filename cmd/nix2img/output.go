package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// checkOutput finds out what can be known about an output before there is anything to write.
// It returns the path with symbolic links followed, so that they are not replaced.
func checkOutput(path string) (string, error) {
	target, err := tempfile.Resolve(path)
	switch {
	case errors.Is(err, syscall.EISDIR):
		err = withHint(err, "name a file, such as %s", filepath.Join(path, "image.sif"))
	case errors.Is(err, tempfile.ErrNotRegular):
		err = withHint(err, "-o - writes to standard output")
	case is[*tempfile.NoDirError](err):
		err = withHint(err, "create it with: mkdir -p %s", filepath.Dir(path))
	}
	return target, err
}

// create begins an output file. It first removes what killed processes left beside it.
func (a *app) create(path string, mode fs.FileMode) (*tempfile.File, error) {
	path, err := checkOutput(path)
	if err != nil {
		return nil, err
	}
	a.sweepBeside(path)
	return tempfile.NewFile(path, mode)
}

// sweepBeside removes what killed processes left in the directory of a file.
func (a *app) sweepBeside(path string) {
	for _, name := range tempfile.SweepBeside(path) {
		a.ui.infof("removed %s, which an earlier run left", name)
	}
}

// errSpool is about a temporary file, whatever it was needed for.
var errSpool = errors.New("temporary file in " + os.TempDir())

// spool returns a temporary file without a name, which vanishes with the process.
// It lies in TMPDIR.
func spool() (*os.File, error) {
	f, err := tempfile.Unnamed("")
	if err != nil {
		return nil, fmt.Errorf("create %w: %w", errSpool, reason(err))
	}
	return f, nil
}

// spoolFile is such a file, with errors that tell it from what it is a copy of.
type spoolFile struct{ *os.File }

func (f spoolFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	if err != nil {
		err = fmt.Errorf("write %w: %w", errSpool, reason(err))
	}
	return n, err
}
