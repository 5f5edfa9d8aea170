package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// trick has an escape sequence, a DEL, a C1 control character, a change of direction, and one beyond 16 bits.
const trick = "\x1b[2J\x7f\u009b31m\u202egnp\U000e0041"

// command runs nix2img, and returns what it says.
func command(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	dir := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	a := &app{ui: newUI(os.Stdin, files[0], files[1])}
	root := newRoot(a)
	root.SetArgs(args)
	if err = root.ExecuteContext(t.Context()); err != nil {
		a.ui.fail(err)
	}
	var said [2]string
	for i, f := range files {
		data, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		said[i] = string(data)
	}
	return said[0], said[1], err
}

// TestNoForeignTextPlaysTricks puts tricks wherever an image or a command line has text, and runs what prints it.
func TestNoForeignTextPlaysTricks(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "x"+trick+".sif")
	argument := strings.NewReplacer("\x1b", `\u001b`, "\x7f", `\u007f`).Replace(trick)
	build := func(flags ...string) []string {
		return append([]string{"build", "--no-cache", "--from", "../../testdata/hello.export", "--label", "a=" + trick, "--env", "A=" + trick,
			"--workdir", "/" + trick, "--entrypoint", `["/bin/sh", "` + argument + `"]`, "--file", "/folder" + trick + "/"}, flags...)
	}
	for _, tt := range []struct {
		args []string
		ok   bool
	}{
		{build("-o", name, "--sif"), true},
		{build("-o", name, "--json", "--digest", "--sif"), true},
		{build("--oci", filepath.Join(dir, "layout"+trick)), true},
		{build("--oci-archive", filepath.Join(dir, "archive"+trick), "--json"), true},
		{[]string{"inspect", name}, true},
		{[]string{"inspect", "--json", name}, true},
		{[]string{"ls", "-R", name}, true},
		{[]string{"cat", name, "/" + trick}, false},
		{[]string{"ls", name, "/" + trick}, true},
		{[]string{"ls", name, "/no" + trick}, false},
		{[]string{"extract", name, filepath.Join(dir, "x"+trick)}, true},
		{[]string{"gpu", name}, true},
		{[]string{"gpu", "--json", name}, true},
		{[]string{"closure", "--from", "../../testdata/hello.export"}, true},
		{[]string{"closure", "--json", "--from", filepath.Join(dir, trick)}, false},
		{[]string{"why", "--from", "../../testdata/hello.export", trick, trick}, false},
		{[]string{"layers", "--from", "../../testdata/hello.export", "--layers-file", trick}, false},
		{[]string{"cache", "info", "--cache", filepath.Join(dir, trick)}, true},
		{[]string{"cache", "info", "--json", "--cache", filepath.Join(dir, trick)}, true},
		{[]string{"push", trick, trick}, false},
		{[]string{"pull", trick}, false},
		{[]string{trick}, false},
		{[]string{"build", "--" + trick}, false},
		{[]string{"help", trick}, false},
	} {
		stdout, stderr, err := command(t, tt.args...)
		if (err == nil) != tt.ok {
			t.Errorf("%q: error %v", tt.args, err)
		}
		for _, said := range []string{stdout, stderr} {
			if i := strings.IndexFunc(said, func(r rune) bool { return r != '\n' && isTricky(r) }); i >= 0 {
				t.Errorf("%q: tricks in %q", tt.args, said[i:min(len(said), i+80)])
			}
		}
		if strings.Contains(strings.Join(tt.args, " "), "--json") && tt.ok && !json.Valid([]byte(stdout)) {
			t.Errorf("%q: no JSON: %s", tt.args, stdout)
		}
	}
}

func TestJSONIsTheSameToPrograms(t *testing.T) {
	for _, s := range []string{"", "plain", "größe", trick, "\x00\x01\n\t\"\\", "\u2028\ufeff\u00a0"} {
		var b strings.Builder
		if err := writeJSON(&b, map[string]string{s: s}, "  "); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && isTricky(r) }); i >= 0 {
			t.Errorf("%q: tricks in %q", s, b.String())
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(b.String()), &got); err != nil || len(got) != 1 || got[s] != s {
			t.Errorf("%q: %q, %v", s, got, err)
		}
	}
}

// TestJSONIsWrittenInOnePlace keeps what is printed from being written without [writeJSON].
func TestJSONIsWrittenInOnePlace(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	encoder := regexp.MustCompile(`json\.NewEncoder\(`)
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if name != "tui.go" && !strings.HasSuffix(name, "_test.go") && encoder.Match(data) {
			t.Errorf("%s: use writeJSON", name)
		}
	}
}
