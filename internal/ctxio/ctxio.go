// Package ctxio has what package io lacks: readers and writers that stop when a context is done,
// and a read that tells an end from a reader's own errors.
package ctxio

import (
	"context"
	"io"
)

// Reader returns a reader of r that fails when ctx is done.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

// Writer returns a writer to w that fails when ctx is done.
func Writer(ctx context.Context, w io.Writer) io.Writer { return writer{ctx, w} }

// Fill reads until p is full or there is an error, which is the reader's own, [io.EOF] among them.
// [io.ReadFull] makes [io.ErrUnexpectedEOF] of an end that comes too early,
// which is what a reader says that has found its own source truncated.
func Fill(p []byte, r io.Reader) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

type writer struct {
	ctx context.Context
	w   io.Writer
}

func (w writer) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.w.Write(p)
}
