package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/internal/vfs"
)

// A ConflictError reports that a file that the user adds has no place in the image.
type ConflictError struct {
	Path  string // in the image, absolute
	Added string // what is added: "a folder", "a regular file" or "a symbolic link"
	Base  string // what is in its way, in the same words or others
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("image: add %s: %s among the added files is in conflict with %s", e.Path, e.Added, e.Base)
}

// baseDirs are folders that runtimes mount something on or create files in.
var baseDirs = []string{
	".nix2img", ".singularity.d/actions", ".singularity.d/env", ".singularity.d/libs",
	"bin", "ch", "dev", "etc/ld.so.conf.d", "home", "lib", "lib64",
	"mnt/0", "mnt/1", "mnt/2", "mnt/3", "mnt/4", "mnt/5", "mnt/6", "mnt/7", "mnt/8", "mnt/9",
	"opt", "proc", "root", "run", "sbin", "srv", "sys", "usr/bin", "usr/lib64", "var/run",
}

// placeholders are files that runtimes bind programs and data of the host's GPU driver on,
// as their nvliblist.conf and rocmliblist.conf have them.
// Empty as they are, nothing takes them for programs or JSON.
var placeholders = []string{
	"usr/bin/nvidia-cuda-mps-control", "usr/bin/nvidia-cuda-mps-server",
	"usr/bin/nvidia-debugdump", "usr/bin/nvidia-persistenced", "usr/bin/nvidia-smi",
	"usr/bin/rocm-smi", "usr/bin/rocminfo",
	"usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json",
	"usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json",
	"usr/share/glvnd/egl_vendor.d/10_nvidia.json",
	"usr/share/nvidia/nvoptix.bin",
	"usr/share/vulkan/icd.d/nvidia_icd.json", "usr/share/vulkan/icd.d/nvidia_layers.json",
	"usr/share/vulkan/implicit_layer.d/nvidia_layers.json",
}

// etcFiles are files that runtimes bind over, append to, or replace.
// So they cannot be links into the store. The user may replace them.
var etcFiles = map[string]string{
	"group":         "root:x:0:\nnobody:x:65534:\n",
	"hostname":      "",
	"hosts":         "",
	"localtime":     "",
	"machine-id":    "",
	"nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
	"passwd":        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n",
	"resolv.conf":   "",
}

// compatLinks lead from where very old runtimes look to where things are.
var compatLinks = []struct{ name, target string }{
	{".exec", ".singularity.d/actions/exec"},
	{".run", ".singularity.d/actions/run"},
	{".shell", ".singularity.d/actions/shell"},
	{".test", ".singularity.d/actions/test"},
	{"environment", ".singularity.d/env/10-nix2img.sh"},
	{"singularity", ".singularity.d/runscript"},
}

// Base returns the base tree:
// everything in the image but the store objects, rooted at the image's root.
// The store directory is there, and empty.
//
// It has rec at [RecordPath], usually what [Resolved.Record] gave plus Squashfs.
// A nil rec leaves the file out.
//
// The tree implements [fs.ReadLinkFS], [fs.ReadDirFS] and [fs.StatFS].
// Its regular files implement [io.ReaderAt], unless they are from the user's file system
// and do not do so there.
// Names that are not UTF-8 are valid.
// Errors about files that cannot be added are [*ConflictError].
func (r *Resolved) Base(ctx context.Context, rec *Record) (fs.FS, error) {
	if r.image == nil {
		return nil, errNotResolved
	}
	t := newBaseTree()
	t.mkdir(0o755, baseDirs...)
	t.mkdir(0o755, r.storeName())
	t.mkdir(0o777|fs.ModeSticky, "tmp", "var/tmp")
	for _, name := range sortedKeys(etcFiles) {
		t.write("etc/"+name, 0o644, etcFiles[name])
	}
	for _, name := range placeholders {
		t.write(name, 0o644, "")
	}
	r.addClosureLinks(t)
	r.addLibraries(t)
	r.addMPI(t)
	if err := r.addScripts(t); err != nil {
		return nil, err
	}
	for _, l := range compatLinks {
		if t.get(l.target) != nil {
			t.symlink(l.name, l.target)
		}
	}
	if rec != nil {
		var b bytes.Buffer
		if _, err := rec.WriteTo(&b); err != nil {
			return nil, err
		}
		t.write(RecordPath, 0o644, b.String())
	}
	if err := r.addFiles(ctx, t); err != nil {
		return nil, err
	}
	if err := r.addWorkingDir(t); err != nil {
		return nil, err
	}
	if t.err != nil {
		return nil, t.err
	}
	return t.Tree, nil
}

// storeName returns the store directory as [io/fs] spells it.
func (r *Resolved) storeName() string { return strings.TrimPrefix(r.store.dir, "/") }

func (r *Resolved) addClosureLinks(t *baseTree) {
	if r.Shell != "" {
		t.symlink("bin/sh", r.Shell)
	}
	if r.EnvProgram != "" {
		t.symlink("usr/bin/env", r.EnvProgram)
	}
	if r.Loader != "" {
		t.symlink(strings.TrimPrefix(loaderPath(r.Arch), "/"), r.Loader)
	}
	t.symlink(strings.TrimPrefix(nixDriverDir, "/"), "/"+libsDir)
	if r.NV || r.ROCm {
		// Without them, somebody who cannot write to the image cannot bind a driver there.
		for _, dir := range r.driverDirs() {
			t.mkdir(0o755, strings.TrimPrefix(dir, "/"))
		}
	}
}

// addFiles merges what the user adds.
func (r *Resolved) addFiles(ctx context.Context, t *baseTree) error {
	files := r.image.Files
	if files == nil {
		return nil
	}
	err := walk(files, ".", func(name string, _ fs.FileMode) error {
		if err := ctx.Err(); err != nil || name == "." {
			return err
		}
		info, err := fs.Lstat(files, name)
		if err != nil {
			return err
		}
		n, err := addedNode(files, name, info)
		if err != nil {
			return err
		}
		return r.addFile(t, name, n)
	})
	if _, ok := errors.AsType[*ConflictError](err); ok {
		return err
	}
	return wrap(err, "image: add files")
}

func addedNode(files fs.FS, name string, info fs.FileInfo) (*vfs.Node, error) {
	const kept = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	mode := info.Mode() & (fs.ModeType | kept)
	switch mode.Type() {
	case 0:
		return vfs.NewOpened(mode, info.Size(), func() (io.ReadCloser, error) { return files.Open(name) }), nil
	case fs.ModeDir:
		return vfs.NewDir(mode), nil
	case fs.ModeSymlink:
		target, err := fs.ReadLink(files, name)
		return vfs.NewSymlink(target), err
	}
	return nil, fmt.Errorf("%s: neither a regular file, a folder, nor a symbolic link", name)
}

func (r *Resolved) addFile(t *baseTree, name string, n *vfs.Node) error {
	conflict := func(base string) error { return &ConflictError{"/" + name, kind(n), base} }
	if strings.HasPrefix(name, r.storeName()+"/") {
		return conflict("the store directory, which has nothing but the closure")
	}
	if strings.HasPrefix(name, path.Dir(RecordPath)+"/") {
		return conflict("the folder " + path.Dir("/"+RecordPath) + ", which is nix2img's own")
	}
	old := t.get(name)
	switch {
	case old == nil, replaces(name, n):
		t.put(name, n)
	case old.IsDir() && n.IsDir():
	default:
		return conflict(kind(old) + " among the base files")
	}
	return nil
}

// replaces reports whether the user's node may take the place of the one that the base tree has.
func replaces(name string, n *vfs.Node) bool {
	switch dir, base := path.Split(name); {
	case name == "bin/sh", name == "usr/bin/env":
		return !n.IsDir()
	case dir == "etc/":
		_, ok := etcFiles[base]
		return ok && n.Mode().IsRegular()
	}
	return false
}

func kind(n *vfs.Node) string {
	switch n.Mode().Type() {
	case fs.ModeDir:
		return "a folder"
	case fs.ModeSymlink:
		return "a symbolic link"
	}
	return "a regular file"
}

// addWorkingDir makes the working directory, unless it is there or in the closure.
func (r *Resolved) addWorkingDir(t *baseTree) error {
	dir := r.Config.WorkingDir
	if dir == "" || dir == "/" {
		return nil
	}
	fail := func(reason string) error { return &ConfigError{"WorkingDir", dir, reason} }
	if _, ok := r.store.cut(dir); ok {
		_, info, err := r.store.stat(dir)
		switch {
		case ignoreNotExist(err) != nil:
			return err
		case err != nil || !info.IsDir():
			return fail("the closure has no such directory")
		}
		return nil
	}
	name := dir[1:]
	for prefix := name; prefix != "."; prefix = path.Dir(prefix) {
		if n := t.get(prefix); n != nil {
			if !n.IsDir() && !(n.Mode().Type() == fs.ModeSymlink && prefix == name) {
				return fail("/" + prefix + " is " + kind(n))
			}
			break
		}
	}
	if t.get(name) == nil {
		t.mkdir(0o755, name)
	}
	return nil
}

// isPlain reports whether a variable's value means the same to enroot and Charliecloud
// as it does to everything else:
// enroot replaces ${NAME} and drops quotes around the whole,
// Charliecloud replaces $NAME at the beginning of what colons separate and drops quotes.
func isPlain(value string) bool {
	return !strings.Contains(value, "${") &&
		!strings.HasPrefix(value, `"`) && !strings.HasPrefix(value, "'") &&
		!slices.ContainsFunc(strings.Split(value, ":"), func(item string) bool { return strings.HasPrefix(item, "$") })
}
