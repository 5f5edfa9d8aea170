package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A realiser has Nix build or fetch what arguments name by other things than store paths.
// It is the only place where this program starts another one.
type realiser struct {
	ui *ui
	// command makes the command that runs a program of Nix.
	command func(ctx context.Context, name string, args ...string) *exec.Cmd
}

func newRealiser(u *ui) *realiser { return &realiser{u, exec.CommandContext} }

var (
	// flakeScheme is what URLs of flakes begin with: "flake reference types" in Nix's manual.
	flakeScheme = regexp.MustCompile(`^(path|file|tarball|flake|github|gitlab|sourcehut|(git|hg|tarball|file)\+[a-z]+):`)
	// derivation is the path of one, with the outputs that are asked for.
	derivation = regexp.MustCompile(`^(/.*\.drv)(?:\^(.*))?$`)
)

// isFlake reports whether an argument is a flake reference, such as .#edm, and not a file of that name.
func isFlake(arg string) bool {
	if !strings.Contains(arg, "#") && !flakeScheme.MatchString(arg) {
		return false
	}
	_, err := os.Lstat(arg)
	return err != nil
}

// roots returns arguments with the store paths of those that are flake references or derivations.
func (r *realiser) roots(ctx context.Context, args []string) ([]string, error) {
	var roots []string
	for _, arg := range args {
		paths, err := []string{arg}, error(nil)
		if m := derivation.FindStringSubmatch(arg); m != nil {
			paths, err = r.derivation(ctx, m[1], m[2])
		} else if isFlake(arg) {
			paths, err = r.flake(ctx, arg)
		}
		if err != nil {
			return nil, err
		}
		roots = append(roots, paths...)
	}
	return roots, nil
}

// flake builds a flake reference.
func (r *realiser) flake(ctx context.Context, ref string) ([]string, error) {
	out, err := r.run(ctx, "nix", "--extra-experimental-features", "nix-command flakes", "build", "--no-link", "--json", ref)
	if err != nil {
		return nil, err
	}
	var built []struct{ Outputs map[string]string }
	if err := json.Unmarshal(out, &built); err != nil {
		return nil, fmt.Errorf("nix build %s: its result: %w", ref, err)
	}
	var paths []string
	for _, b := range built {
		for _, name := range slices.Sorted(maps.Keys(b.Outputs)) {
			paths = append(paths, b.Outputs[name])
		}
	}
	if len(paths) == 0 {
		return nil, &sourceError{fmt.Errorf("nix build %s: it has no outputs", ref)}
	}
	return paths, nil
}

// derivation builds outputs of a derivation: names with commas between them, or all, which "" and "*" mean.
func (r *realiser) derivation(ctx context.Context, drv, outputs string) ([]string, error) {
	if outputs != "" && outputs != "*" {
		drv += "!" + outputs // as nix-store of every version has it
	}
	out, err := r.run(ctx, "nix-store", "--realise", drv)
	return strings.Fields(string(out)), err
}

// run runs a program of Nix, shows what it says, and returns its standard output.
func (r *realiser) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	r.ui.infof("running %s", shellWords(append([]string{name}, args...)))
	cmd := r.command(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, r.ui.stderr
	if r.ui.quiet {
		cmd.Stderr = io.Discard
	}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return nil, withHint(&sourceError{fmt.Errorf("%s: there is no %s on this machine", args[len(args)-1], name)},
			"on a machine with Nix, build it with: nix build %s", shellWords(args[len(args)-1:]))
	case err != nil:
		return nil, &sourceError{fmt.Errorf("%s %s: %w", name, args[len(args)-1], err)}
	}
	return out.Bytes(), nil
}
