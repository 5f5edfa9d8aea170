// Package vfs has what the file systems of this module have in common:
// the way from a name to a file through symbolic links, see [Walk], and a file system in memory, see [Tree].
//
// Names are those of [io/fs], but for one thing: they are bytes and need not be UTF-8, see [ValidName].
package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
)

// MaxLinks is how many symbolic links one name may lead through, as in Linux.
const MaxLinks = 40

// ErrOutside is the error for symbolic links that lead to where a file system has nothing.
var ErrOutside = errors.New("symbolic link leads out of the file system")

// ValidName reports whether name is valid, as [fs.ValidPath] does for names in UTF-8:
// elements with single slashes between them, none of which is ".", ".." or has a NUL; or "." alone.
func ValidName(name string) bool {
	if name == "." {
		return true
	}
	for elem := range strings.SplitSeq(name, "/") {
		if elem == "" || elem == "." || elem == ".." || strings.IndexByte(elem, 0) >= 0 {
			return false
		}
	}
	return true
}

// InvalidName is an [fs.ErrInvalid] for a name that is not valid.
// If that is because it begins with a slash, as in an image, the error says how it is to be written.
func InvalidName(name string) error {
	valid := cmp.Or(strings.TrimLeft(name, "/"), ".")
	if name == "" || name[0] != '/' || !ValidName(valid) {
		return fs.ErrInvalid
	}
	return fmt.Errorf("%w: in an fs.FS, this is %s", fs.ErrInvalid, valid)
}

// A Namespace is what [Walk] needs to know of a file system. N stands for a file.
type Namespace[N any] interface {
	// Entry returns an entry of a directory, and its mode, of which only the type counts.
	// The error is [syscall.ENOTDIR] if dir is no directory, and [fs.ErrNotExist] if it has no such entry.
	Entry(dir N, name string) (N, fs.FileMode, error)
	// Target returns the target of a symbolic link.
	Target(link N) (string, error)
	// Above returns the directory above the one in which the walk began.
	// The root of a file system is its own.
	Above(dir N) (N, error)
	// Absolute returns from where a symbolic link's target with a slash in front is meant,
	// and what remains of the target.
	Absolute(link N, target string) (from N, rest string, err error)
}

// Walk returns the file that a name leads to from a directory.
// It follows symbolic links as Linux does, one that is the last element only if follow is set.
//
// Errors are those of the namespace, [syscall.ELOOP] and [syscall.ENOTDIR];
// the operation and the name are for the caller to add.
func Walk[N any](ns Namespace[N], from N, name string, follow bool) (N, error) {
	var none N
	var few [16]N
	way := append(few[:0], from) // the directories from where the walk began, and the file
	rest, more := name, true
	for links := 0; more; {
		var elem string
		elem, rest, more = strings.Cut(rest, "/")
		switch elem {
		case "", ".":
			continue
		case "..":
			if len(way) > 1 {
				way = way[:len(way)-1]
				continue
			}
			up, err := ns.Above(way[0])
			if err != nil {
				return none, err
			}
			way[0] = up
			continue
		}
		next, mode, err := ns.Entry(way[len(way)-1], elem)
		switch isLink := mode.Type() == fs.ModeSymlink; {
		case err != nil:
			return none, err
		case !isLink && more && !mode.IsDir():
			return none, syscall.ENOTDIR
		case !isLink || !more && !follow:
			way = append(way, next)
			continue
		}
		if links++; links > MaxLinks {
			return none, syscall.ELOOP
		}
		target, err := ns.Target(next)
		if err == nil && target == "" {
			err = fs.ErrNotExist
		}
		if err == nil && target[0] == '/' {
			way = way[:1]
			way[0], target, err = ns.Absolute(next, target)
		}
		if err != nil {
			return none, err
		}
		if more {
			target += "/" + rest
		}
		rest, more = target, true
	}
	return way[len(way)-1], nil
}
