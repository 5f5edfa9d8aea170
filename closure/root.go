package closure

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ResolveRoot returns the store path that an argument of a user means:
// a store path, a path inside one, or a symbolic link that leads to either,
// such as the link named result that nix build leaves behind.
//
// storeDir is the store directory, usually "/nix/store".
// root is the directory below which the store lies on this machine, "" or "/" for the store itself
// (a relative one is meant from the working directory, as arg is):
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
	done := "/" // what has been resolved, without links
	for links := 0; ; {
		var elem string
		elem, todo, _ = strings.Cut(strings.TrimLeft(todo, "/"), "/")
		if elem == "" {
			return "", fmt.Errorf("not in the store %s", stores[1])
		}
		next := filepath.Join(done, elem)
		for _, dir := range stores {
			if p, ok, err := inStore(next, dir, storeDir); ok {
				return p, err
			}
		}
		info, err := os.Lstat(next)
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", errManyLinks
		}
		target, err := os.Readlink(next)
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			if p, ok, err := inStore(target, storeDir, storeDir); ok {
				return p, err
			}
			done = "/"
			if _, ok := below(next, root); ok {
				done = root
			}
		}
		todo = target + "/" + todo
	}
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
