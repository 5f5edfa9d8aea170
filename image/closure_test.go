package image_test

import (
	"crypto/sha256"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

const storeDir = "/nix/store"

// object makes up the store path of an object with the given name.
// The digest depends on the name alone.
func object(name string) string {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	sum := sha256.Sum256([]byte(name))
	digest := make([]byte, 32)
	for i := range digest {
		digest[i] = digits[sum[i]%32]
	}
	return storeDir + "/" + string(digest) + "-" + name
}

// files maps absolute paths to contents.
// A directory is there if something lies in it.
// Contents that begin with "-> " are the target of a symbolic link,
// and those of programs and scripts are executable.
type files map[string]string

func (f files) fs() fs.FS {
	fsys := fstest.MapFS{}
	for name, text := range f {
		file := &fstest.MapFile{Data: []byte(text), Mode: 0o444}
		if target, ok := strings.CutPrefix(text, "-> "); ok {
			file = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
		} else if strings.HasPrefix(text, "\x7fELF") || strings.HasPrefix(text, "#!") {
			file.Mode = 0o555
		}
		fsys[strings.TrimPrefix(name, storeDir+"/")] = file
	}
	return fsys
}

// closureOf makes a closure of the objects that f has files of.
// Each root refers to all others.
func closureOf(f files, roots ...string) *closure.Closure {
	var paths []string
	for name := range f {
		base, _, _ := strings.Cut(strings.TrimPrefix(name, storeDir+"/"), "/")
		paths = append(paths, storeDir+"/"+base)
	}
	slices.Sort(paths)
	paths = slices.Compact(paths)
	var objects []closure.Object
	for _, p := range paths {
		o := closure.Object{
			Path:    closure.Path(p),
			NARHash: sha256.Sum256([]byte(p)),
			NARSize: int64(96 + len(p)),
		}
		for _, ref := range paths {
			if slices.Contains(roots, p) && !slices.Contains(roots, ref) {
				o.References = append(o.References, closure.Path(ref))
			}
		}
		objects = append(objects, o)
	}
	var rootPaths []closure.Path
	for _, root := range roots {
		rootPaths = append(rootPaths, closure.Path(root))
	}
	c, err := closure.New(rootPaths, objects)
	if err != nil {
		panic(err)
	}
	c.Files = f.fs()
	return c
}

// Some objects and their files.
var (
	glibc    = object("glibc-2.40")
	bash     = object("bash-5.2")
	tools    = object("coreutils-9.5")
	cacert   = object("nss-cacert-3.108")
	locales  = object("glibc-locales-2.40")
	zones    = object("tzdata-2026b")
	hello    = object("hello-2.12")
	python   = object("python3-3.12-env")
	static   = object("busybox-static-1.36")
	loader64 = glibc + "/lib/ld-linux-x86-64.so.2"
)

func elfFile(arch, interp string) string { return string(elftest.Program(arch, interp)) }

func withGlibc(more files) files {
	f := files{
		loader64:               elfFile("amd64", ""),
		glibc + "/lib/libc.so": "not read",
	}
	for name, text := range more {
		f[name] = text
	}
	return f
}

// helloFiles is a closure with one program, and no shell.
var helloFiles = withGlibc(files{
	hello + "/bin/hello": elfFile("amd64", loader64),
})

// pythonFiles is a closure with all that the base tree can make use of.
var pythonFiles = withGlibc(files{
	python + "/bin/python3":                 "-> python3.12",
	python + "/bin/python3.12":              elfFile("amd64", loader64),
	python + "/bin/.python3.12-wrapped":     elfFile("amd64", loader64),
	python + "/bin/f2py":                    "#!" + python + "/bin/python3\n",
	bash + "/bin/bash":                      elfFile("amd64", loader64),
	bash + "/bin/sh":                        "-> bash",
	tools + "/bin/coreutils":                elfFile("amd64", loader64),
	tools + "/bin/env":                      "-> coreutils",
	cacert + "/etc/ssl/certs/ca-bundle.crt": "certificates",
	locales + "/lib/locale/locale-archive":  "locales",
	zones + "/share/zoneinfo/UTC":           "TZif",
})

func resolve(t *testing.T, img *image.Image) *image.Resolved {
	t.Helper()
	r, err := img.Resolve(t.Context(), &image.Runtime{Facts: knownFacts[img.Closure]})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func base(t *testing.T, img *image.Image) fs.FS {
	t.Helper()
	r := resolve(t, img)
	rec, err := r.Record()
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := r.Base(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}
