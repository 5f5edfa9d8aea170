package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// stubNix has programs that print what they are called with, and then what they would.
func stubNix(t *testing.T, scripts map[string]string) *realiser {
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	stderr, err := os.Create(filepath.Join(dir, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stderr.Close() })
	return &realiser{&ui{stdout: stderr, stderr: stderr}, func(ctx context.Context, name string, args ...string) *exec.Cmd {
		return exec.CommandContext(ctx, filepath.Join(dir, name), args...)
	}}
}

func TestFlakesAndDerivationsBecomeStorePaths(t *testing.T) {
	r := stubNix(t, map[string]string{
		"nix":       `for last; do :; done; echo '[{"drvPath": "/nix/store/x.drv", "outputs": {"out": "/nix/store/flake-'"${last#*#}"'", "lib": "/nix/store/lib"}}]'`,
		"nix-store": `echo "/nix/store/made-of-$2"`,
	})
	for _, c := range []struct{ arg, want string }{
		{"./result", "./result"},
		{"/nix/store/a", "/nix/store/a"},
		{".#edm", "/nix/store/lib /nix/store/flake-edm"},
		{"github:a/b#c", "/nix/store/lib /nix/store/flake-c"},
		{"path:.", "/nix/store/lib /nix/store/flake-path:."},
		{"/nix/store/a.drv", "/nix/store/made-of-/nix/store/a.drv"},
		{"/nix/store/a.drv^*", "/nix/store/made-of-/nix/store/a.drv"},
		{"/nix/store/a.drv^out,dev", "/nix/store/made-of-/nix/store/a.drv!out,dev"},
	} {
		got, err := r.roots(t.Context(), []string{c.arg})
		if err != nil || !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s means %q, want %s: %v", c.arg, got, c.want, err)
		}
	}
}

func TestFailuresOfNixAreThoseOfTheClosure(t *testing.T) {
	for name, c := range map[string]struct {
		scripts map[string]string
		hint    string
	}{
		"no nix":     {nil, "nix build '.#edm'"},
		"failure":    {map[string]string{"nix": "exit 3"}, ""},
		"no outputs": {map[string]string{"nix": "echo '[]'"}, ""},
	} {
		_, err := stubNix(t, c.scripts).roots(t.Context(), []string{".#edm"})
		if err == nil || exitCode(err) != exitClosure || !strings.Contains(hint(err), c.hint) || c.hint == "" && hint(err) != "" {
			t.Errorf("%s: exit code %d, %v; hint: %s", name, exitCode(err), err, hint(err))
		}
	}
	if _, err := stubNix(t, map[string]string{"nix": "echo nonsense"}).roots(t.Context(), []string{".#edm"}); err == nil {
		t.Error("nonsense passes for JSON")
	}
}

func TestNixIsStoppedWithTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := stubNix(t, map[string]string{"nix": "kill -0 $PPID; exec sleep 60"})
	command := r.command
	r.command = func(ctx context.Context, name string, args ...string) *exec.Cmd {
		defer cancel()
		return command(ctx, name, args...)
	}
	if _, err := r.roots(ctx, []string{".#edm"}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}
