// Package reflink lets files share blocks, on file systems that can do that: Btrfs, XFS, bcachefs and others.
package reflink

import (
	"errors"
	"io"
	"syscall"
)

// Align is what offsets and sizes must be a multiple of, in bytes:
// the size of a block on nearly all file systems.
const Align = 4096

// Clone makes the n bytes of dst at off those that src has at srcOff, without copying them.
// The file grows if need be. An error means that nothing has changed, and that they have to be copied.
//
// dst and src are an [os.File], or something that embeds one, or a part of one:
// src may be an [io.SectionReader], and dst may have a method
//
//	Outer() (w io.WriterAt, off int64)
//
// that returns the file it is a part of, and the offset at which it begins there.
// src may also have a method
//
//	With(func(io.ReaderAt) error) error
//
// that calls a function with such a file, which need not be open before and after.
func Clone(dst io.WriterAt, off int64, src io.ReaderAt, srcOff, n int64) error {
	if lent, ok := src.(interface {
		With(func(io.ReaderAt) error) error
	}); ok {
		return lent.With(func(src io.ReaderAt) error { return Clone(dst, off, src, srcOff, n) })
	}
	to, off, ok := target(dst, off)
	from, srcOff, ok2 := source(src, srcOff)
	if !ok || !ok2 || off%Align != 0 || srcOff%Align != 0 || n%Align != 0 {
		return errors.ErrUnsupported
	}
	return control(to, func(to uintptr) error {
		return control(from, func(from uintptr) error {
			return cloneRange(to, off, from, srcOff, n)
		})
	})
}

func target(w io.WriterAt, off int64) (syscall.Conn, int64, bool) {
	for {
		part, ok := w.(interface{ Outer() (io.WriterAt, int64) })
		if !ok {
			f, ok := w.(syscall.Conn)
			return f, off, ok
		}
		var base int64
		w, base = part.Outer()
		off += base
	}
}

func source(r io.ReaderAt, off int64) (syscall.Conn, int64, bool) {
	for {
		part, ok := r.(interface {
			Outer() (io.ReaderAt, int64, int64)
		})
		if !ok {
			f, ok := r.(syscall.Conn)
			return f, off, ok
		}
		var base int64
		r, base, _ = part.Outer()
		off += base
	}
}

// control calls f with the file's descriptor, which stays open meanwhile.
func control(c syscall.Conn, f func(fd uintptr) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(fd) }); err != nil {
		return err
	}
	return inner
}
