package image_test

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/image"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (rewrite it with -update); got:\n%s", file, got)
	}
}

// walk calls f for all files of a tree, directories first.
func walk(t *testing.T, fsys fs.FS, f func(name string, info fs.FileInfo)) {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			f(name, info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// list returns mode, path and link target of each file in a tree.
func list(t *testing.T, fsys fs.FS) string {
	t.Helper()
	var b strings.Builder
	walk(t, fsys, func(name string, info fs.FileInfo) {
		if !info.ModTime().Equal(time.Unix(1, 0)) || info.Sys() != nil {
			t.Errorf("%s: time %v, system's information %v", name, info.ModTime(), info.Sys())
		}
		fmt.Fprintf(&b, "%v %s", info.Mode(), path.Join("/", name))
		switch {
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := fs.ReadLink(fsys, name)
			if err != nil {
				t.Error(err)
			}
			b.WriteString(" -> " + target)
		case info.Mode().IsRegular() && info.Size() == 0:
			b.WriteString(" (empty)")
		}
		b.WriteByte('\n')
	})
	return b.String()
}

// contents returns all regular files of a tree with something in them.
func contents(t *testing.T, fsys fs.FS) string {
	t.Helper()
	var b strings.Builder
	walk(t, fsys, func(name string, info fs.FileInfo) {
		if info.Mode().IsRegular() && info.Size() > 0 {
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(&b, "-- /%s --\n%s", name, data)
		}
	})
	return b.String()
}

// goldenImages are images whose base trees are pinned in testdata.
func goldenImages() map[string]*image.Image {
	return map[string]*image.Image{
		"python": {
			Closure: closureOf(pythonFiles, python),
			Config: image.Config{
				Entrypoint: []string{"python3", "-c", "print('hello, \"world\"')"},
				Cmd:        []string{"two words", ""},
				Env:        []string{"GREETING=it's $HOME, `id` & \\n", "HOST=${HOST}"},
				WorkingDir: "/work/it's here",
				Labels:     map[string]string{"org.example.b": "<b>", "org.example.a": "a\nb"},
			},
		},
		"hello":  {Closure: closureOf(helloFiles, hello)},
		"static": {Closure: closureOf(files{static + "/bin/busybox": elfFile("arm64", "")}, static)},
		"several": {Closure: closureOf(withGlibc(files{
			hello + "/bin/hello": elfFile("amd64", loader64),
			bash + "/bin/sh":     elfFile("amd64", loader64),
		}), bash, hello)},
		"gpu": gpuImage("amd64", dataCentre...),
	}
}

func TestBaseGolden(t *testing.T) {
	for name, img := range goldenImages() {
		t.Run(name, func(t *testing.T) {
			fsys := base(t, img)
			golden(t, name+".list", list(t, fsys))
			golden(t, name+".contents", contents(t, fsys))
		})
	}
}

// TestBaseMeetsContract checks what runtimes need of an image, whatever is in its closure.
func TestBaseMeetsContract(t *testing.T) {
	const dir, file = "drwxr-xr-x", "-rw-r--r--"
	want := make(map[string]string)
	for _, name := range strings.Fields("dev proc sys run root home mnt opt srv usr/bin usr/lib64 lib64 bin sbin etc var/run ch" +
		" .singularity.d/libs .singularity.d/env .singularity.d/actions nix/store") {
		want[name] = dir
	}
	want["tmp"], want["var/tmp"] = "dtrwxrwxrwx", "dtrwxrwxrwx"
	for _, name := range strings.Fields("passwd group nsswitch.conf hosts resolv.conf localtime hostname machine-id environment") {
		want["etc/"+name] = file
	}
	for _, name := range strings.Fields("smi debugdump persistenced cuda-mps-control cuda-mps-server") {
		want["usr/bin/nvidia-"+name] = file
	}
	for _, name := range strings.Fields("bin/rocm-smi bin/rocminfo share/nvidia/nvoptix.bin share/glvnd/egl_vendor.d/10_nvidia.json" +
		" share/vulkan/icd.d/nvidia_icd.json share/vulkan/icd.d/nvidia_layers.json share/vulkan/implicit_layer.d/nvidia_layers.json" +
		" share/egl/egl_external_platform.d/10_nvidia_wayland.json share/egl/egl_external_platform.d/15_nvidia_gbm.json") {
		want["usr/"+name] = file
	}
	for _, name := range strings.Fields("env/10-nix2img.sh env/99-base.sh env/99-nix2img.sh runscript") {
		want[".singularity.d/"+name] = "-rwxr-xr-x"
	}
	want["run/opengl-driver/lib"] = "Lrwxrwxrwx"
	want[image.RecordPath] = file
	for name, img := range goldenImages() {
		fsys := base(t, img)
		for file, mode := range want {
			info, err := fs.Lstat(fsys, file)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if info.Mode().String() != mode {
				t.Errorf("%s: %s has mode %v, want %s", name, file, info.Mode(), mode)
			}
		}
		for _, file := range []string{"etc/debian_version", ".singularity.d/env/90-environment.sh", "etc/ld.so.cache"} {
			if _, err := fs.Lstat(fsys, file); err == nil {
				t.Errorf("%s: %s is there", name, file)
			}
		}
	}
}

func TestLoaderLink(t *testing.T) {
	musl := object("musl-1.2") + "/lib/ld-musl-x86_64.so.1"
	arm := object("glibc-arm") + "/lib/ld-linux-aarch64.so.1"
	other := object("glibc-other") + "/lib/ld-linux-x86-64.so.2"
	for _, test := range []struct {
		name  string
		files files
		want  string // link and target
	}{
		{"glibc", helloFiles, "lib64/ld-linux-x86-64.so.2 " + loader64},
		{"another architecture", files{arm: elfFile("arm64", ""), hello + "/bin/hello": elfFile("arm64", arm)},
			"lib/ld-linux-aarch64.so.1 " + arm},
		{"static", files{hello + "/bin/hello": elfFile("amd64", "")}, ""},
		{"static beside glibc", withGlibc(files{hello + "/bin/hello": elfFile("amd64", "")}), ""},
		{"musl", files{musl: elfFile("amd64", ""), hello + "/bin/hello": elfFile("amd64", musl)}, ""},
		{"the host's loader", files{hello + "/bin/hello": elfFile("amd64", "/lib64/ld-linux-x86-64.so.2")}, ""},
		{"loader missing", files{hello + "/bin/hello": elfFile("amd64", loader64)}, ""},
		{"the one of most programs", withGlibc(files{
			other:            elfFile("amd64", ""),
			hello + "/bin/a": elfFile("amd64", loader64),
			hello + "/bin/b": elfFile("amd64", other),
			hello + "/bin/c": elfFile("amd64", other),
		}), "lib64/ld-linux-x86-64.so.2 " + other},
		{"no programs", withGlibc(files{hello + "/lib/hello.py": "pass"}), "lib64/ld-linux-x86-64.so.2 " + loader64},
	} {
		fsys := base(t, &image.Image{Closure: closureOf(test.files, hello)})
		got := ""
		for _, name := range []string{"lib/ld-linux-aarch64.so.1", "lib64/ld-linux-x86-64.so.2"} {
			if target, err := fs.ReadLink(fsys, name); err == nil {
				got += name + " " + target
			}
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// link is a file that is a symbolic link to target.
func link(target string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

func TestFilesAreMerged(t *testing.T) {
	added := fstest.MapFS{
		"etc/passwd":                        {Data: []byte("root\nme\n"), Mode: 0o600},
		"etc/site/config":                   {Data: []byte("x=1\n"), Mode: 0o640},
		"bin/sh":                            {Data: []byte("a shell"), Mode: 0o755},
		"usr/bin/env":                       link("/bin/env"),
		"usr/local/bin/su":                  {Data: []byte("su"), Mode: fs.ModeSetuid | 0o755},
		"tmp":                               {Mode: fs.ModeDir | 0o700},
		"data":                              {Mode: fs.ModeDir | fs.ModeSetgid | 0o770},
		"nix/store":                         {Mode: fs.ModeDir | 0o700},
		"nix/var/empty":                     {Mode: fs.ModeDir | 0o500},
		".singularity.d/env/50-site.sh":     {Data: []byte("export SITE=1\n"), Mode: 0o644},
		"opt/new\nline":                     {Data: []byte("bytes"), Mode: 0o644},
		"opt/latest":                        link("../data"),
		"var/tmp/kept/because/it/was/added": {Data: nil, Mode: 0o644},
	}
	fsys := base(t, &image.Image{Closure: closureOf(pythonFiles, python), Files: added})
	for name, want := range map[string]string{
		"etc/passwd":                    "-rw------- root\nme\n",
		"etc/site/config":               "-rw-r----- x=1\n",
		"bin/sh":                        "-rwxr-xr-x a shell",
		"usr/bin/env":                   "Lrwxrwxrwx /bin/env",
		"usr/local/bin/su":              "urwxr-xr-x su",
		"tmp":                           "dtrwxrwxrwx ",
		"data":                          "dgrwxrwx--- ",
		"nix/store":                     "drwxr-xr-x ",
		"nix/var/empty":                 "dr-x------ ",
		".singularity.d/env/50-site.sh": "-rw-r--r-- export SITE=1\n",
		"opt/new\nline":                 "-rw-r--r-- bytes",
		"opt/latest":                    "Lrwxrwxrwx ../data",
	} {
		info, err := fs.Lstat(fsys, name)
		if err != nil {
			t.Error(err)
			continue
		}
		var data []byte
		switch info.Mode().Type() {
		case 0:
			data, err = fs.ReadFile(fsys, name)
			if int64(len(data)) != info.Size() {
				t.Errorf("%q: %d bytes, want %d", name, len(data), info.Size())
			}
		case fs.ModeSymlink:
			target, linkErr := fs.ReadLink(fsys, name)
			data, err = []byte(target), linkErr
		}
		if got := fmt.Sprintf("%v %s", info.Mode(), data); err != nil || got != want {
			t.Errorf("%q: got %q, %v, want %q", name, got, err, want)
		}
		if !info.ModTime().Equal(time.Unix(1, 0)) || info.Sys() != nil {
			t.Errorf("%q: time %v, system's information %v", name, info.ModTime(), info.Sys())
		}
	}
}

func TestFilesInConflict(t *testing.T) {
	regular := &fstest.MapFile{Mode: 0o644}
	dir := &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	for name, file := range map[string]*fstest.MapFile{
		"etc/rc":                        regular,
		"etc/environment":               regular,
		"etc/passwd":                    link("/elsewhere"),
		"etc/group/x":                   regular,
		"etc":                           link("/elsewhere"),
		"tmp":                           regular,
		"lib64":                         link("usr/lib64"),
		"lib64/ld-linux-x86-64.so.2":    regular,
		"bin/sh":                        dir,
		"usr/bin/nvidia-smi":            regular,
		"run/opengl-driver/lib":         dir,
		".singularity.d/runscript":      regular,
		".singularity.d/env/99-base.sh": regular,
		".nix2img/shield":               dir,
		".nix2img/record.json":          regular,
		"nix":                           link("/elsewhere"),
		"nix/store":                     regular,
		"nix/store/anything":            dir,
	} {
		img := &image.Image{Closure: closureOf(pythonFiles, python), Files: fstest.MapFS{name: file}}
		r := resolve(t, img)
		_, err := r.Base(t.Context(), &image.Record{})
		conflict, ok := errors.AsType[*image.ConflictError](err)
		if !ok {
			t.Errorf("%s: got %v, want a conflict", name, err)
			continue
		}
		if !strings.HasPrefix("/"+name, conflict.Path) || conflict.Added == "" || conflict.Base == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesOfOtherKindsAreRejected(t *testing.T) {
	img := &image.Image{
		Closure: closureOf(helloFiles, hello),
		Files:   fstest.MapFS{"run/pipe": {Mode: fs.ModeNamedPipe | 0o644}},
	}
	if _, err := resolve(t, img).Base(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "run/pipe") {
		t.Errorf("got %v", err)
	}
}

func TestWorkingDir(t *testing.T) {
	for dir, want := range map[string]string{
		"/":                      "",
		"/tmp":                   "dtrwxrwxrwx",
		"/work/deep":             "drwxr-xr-x",
		python + "/bin":          "",
		"/run/opengl-driver/lib": "Lrwxrwxrwx",
		"/etc/passwd":            "error",
		"/etc/passwd/x":          "error",
		python + "/nothing":      "error",
		python + "/bin/python3":  "error",
	} {
		img := &image.Image{Closure: closureOf(pythonFiles, python), Config: image.Config{WorkingDir: dir}}
		fsys, err := resolve(t, img).Base(t.Context(), nil)
		if _, ok := errors.AsType[*image.ConfigError](err); ok != (want == "error") {
			t.Errorf("%s: %v", dir, err)
		}
		if err != nil || want == "" {
			continue
		}
		info, err := fs.Lstat(fsys, dir[1:])
		if err != nil || info.Mode().String() != want {
			t.Errorf("%s: got %v, %v, want %s", dir, info, err, want)
		}
	}
}
