package closure

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/internal/vfs"
)

// ResolveRoot returns the store path that an argument of a user means:
// a store path, a path inside one, or a symbolic link that leads to either,
// such as the link named result that nix build leaves behind.
//
// storeDir is the store directory, usually "/nix/store".
// root is the directory below which the store lies on this machine, "" or "/" for the store itself
// (a relative one starts at the working directory, as arg does):
// a chroot store at /mnt has its objects in /mnt/nix/store, and /mnt is its root.
// Both names of an object are understood.
//
// Links are resolved one by one as text, until they say the name of an object.
// An absolute link that lies below root speaks of what is below root.
// That the object exists is not checked.
func ResolveRoot(arg, storeDir, root string) (Path, error) {
	p, err := resolveRoot(arg, storeDir, root)
	if err != nil {
		return "", fmt.Errorf("closure: resolve root %q: %w", arg, err)
	}
	return p, nil
}

func resolveRoot(arg, storeDir, root string) (Path, error) {
	if arg == "" {
		return "", errors.New("empty path")
	}
	storeDir = filepath.Clean(storeDir)
	if p, ok, err := inStore(arg, storeDir, storeDir); ok {
		return p, err
	}
	todo := arg
	if !filepath.IsAbs(arg) {
		dir, err := os.Getwd()
		if err != nil {
			return "", err
		}
		todo = dir + "/" + arg // not filepath.Join, which would drop a link before ..
	}
	root, err := filepath.Abs(cmp.Or(root, "/"))
	if err != nil {
		return "", err
	}
	if dir, err := filepath.EvalSymlinks(root); err == nil {
		root = dir // because what it is compared with has no links either
	}
	stores := []string{storeDir, filepath.Join(root, storeDir)}
	if dir, err := filepath.EvalSymlinks(stores[1]); err == nil {
		stores = append(stores, dir)
	}
	r := &rootResolver{storeDir: storeDir, root: root, stores: stores}
	if _, err := vfs.Walk(r, "/", todo, true); err != errFound {
		return "", cmp.Or(err, fmt.Errorf("not in the store %s", stores[1]))
	}
	return r.path, r.err
}

// errFound ends a walk.
var errFound = errors.New("it leads into the store")

// A rootResolver is this machine's file system as [vfs.Walk] sees it, until a name leads into the store.
// Its files are paths without links.
type rootResolver struct {
	storeDir, root string
	stores         []string // all names of the store directory

	path Path // that has been found
	err  error
}

func (r *rootResolver) Entry(dir, name string) (string, fs.FileMode, error) {
	next := filepath.Join(dir, name)
	for _, store := range r.stores {
		if err := r.in(next, store); err != nil {
			return "", 0, err
		}
	}
	info, err := os.Lstat(next)
	if err != nil {
		return "", 0, err
	}
	return next, info.Mode(), nil
}

// in ends the walk if a path lies in a store.
func (r *rootResolver) in(path, store string) (err error) {
	var ok bool
	if r.path, ok, r.err = inStore(path, store, r.storeDir); ok {
		return errFound
	}
	return nil
}

func (r *rootResolver) Target(link string) (string, error) {
	target, err := os.Readlink(link)
	if err == nil && filepath.IsAbs(target) {
		err = r.in(target, r.storeDir)
	}
	return target, err
}

func (r *rootResolver) Above(dir string) (string, error) { return filepath.Dir(dir), nil }

func (r *rootResolver) Absolute(link, target string) (string, string, error) {
	if _, ok := below(link, r.root); ok {
		return r.root, target, nil
	}
	return "/", target, nil
}

// inStore returns the object that a path lies in or is, if that is below dir,
// under its name in storeDir.
func inStore(path, dir, storeDir string) (p Path, ok bool, err error) {
	rest, ok := below(filepath.Clean(path), dir)
	if !ok {
		return "", false, nil
	}
	base, _, _ := strings.Cut(rest, "/")
	p, err = JoinPath(storeDir, base)
	return p, true, err
}

// below returns the part of path that follows dir and a slash.
func below(path, dir string) (string, bool) {
	if dir != "/" {
		dir += "/"
	}
	rest, ok := strings.CutPrefix(path, dir)
	return rest, ok && rest != ""
}
