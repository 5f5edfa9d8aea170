package nar

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// magic is the string that starts an archive.
const magic = "nix-archive-1"

// Limits of strings in an archive, in bytes.
const (
	maxName   = 255
	maxTarget = 4095
	maxPath   = 4095
)

// Header describes a node of an archive.
type Header struct {
	// Path is the slash-separated path of the node within the archive.
	// The root is ".", for which [Writer.WriteHeader] also takes the empty string.
	Path string
	// Mode is the node's type and, by the owner's execute bit, whether a file is executable.
	// A [Reader] gives 0444, 0555 to executables and directories, and 0777 to symbolic links.
	Mode fs.FileMode
	// Size is the length of a regular file's contents in bytes.
	Size int64
	// LinkTarget is what a symbolic link points to, not empty.
	LinkTarget string
	// Offset is where in the archive a regular file's contents start, in bytes.
	// A Writer ignores it.
	Offset int64
}

// FileInfo describes the node as a file system would.
func (h *Header) FileInfo() fs.FileInfo {
	return newNode(h, nil).Info(path.Base(h.Path))
}

// FormatError reports that an archive is not what it should be.
type FormatError struct {
	Offset int64  // in the archive, in bytes, near which the error lies
	Path   string // of the node in the archive, "" if that is not known
	Reason string
}

func (e *FormatError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("nar: read at byte %d: %s", e.Offset, e.Reason)
	}
	return fmt.Sprintf("nar: read %q at byte %d: %s", e.Path, e.Offset, e.Reason)
}

// checkName returns what is wrong with the name of an entry.
func checkName(name string) string {
	switch {
	case name == "":
		return "empty name"
	case len(name) > maxName:
		return "name is longer than 255 bytes"
	case name == "." || name == "..":
		return fmt.Sprintf("entry is named %q", name)
	case strings.ContainsAny(name, "/\x00"):
		return fmt.Sprintf("name %q contains a slash or zero byte", name)
	}
	return ""
}

// checkTarget returns what is wrong with the target of a symbolic link.
func checkTarget(target string) string {
	switch {
	case target == "":
		return "empty link target"
	case len(target) > maxTarget:
		return "link target is longer than 4095 bytes"
	case strings.IndexByte(target, 0) >= 0:
		return "link target contains a zero byte"
	}
	return ""
}

// join returns the path of an entry in a directory.
func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func padding(size int64) int { return int(-size & 7) }
