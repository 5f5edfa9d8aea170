package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// An Inspector finds something out about file trees: one thing, such as what GPU code there is.
//
// It has no state: its methods are called for many trees, and for many nodes of a tree, at the same time.
// What it finds must follow from the tree alone, and not from where the tree lies or when it is looked at.
// Trees may be made by anybody, so no file is too strange: what cannot be read because of how it is made is a finding.
// The errors are those of reading, and of the context. They fail a build.
type Inspector interface {
	// Name is that of the inspector in [Facts], where no other has it: lower-case letters, digits and hyphens.
	Name() string
	// Version is the version of what the inspector finds, and of how it is written: 1 or more.
	// With another one, all trees are looked at again.
	Version() int
	// Wants says what to show the inspector of a node. It is asked about every node of a tree.
	Wants(n *Node) Want
	// Look looks at a node of which the inspector wants something. It returns nil if it has found nothing.
	// Neither f nor f.Head may be used after Look has returned, nor by other goroutines.
	Look(ctx context.Context, f *File) (finding any, err error)
	// Facts makes the facts about a tree, which can be written as JSON, of all that has been found in it.
	// The findings come in the order of a NAR, however the tree has been read.
	Facts(findings []any) (any, error)
}

// Want says what an inspector wants to see of a node.
type Want int

const (
	Nothing  Want = iota // of the node: it is not looked at
	Itself               // name, kind, size, first bytes, target: what a Node has
	Stream               // the contents too, from the first byte to the last
	Anywhere             // the contents too, at any place
)

// HeadSize is how many of a file's first bytes an inspector is shown in any case.
const HeadSize = 256

// A Node is a directory, a regular file or a symbolic link, with all that a NAR knows of it but the contents.
type Node struct {
	// Path is relative to the root of the tree, which is ".". It is made of bytes, and need not be text.
	Path string
	// Mode is the type. A regular file that is executable has all of the bits 0111, others have none.
	Mode fs.FileMode
	// Size is the number of bytes of a regular file.
	Size int64
	// Head has the first HeadSize bytes of a regular file, or all if there are fewer.
	Head []byte
	// Target is where a symbolic link points to.
	Target string
}

// IsFile reports whether the node is a regular file.
func (n *Node) IsFile() bool { return n.Mode.IsRegular() }

func newNode(path string, mode fs.FileMode) Node {
	n := Node{Path: path, Mode: mode.Type()}
	if mode.IsRegular() && mode&0o111 != 0 {
		n.Mode |= 0o111
	}
	return n
}

// setSize notes the size that a file system says a regular file has.
func (n *Node) setSize(size int64) error {
	if size < 0 {
		return fmt.Errorf("%s: it cannot have %d bytes", n.Path, size)
	}
	n.Size = size
	return nil
}

// A File is a node that an inspector looks at.
//
// Its contents can be read in two ways. Read and Skip go from the first byte to the last,
// and cost no more than the copying while somebody else reads the file anyway.
// ReadAt may read it again, so it is for a little here and there.
// What has been read by ReadAt is still to come by Read.
type File struct {
	Node
	want Want
	all  io.ReaderAt // the contents, unless they come by pass
	pass *pass
	off  int64 // of what Read gives next
}

var errWants = errors.New("the inspector reads what it did not want")

// ReadAt reads from any place of a file that is wanted [Anywhere].
func (f *File) ReadAt(p []byte, off int64) (int, error) {
	if f.want != Anywhere {
		return 0, errWants
	}
	if f.Size == 0 {
		return 0, io.EOF
	}
	return f.all.ReadAt(p, off)
}

// Read reads what comes next of a file that is wanted as a [Stream], or [Anywhere].
func (f *File) Read(p []byte) (n int, err error) {
	switch {
	case f.off >= f.Size:
		return 0, io.EOF
	case f.want <= Itself:
		return 0, errWants
	case f.pass != nil:
		n, err = f.pass.read(p)
	default:
		n, err = f.all.ReadAt(p[:min(int64(len(p)), f.Size-f.off)], f.off)
		if n > 0 && err == io.EOF {
			err = nil
		}
	}
	f.off += int64(n)
	return n, err
}

// Skip steps over the next n bytes, or to the end of the file if it is nearer. If nobody needs them they are not read.
func (f *File) Skip(n int64) error {
	n = min(n, f.Size-f.off)
	if n <= 0 {
		return nil
	}
	f.off += n
	if f.pass != nil {
		return f.pass.skip(n)
	}
	return nil
}
