//go:build foreign

package image_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nix2img/nix2img/image"
)

// shells are the shells that must agree about our scripts.
var shells = []string{"sh", "dash", "bash"}

// nasty are values that quoting could damage.
var nasty = []string{
	"", " ", "it's", `"`, `\`, `\n`, "$HOME", "${HOME}", "$(echo no)", "`echo no`", "a  b\tc", "*", "~", "#", "!x",
	"'\\''", "-n", "ünï", "a=b", "{a,b}", "&;|<>()",
}

// script returns the text of a file in an image.
func script(t *testing.T, img *image.Image, name string) string {
	t.Helper()
	data, err := fs.ReadFile(base(t, img), name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// run runs a script and returns what it prints.
func run(t *testing.T, shell, text string, env []string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(shell, append([]string{file}, args...)...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatal(err)
	}
	return string(out)
}

func TestShellsReadBackTheEnvironment(t *testing.T) {
	img := &image.Image{Closure: closureOf(pythonFiles, python)}
	var print strings.Builder
	var want strings.Builder
	for i, value := range nasty {
		key := "V" + strings.Repeat("_", i)
		img.Config.Env = append(img.Config.Env, key+"="+value)
		print.WriteString("printf '[%s]' \"$" + key + "\"\n")
		want.WriteString("[" + value + "]")
	}
	text := script(t, img, ".singularity.d/env/10-nix2img.sh") + "unset PATH\n" + print.String()
	for _, shell := range shells {
		if got := run(t, shell, text, nil); got != want.String() {
			t.Errorf("%s: got %q, want %q", shell, got, want.String())
		}
	}
}

func TestShellsStartTheProgram(t *testing.T) {
	printf, err := exec.LookPath("printf")
	if err != nil {
		t.Fatal(err)
	}
	join := func(lists ...[]string) string {
		var b strings.Builder
		for _, list := range lists {
			for _, s := range list {
				b.WriteString("[" + s + "]")
			}
		}
		return b.String()
	}
	entry := append([]string{printf, "[%s]"}, nasty...)
	for _, test := range []struct {
		name   string
		config image.Config
		args   []string
		want   string
	}{
		{"entrypoint", image.Config{Entrypoint: entry}, nil, join(nasty)},
		{"entrypoint, arguments", image.Config{Entrypoint: entry}, nasty, join(nasty, nasty)},
		{"entrypoint, default arguments", image.Config{Entrypoint: entry, Cmd: []string{"x y", ""}}, nil, join(nasty, []string{"x y", ""})},
		{"entrypoint, other arguments", image.Config{Entrypoint: entry, Cmd: []string{"x y"}}, []string{"-z"}, join(nasty, []string{"-z"})},
		{"command", image.Config{Cmd: entry}, nil, join(nasty)},
		{"another command", image.Config{Cmd: []string{"/nonexistent"}}, entry, join(nasty)},
		{"working directory", image.Config{Entrypoint: []string{"/bin/sh", "-c", "pwd"}, WorkingDir: "/usr"}, nil, "/usr\n"},
	} {
		img := &image.Image{Closure: closureOf(pythonFiles, python), Config: test.config}
		for _, file := range []string{".singularity.d/runscript", "etc/rc"} {
			for _, shell := range shells {
				if got := run(t, shell, script(t, img, file), nil, test.args...); got != test.want {
					t.Errorf("%s: %s %s: got %q, want %q", test.name, shell, file, got, test.want)
				}
			}
		}
	}
}

func TestShellsSayThatThereIsNothingToStart(t *testing.T) {
	img := goldenImages()["several"]
	for _, shell := range shells {
		text := script(t, img, ".singularity.d/runscript")
		if got := run(t, shell, text, nil); !strings.Contains(got, "starts no program") {
			t.Errorf("%s: got %q", shell, got)
		}
		if got := run(t, shell, text, nil, "/bin/echo", "a  b"); got != "a  b\n" {
			t.Errorf("%s: got %q", shell, got)
		}
	}
}

// TestShellsFindTheDriver has shells agree with the interpreter that runtimes embed.
func TestShellsFindTheDriver(t *testing.T) {
	for _, c := range scriptCases() {
		root := t.TempDir()
		for name, text := range c.host {
			if err := os.MkdirAll(filepath.Dir(root+name), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root+name, []byte(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
		text := c.text(t) + "printf %s \"${LD_LIBRARY_PATH--}\"\n" +
			"set | while read -r line; do case $line in __n2i*) echo left: \"$line\";; esac; done\n"
		var pairs []string
		for _, dir := range []string{
			"/.singularity.d", "/.nix2img", "/usr/lib", "/usr/local/nvidia", "/usr/share", "/run/opengl-driver", "/proc/driver", "/nix/store", "/opt/rocm", "/odd", "/etc",
		} {
			pairs = append(pairs, dir, root+dir)
		}
		text = strings.NewReplacer(pairs...).Replace(text)
		for _, shell := range shells {
			if got := strings.ReplaceAll(run(t, shell, text, nil), root, ""); got != c.want {
				t.Errorf("%s: %s: got %q, want %q", c.name, shell, got, c.want)
			}
		}
	}
}
