// Package regular opens regular files, and nothing else.
package regular

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrKind is why something cannot be read as a file: it is a directory, a pipe, a socket or a device.
var ErrKind = errors.New("not a regular file")

// Open opens a file for reading. What is not a regular file is an error that wraps [ErrKind],
// and nobody is waited for: a pipe would keep its reader until somebody writes to it.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) { // what a socket says
		return nil, &fs.PathError{Op: "open", Path: name, Err: ErrKind}
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: ErrKind}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
