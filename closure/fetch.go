package closure

import (
	"context"
	"io"
	"io/fs"
)

// A Fetcher is what [Closure.Files] are if objects come over a network:
// then they are best read once, in image order, from beginning to end.
type Fetcher interface {
	fs.FS
	// Remote reports whether an object comes over a network. All others are read as files.
	Remote(Path) bool
	// Fetch begins to fetch objects, which are to be read in this order.
	// It leaves out those that are not remote.
	Fetch(ctx context.Context, objects []Object) Fetch
}

// A Fetch has objects on their way. It must be closed.
type Fetch interface {
	// Tree returns the tree of one of the objects.
	Tree(Path) Tree
	io.Closer
}

// A Tree gives the nodes of an object: each directory before its entries, entries sorted by the bytes of their names.
// Whether they have the object's NAR hash is for the reader to find out.
type Tree interface {
	// Next goes to the next node. After the last one, the error is [io.EOF].
	Next() (Node, error)
	// Read reads the contents of the node, a regular file.
	io.Reader
	// Close ends the whole Fetch, also calls that are going on.
	io.Closer
}

// Node is a file of an object.
type Node struct {
	Path   string // relative to the root of the object, which is "."
	Info   fs.FileInfo
	Target string // of a symbolic link
}
