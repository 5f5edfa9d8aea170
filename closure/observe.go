package closure

import (
	"io"
	"io/fs"
)

// An Observer is shown the files of an object while somebody else reads them, in the order of a NAR:
// each directory before its entries, entries sorted by the bytes of their names.
type Observer interface {
	// Node announces a node by its name relative to the object's root, which is ".".
	// target is where a symbolic link points to.
	Node(name string, info fs.FileInfo, target string) error
	// Write is given the contents of the regular file that was announced last.
	io.Writer
	// Close is called after the last node.
	Close() error
}

// Observers are shown an object one after the other. The first error counts.
type Observers []Observer

// Node is that of an [Observer].
func (list Observers) Node(name string, info fs.FileInfo, target string) error {
	for _, o := range list {
		if err := o.Node(name, info, target); err != nil {
			return err
		}
	}
	return nil
}

// Write is that of an [Observer].
func (list Observers) Write(p []byte) (int, error) {
	for _, o := range list {
		if n, err := o.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

// Close is that of an [Observer].
func (list Observers) Close() error {
	for _, o := range list {
		if err := o.Close(); err != nil {
			return err
		}
	}
	return nil
}
