package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write files anew that follow from the program")

// licenceFile matches the names of files with the terms of a module.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|copyright|notice|patents)`)

// NOTICE has the terms of all that is linked into the command.
func TestNoticeIsFresh(t *testing.T) {
	var want bytes.Buffer
	fmt.Fprint(&want, `nix2img
Copyright the nix2img authors, Apache License 2.0: see LICENSE.

The command nix2img is linked with these modules. Their terms follow.

`)
	modules := linkedModules(t)
	for _, m := range modules {
		fmt.Fprintln(&want, "    "+m.name)
	}
	var texts []string // each once, in the order of the modules
	names := make(map[string][]string)
	for _, m := range modules {
		files := m.terms(t)
		if len(files) == 0 {
			t.Errorf("%s has no file with its terms", m.name)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSpace(string(data))
			if names[text] == nil {
				texts = append(texts, text)
			}
			names[text] = append(names[text], m.name+": "+filepath.Base(file))
		}
	}
	for _, text := range texts {
		fmt.Fprintf(&want, "\n%s\n%s\n\n%s\n", strings.Repeat("-", 100), strings.Join(names[text], "\n"), text)
	}
	const name = "../../NOTICE"
	if *update {
		if err := os.WriteFile(name, want.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("NOTICE is not what is linked: go test ./cmd/nix2img -run TestNoticeIsFresh -update (%v)", err)
	}
}

// linkedModule is a module, or Go itself, of which code is in the command.
type linkedModule struct{ name, dir string }

// linkedModules lists them for every platform that there are releases for.
func linkedModules(t *testing.T) []linkedModule {
	t.Helper()
	all := make(map[linkedModule]bool)
	for _, platform := range []string{"linux/amd64/1", "linux/arm64/1", "darwin/arm64/0"} {
		p := strings.Split(platform, "/")
		cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}\t{{.Dir}}{{end}}{{end}}", ".")
		cmd.Env = append(os.Environ(), "GOOS="+p[0], "GOARCH="+p[1], "CGO_ENABLED="+p[2])
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list for %s: %v", platform, err)
		}
		for line := range strings.Lines(string(out)) {
			if name, dir, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
				all[linkedModule{name, dir}] = true
			}
		}
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	list := []linkedModule{{"Go", strings.TrimSpace(string(root))}}
	for m := range all {
		list = append(list, m)
	}
	slices.SortFunc(list[1:], func(a, b linkedModule) int { return strings.Compare(a.name, b.name) })
	return list
}

// terms returns the files with the terms of a module.
func (m *linkedModule) terms(t *testing.T) (files []string) {
	t.Helper()
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if licenceFile.MatchString(e.Name()) && e.Type().IsRegular() && filepath.Ext(e.Name()) != ".go" {
			files = append(files, filepath.Join(m.dir, e.Name()))
		}
	}
	return files
}
