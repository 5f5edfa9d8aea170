package image_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

func TestArch(t *testing.T) {
	loaderArm := glibc + "/lib/ld-linux-aarch64.so.1"
	lib := object("lib-1")
	for _, test := range []struct {
		name   string
		files  files
		config image.Config
		want   string // "amd64 or arm64": a tie; "": nothing found
	}{
		{name: "program", files: helloFiles, want: "amd64"},
		{name: "static program", files: files{hello + "/bin/hello": elfFile("riscv64", "")}, want: "riscv64"},
		{name: "set", files: files{hello + "/share/x": "y", lib + "/a": elfFile("386", "")}, config: image.Config{Arch: "s390x"}, want: "s390x"},
		{name: "set, of two", files: files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("arm64", ""), hello + "/bin/c": elfFile("amd64", "")}, config: image.Config{Arch: "amd64"}, want: "amd64"},
		{name: "root is a program", files: files{hello: elfFile("ppc64le", "")}, want: "ppc64le"},
		{name: "root is a script", files: files{hello: "#!" + bash + "/bin/sh\n", bash + "/bin/sh": elfFile("arm", "")}, want: "arm"},
		{name: "link within the root", files: files{hello + "/bin/a": "-> ../libexec/b", hello + "/libexec/b": elfFile("arm64", "")}, want: "arm64"},
		{name: "link into another object", files: files{hello + "/bin/a": "-> " + lib + "/b", lib + "/b": elfFile("arm64", "")}, want: "arm64"},
		{name: "linked folder", files: files{hello + "/bin": "-> " + lib + "/sub/../bin", lib + "/bin/b": elfFile("arm64", ""), lib + "/sub/x": "y"}, want: "arm64"},
		{name: "links in a circle", files: files{hello + "/bin/a": "-> b", hello + "/bin/b": "-> a", lib + "/b": elfFile("arm64", "")}, want: "arm64"},
		{name: "link out of the store", files: files{hello + "/bin/a": "-> /bin/sh", hello + "/bin/b": "-> ../../../../bin/sh", lib + "/b": elfFile("arm64", "")}, want: "arm64"},
		{
			name: "wrapper in shell",
			files: files{
				hello + "/bin/hello":          "#! " + bash + "/bin/bash -e\nexport A='b'\n  exec -a \"$0\" \"" + hello + "/bin/.hello-wrapped\"  \"$@\"\n",
				hello + "/bin/.hello-wrapped": "#!/bin/sh\nexec '" + lib + "/hello' \"$@\"\n",
				lib + "/hello":                elfFile("arm64", ""),
				bash + "/bin/bash":            elfFile("amd64", ""),
			},
			want: "arm64",
		},
		{name: "wrapper of itself", files: files{hello + "/bin/a": "#!/bin/sh\nexec " + hello + "/bin/a\n", lib + "/b": elfFile("arm64", "")}, want: "arm64"},
		{name: "interpreter", files: files{hello + "/bin/a": "#!" + python + "/bin/python3 -s\nimport a\n", python + "/bin/python3": elfFile("arm64", "")}, want: "arm64"},
		{name: "most programs", files: files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("arm64", ""), hello + "/bin/c": elfFile("amd64", "")}, want: "arm64"},
		{
			name:   "program to start before most programs",
			files:  files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("arm64", ""), hello + "/bin/c": elfFile("amd64", "")},
			config: image.Config{Cmd: []string{"c"}},
			want:   "amd64",
		},
		{name: "loader if there are no programs", files: files{hello + "/share/x": "y", loaderArm: elfFile("arm64", ""), lib + "/a": elfFile("386", ""), lib + "/b": elfFile("386", "")}, want: "arm64"},
		{name: "loader if programs are undecided", files: files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("amd64", ""), loaderArm: elfFile("arm64", "")}, want: "arm64"},
		{name: "majority", files: files{hello + "/share/x": "y", lib + "/a/b": elfFile("386", ""), lib + "/c": elfFile("mips", ""), lib + "/d": elfFile("386", "")}, want: "386"},
		{name: "no GPUs", files: files{hello + "/bin/a": elfFile("cuda", ""), lib + "/b": elfFile("cuda", ""), lib + "/c": elfFile("amdgpu", ""), lib + "/d": elfFile("386", "")}, want: "386"},
		{name: "tie", files: files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("amd64", "")}, want: "amd64 or arm64"},
		{name: "nothing", files: files{hello + "/bin/a": "#!/bin/sh\n", lib + "/b": "\x7fELF", lib + "/c": elfFile("cuda", "")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 3 { // maps change their order
				r, err := (&image.Image{Closure: closureOf(test.files, hello), Config: test.config}).Resolve(t.Context(), nil)
				got := ""
				if e, ok := errors.AsType[*image.ArchError](err); ok {
					got = strings.Join(e.Found, " or ")
				} else if err != nil {
					t.Fatal(err)
				} else {
					got = r.Arch
				}
				if got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			}
		})
	}
}

func TestArchOfOtherProgramsIsNote(t *testing.T) {
	of := files{hello + "/bin/a": elfFile("arm64", ""), hello + "/bin/b": elfFile("amd64", ""), bash + "/bin/bash": elfFile("amd64", "")}
	r := resolve(t, &image.Image{Closure: closureOf(of, hello), Config: image.Config{Arch: "arm64"}})
	if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "amd64") {
		t.Errorf("notes: %q", r.Notes)
	}
	// A shell for another CPU is none.
	if r.Shell != "" || r.Loader != "" {
		t.Errorf("shell %s, loader %s", r.Shell, r.Loader)
	}
}

func TestArchOfNoProgramIsRefused(t *testing.T) {
	_, err := (&image.Image{Closure: closureOf(pythonFiles, python), Config: image.Config{Arch: "arm64", CheckArch: true}}).Resolve(t.Context(), nil)
	if e, ok := errors.AsType[*image.ConfigError](err); !ok || e.Field != "Arch" || !strings.Contains(e.Reason, "amd64") {
		t.Errorf("%v", err)
	}
}

func TestProgram(t *testing.T) {
	several := files{
		hello + "/bin/hello": elfFile("amd64", ""),
		hello + "/bin/other": elfFile("amd64", ""),
		hello + "/bin/data":  "not a program",
	}
	one := files{
		hello + "/bin/any":          elfFile("amd64", ""),
		hello + "/bin/.any-wrapped": elfFile("amd64", ""),
		hello + "/bin/dangling":     "-> nowhere",
		bash + "/bin/bash":          elfFile("amd64", ""),
	}
	for _, test := range []struct {
		name       string
		files      files
		roots      []string
		config     image.Config
		entrypoint []string
		cmd        []string
		bad        string // field of a ConfigError
	}{
		{name: "the only program", files: one, entrypoint: []string{hello + "/bin/any"}},
		{name: "the one with the package's name", files: several, entrypoint: []string{hello + "/bin/hello"}},
		{name: "of several roots none", files: one, roots: []string{hello, bash}},
		{name: "by name", files: several, config: image.Config{Entrypoint: []string{"other", "-x"}}, entrypoint: []string{hello + "/bin/other", "-x"}},
		{name: "by name, in the order of the roots", files: files{hello + "/bin/a": "#!/x\n", bash + "/bin/a": elfFile("amd64", "")}, roots: []string{bash, hello},
			config: image.Config{Cmd: []string{"a"}}, cmd: []string{bash + "/bin/a"}},
		{name: "by name, not there", files: one, config: image.Config{Cmd: []string{"later"}}, cmd: []string{"later"}},
		{name: "elsewhere", files: one, config: image.Config{Entrypoint: []string{"/opt/x"}, Cmd: []string{"y"}}, entrypoint: []string{"/opt/x"}, cmd: []string{"y"}},
		{name: "by path", files: several, config: image.Config{Entrypoint: []string{hello + "/bin/other"}}, entrypoint: []string{hello + "/bin/other"}},
		{name: "by path, not there", files: several, config: image.Config{Entrypoint: []string{hello + "/bin/third"}}, bad: "Entrypoint"},
		{name: "by path, no program", files: several, config: image.Config{Cmd: []string{hello + "/bin/data"}}, bad: "Cmd"},
	} {
		roots := test.roots
		if roots == nil {
			roots = []string{hello}
		}
		r, err := (&image.Image{Closure: closureOf(test.files, roots...), Config: test.config}).Resolve(t.Context(), nil)
		if e, ok := errors.AsType[*image.ConfigError](err); ok != (test.bad != "") || ok && e.Field != test.bad {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err != nil {
			continue
		}
		if !slices.Equal(r.Config.Entrypoint, test.entrypoint) || !slices.Equal(r.Config.Cmd, test.cmd) {
			t.Errorf("%s: got %q and %q", test.name, r.Config.Entrypoint, r.Config.Cmd)
		}
	}
}

func TestEnv(t *testing.T) {
	const standard = ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	img := &image.Image{Closure: closureOf(pythonFiles, bash, cacert, python)}
	img.Config.Env = []string{"A=1", "PYTHONNOUSERSITE=", "B=x=y", "A=2", "Q='x'"}
	r := resolve(t, img)
	want := []string{
		"PATH=" + bash + "/bin:" + python + "/bin" + standard,
		"PYTHONNOUSERSITE=",
		"SSL_CERT_FILE=" + cacert + "/etc/ssl/certs/ca-bundle.crt",
		"LOCALE_ARCHIVE=" + locales + "/lib/locale/locale-archive",
		"TZDIR=" + zones + "/share/zoneinfo",
		"A=2",
		"B=x=y",
		"Q='x'",
	}
	if !slices.Equal(r.Config.Env, want) {
		t.Errorf("got %q, want %q", r.Config.Env, want)
	}
	if len(r.Notes) != 1 || !strings.HasPrefix(r.Notes[0], "Q ") {
		t.Errorf("notes: %q", r.Notes)
	}
	fsys, err := r.Base(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"etc/environment", "ch/environment"} {
		text, err := fs.ReadFile(fsys, name)
		if want := strings.Join(want[:7], "\n") + "\n"; err != nil || string(text) != want {
			t.Errorf("%s: got %q, %v, want %q", name, text, err, want)
		}
	}
}

// Notes are for images that the missing thing would be used in.
func TestNotesOfWhatIsMissing(t *testing.T) {
	zone, locale := zones+"/share/zoneinfo/UTC", locales+"/lib/locale/locale-archive"
	static := files{hello + "/bin/hello": elfFile("amd64", "")}
	two := files{hello + "/bin/one": elfFile("amd64", ""), hello + "/bin/two": elfFile("amd64", "")}
	with := func(f files, more ...string) files {
		f = maps.Clone(f)
		for i := 0; i < len(more); i += 2 {
			f[more[i]] = more[i+1]
		}
		return f
	}
	for _, test := range []struct {
		name   string
		files  files
		config image.Config
		added  []string // files of the user
		want   []string // parts of the one note; none: there is no note
	}{
		{name: "one program", files: static},
		{name: "several", files: two, want: []string{"no shell and no env", "`singularity shell`", "`--oci`", "#!/bin/sh", "#!/usr/bin/env", "bashInteractive and coreutils"}},
		{name: "a shell is there", files: with(two, bash+"/bin/sh", elfFile("amd64", "")), want: []string{"has no env", "coreutils would bring"}},
		{name: "a shell comes with the image", files: two, added: []string{"bin/sh", "usr/bin/env"}},
		{name: "a script for env", files: with(static, hello+"/bin/run", "#!/usr/bin/env python3\n"), want: []string{"no shell and no env"}},
		{name: "a script for sh", files: with(static, hello+"/bin/run", "#! /bin/sh -e\n"), want: []string{"no shell and no env"}},
		{name: "a script with its interpreter", files: with(static, hello+"/bin/run", "#!"+hello+"/bin/hello\n")},
		{name: "a working directory", files: static, config: image.Config{WorkingDir: "/data"}, want: []string{"the working directory under `singularity run`"}},
		{name: "neither zones nor locales", files: helloFiles, want: []string{"neither tzdata nor glibcLocales", "TZ and LANG"}},
		{name: "no zones", files: with(helloFiles, locale, "x"), want: []string{"no tzdata: TZ of"}},
		{name: "no locales", files: with(helloFiles, zone, "x"), want: []string{"no glibcLocales: LANG of"}},
		{name: "both", files: with(helloFiles, zone, "x", locale, "x")},
		{name: "set by the user", files: helloFiles, config: image.Config{Env: []string{"TZDIR=/usr/share/zoneinfo", "LOCALE_ARCHIVE=/x"}}},
	} {
		img := &image.Image{Closure: closureOf(test.files, hello), Config: test.config}
		if test.added != nil {
			added := make(fstest.MapFS)
			for _, name := range test.added {
				added[name] = &fstest.MapFile{Mode: 0o755}
			}
			img.Files = added
		}
		notes := resolve(t, img).Notes
		if len(notes) > 1 || (len(notes) == 0) != (test.want == nil) {
			t.Errorf("%s: notes %q", test.name, notes)
			continue
		}
		for _, part := range test.want {
			if !strings.Contains(notes[0], part) {
				t.Errorf("%s: note %q, want %q", test.name, notes[0], part)
			}
		}
	}
}

func TestResolveLeavesTheImageAlone(t *testing.T) {
	img := &image.Image{
		Closure: closureOf(pythonFiles, python),
		Config:  image.Config{Entrypoint: []string{"python3"}, Env: []string{"A=1"}, Labels: map[string]string{"a": "b"}},
	}
	r := resolve(t, img)
	r.Config.Labels["a"] = "c"
	want := image.Config{Entrypoint: []string{"python3"}, Env: []string{"A=1"}, Labels: map[string]string{"a": "b"}}
	if !reflect.DeepEqual(img.Config, want) {
		t.Errorf("got %+v", img.Config)
	}
}

func TestNamesAreBytes(t *testing.T) {
	img := &image.Image{Closure: closureOf(helloFiles, hello)}
	dir := t.TempDir()
	if err := os.CopyFS(dir, img.Closure.Files); err != nil {
		t.Fatal(err)
	}
	odd := dir + "/" + strings.TrimPrefix(hello, storeDir+"/") + "/odd\xffname"
	if err := os.Mkdir(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/libGL.so.1\xff", "/a\nfile"} {
		if err := os.WriteFile(odd+name, elftest.Program("amd64", ""), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	img.Closure.Files = closure.DirFS(dir)
	img.GPU.NV = image.Yes
	resolve(t, img)
}

func TestResolveIsCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := (&image.Image{Closure: closureOf(pythonFiles, python)}).Resolve(ctx, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// brokenFS fails to open one file.
type brokenFS struct {
	fs.FS
	name string
}

func (f brokenFS) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return f.FS.Open(name)
}

func (f brokenFS) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) }
func (f brokenFS) ReadLink(name string) (string, error)   { return fs.ReadLink(f.FS, name) }

func TestResolveReportsUnreadableFiles(t *testing.T) {
	c := closureOf(helloFiles, hello)
	c.Files = brokenFS{c.Files, strings.TrimPrefix(hello, storeDir+"/") + "/bin/hello"}
	_, err := (&image.Image{Closure: c}).Resolve(t.Context(), nil)
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), hello+"/bin/hello") {
		t.Errorf("got %v", err)
	}
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		config image.Config
		bad    string
	}{
		{image.Config{}, ""},
		{image.Config{
			Entrypoint: []string{"a", "", "b\nc", "ü"}, Cmd: []string{""}, Env: []string{"A=", "_b1==\t$x'\""}, WorkingDir: "/",
			Labels: map[string]string{"org.example/a-b": "a\nb"}, Arch: "arm64", Created: time.Unix(1<<32-1, 0),
		}, ""},
		{image.Config{Entrypoint: []string{""}}, "Entrypoint"},
		{image.Config{Entrypoint: []string{"./a"}}, "Entrypoint"},
		{image.Config{Entrypoint: []string{"a", "\x00"}}, "Entrypoint"},
		{image.Config{Entrypoint: []string{"a", "\xff"}}, "Entrypoint"},
		{image.Config{Cmd: []string{""}}, "Cmd"},
		{image.Config{Cmd: []string{"bin/a"}}, "Cmd"},
		{image.Config{Env: []string{"A"}}, "Env"},
		{image.Config{Env: []string{"=b"}}, "Env"},
		{image.Config{Env: []string{"1A=b"}}, "Env"},
		{image.Config{Env: []string{"a.b=c"}}, "Env"},
		{image.Config{Env: []string{"A B=c"}}, "Env"},
		{image.Config{Env: []string{"A=b\nc"}}, "Env"},
		{image.Config{Env: []string{"A=\x00"}}, "Env"},
		{image.Config{Env: []string{"A=\xff"}}, "Env"},
		{image.Config{Env: []string{"UID=0"}}, "Env"},
		{image.Config{WorkingDir: "work"}, "WorkingDir"},
		{image.Config{WorkingDir: "/a/../b"}, "WorkingDir"},
		{image.Config{WorkingDir: "/a/"}, "WorkingDir"},
		{image.Config{WorkingDir: "/\x00"}, "WorkingDir"},
		{image.Config{Labels: map[string]string{"": "a"}}, "Labels"},
		{image.Config{Labels: map[string]string{"a b": "a"}}, "Labels"},
		{image.Config{Labels: map[string]string{"a\n": "a"}}, "Labels"},
		{image.Config{Labels: map[string]string{"a": "\x00"}}, "Labels"},
		{image.Config{Arch: "x86_64-linux"}, "Arch"},
		{image.Config{Arch: "pdp11"}, "Arch"},
		{image.Config{Created: time.Unix(-1, 0)}, "Created"},
		{image.Config{Created: time.Unix(1, 1)}, "Created"},
		{image.Config{Created: time.Unix(1<<32, 0)}, "Created"},
	} {
		err := test.config.Validate()
		e, ok := errors.AsType[*image.ConfigError](err)
		if ok != (test.bad != "") || ok && e.Field != test.bad {
			t.Errorf("%+v: got %v, want an error about %q", test.config, err, test.bad)
		}
	}
}

func TestArchErrorsNameWhatToUse(t *testing.T) {
	for name, want := range map[string]string{"x86_64": "amd64", "aarch64-linux": "arm64", "powerpc64le": "ppc64le"} {
		err := (&image.Config{Arch: name}).Validate()
		if err == nil || !strings.HasSuffix(err.Error(), "the name to use is "+want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
