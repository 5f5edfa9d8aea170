package squashfs

import (
	"errors"
	"io"
	"io/fs"
	"sync/atomic"
)

var (
	_ io.ReaderAt    = (*openFile)(nil)
	_ io.Seeker      = (*openFile)(nil)
	_ io.WriterTo    = (*openFile)(nil)
	_ fs.ReadDirFile = (*openDir)(nil)
)

// handle is what all open files have.
type handle struct {
	fi     *fileInfo
	path   string // as it was opened
	closed atomic.Bool
}

func (h *handle) Stat() (fs.FileInfo, error) {
	if h.closed.Load() {
		return nil, h.fail("stat", fs.ErrClosed)
	}
	return h.fi, nil
}

func (h *handle) Close() error {
	if h.closed.Swap(true) {
		return h.fail("close", fs.ErrClosed)
	}
	return nil
}

func (h *handle) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.path, Err: err}
}

// An openDir is an open directory.
type openDir struct {
	handle
	fsys *FS
	dir  *directory
	next int // entry
}

func (d *openDir) Read([]byte) (int, error) { return 0, d.fail("read", errIsDir) }

func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed.Load() {
		return nil, d.fail("readdir", fs.ErrClosed)
	}
	from, to := d.next, len(d.dir.entries)
	if n > 0 {
		if from == to {
			return nil, io.EOF
		}
		to = min(to, from+n)
	}
	d.next = to
	return d.fsys.dirEntries(d.dir, from, to), nil
}

// An openSpecial is an open device, FIFO or socket.
type openSpecial struct{ handle }

func (s *openSpecial) Read([]byte) (int, error) { return 0, s.fail("read", errNotReg) }

// An openFile is an open regular file.
type openFile struct {
	handle
	contents *contents
	offset   int64
}

var errOffset = errors.New("negative offset")

func (f *openFile) Read(p []byte) (int, error) {
	n, err := f.read(p, f.offset)
	f.offset += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt may be called by many goroutines at once.
func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	return f.read(p, off)
}

func (f *openFile) read(p []byte, off int64) (n int, err error) {
	c := f.contents
	switch {
	case f.closed.Load():
		return 0, f.fail("read", fs.ErrClosed)
	case off < 0:
		return 0, f.fail("read", errOffset)
	}
	for n < len(p) {
		if off >= c.size {
			return n, io.EOF
		}
		i := off / int64(c.fsys.super.BlockSize)
		start, size := c.piece(i)
		from := int(off - start)
		part := p[n:min(len(p), n+size-from)]
		if len(part) == size {
			err = c.read(part, i)
		} else {
			var b []byte
			if b, err = c.view(i, size); b == nil {
				clear(part)
			} else {
				copy(part, b[from:])
			}
		}
		if err != nil {
			return n, f.fail("read", err)
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.contents.size
	default:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	switch {
	case f.closed.Load():
		return 0, f.fail("seek", fs.ErrClosed)
	case offset < 0:
		return 0, f.fail("seek", errOffset)
	}
	f.offset = offset
	return offset, nil
}

// WriteTo writes what follows the current offset.
func (f *openFile) WriteTo(w io.Writer) (written int64, err error) {
	c := f.contents
	if f.closed.Load() {
		return 0, f.fail("read", fs.ErrClosed)
	}
	buf := c.fsys.copyBuf.Get().(*[]byte)
	defer c.fsys.copyBuf.Put(buf)
	for f.offset < c.size {
		i := f.offset / int64(c.fsys.super.BlockSize)
		start, size := c.piece(i)
		var b []byte
		if i >= c.blocks.count {
			b, err = c.tail(size) // without a copy
		} else {
			b = (*buf)[:size]
			err = c.read(b, i)
		}
		if err != nil {
			return written, f.fail("read", err)
		}
		n, err := w.Write(b[f.offset-start:])
		f.offset += int64(n)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}
