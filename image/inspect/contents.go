package inspect

import (
	"errors"
	"io"
	"io/fs"
	"sync"
)

// contents reads a file at any offset. It is opened when it is first read.
type contents struct {
	fsys fs.FS
	name string
	file fs.File
	at   int64 // where the file is, if it has no ReadAt
}

func (c *contents) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

func (c *contents) ReadAt(p []byte, off int64) (int, error) {
	if c.file == nil || off < c.at {
		f, err := c.fsys.Open(c.name)
		if err != nil {
			return 0, err
		}
		c.Close()
		c.file, c.at = f, 0
	}
	if r, ok := c.file.(io.ReaderAt); ok {
		return r.ReadAt(p, off)
	}
	n, err := io.CopyN(io.Discard, c.file, off-c.at)
	c.at += n
	if err != nil {
		return 0, err
	}
	k, err := io.ReadFull(c.file, p)
	c.at += int64(k)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return k, err
}

// smallSize is how many bytes a file has, at most, that is in memory while it is looked at.
const smallSize = 256 << 10

// smallFiles has memory for them.
var smallFiles = sync.Pool{New: func() any { return new([smallSize]byte) }}
