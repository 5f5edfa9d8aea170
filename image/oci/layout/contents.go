package layout

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Bounds of what a compressed layer becomes: gzip never makes a file smaller than a 1,032nd.
const (
	freeSize = 1 << 30 // bytes that are always allowed
	maxRatio = 1100    // bytes beyond that for each byte of the blob
)

// An archiveReader reads a layer as a tar archive.
type archiveReader struct {
	r     io.ReadCloser
	blob  *blob
	left  int64       // how much there may be
	plain io.ReaderAt // the archive itself, if the blob is not compressed
}

// openArchive opens a layer.
func (s *Stored) openArchive(ctx context.Context, name string) (*archiveReader, error) {
	b, err := s.blobs.open(name)
	if err != nil {
		return nil, err
	}
	r := &archiveReader{blob: b, left: freeSize + b.size*maxRatio}
	var begin [4]byte
	n, err := b.ReadAt(begin[:], 0)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, b.Close())
	}
	if !codec.IsCompressed(begin[:n]) {
		r.plain, r.left = b, b.size
	}
	in := bufio.NewReaderSize(ctxio.Reader(ctx, io.NewSectionReader(b, 0, b.size)), 1<<20)
	if r.r, err = codec.Decompress(in); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return r, nil
}

func (r *archiveReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.left -= int64(n); r.left < 0 {
		return 0, fmt.Errorf("it has %d bytes, which become more than %d: not unpacked", r.blob.size, freeSize+r.blob.size*maxRatio)
	}
	return n, err
}

// Close closes the blob, unless it is read on as it is.
func (r *archiveReader) Close() error {
	err := r.r.Close()
	if r.plain != nil {
		return err
	}
	return errors.Join(err, r.blob.Close())
}

// contents are those of a layer's files. They are read at offsets in the archive.
type contents struct {
	open func() (*archiveReader, error)
	at   io.ReaderAt // the archive; nil: it has to be unpacked up to what is read

	mu  sync.Mutex
	r   *archiveReader // or nil
	pos int64          // of r
}

// ReadAt reads from the archive.
func (c *contents) ReadAt(p []byte, off int64) (int, error) {
	if c.at != nil {
		return c.at.ReadAt(p, off)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.seek(off); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(c.r, p)
	c.pos += int64(n)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// seek has r at an offset.
func (c *contents) seek(off int64) (err error) {
	if c.r != nil && off < c.pos {
		err = c.r.Close()
		c.r = nil
	}
	if c.r == nil && err == nil {
		c.pos = 0
		c.r, err = c.open()
	}
	if err != nil {
		return err
	}
	n, err := io.CopyN(io.Discard, c.r, off-c.pos)
	c.pos += n
	return err
}

func (c *contents) close() error {
	if closer, ok := c.at.(io.Closer); ok {
		return closer.Close()
	}
	if c.r != nil {
		return c.r.Close()
	}
	return nil
}

// maxSparse is how large a sparse file may be that is read: its holes take no room, but time.
const maxSparse = 1 << 38

// A sparseFile is where a file with holes is in an archive. Only the reader of archives knows its holes.
type sparseFile struct {
	in   *contents
	off  int64 // of a header
	skip int   // how many files have theirs before the file's
	size int64
}

func (f *sparseFile) open() (io.ReadCloser, error) {
	if f.size > maxSparse {
		return nil, fmt.Errorf("a sparse file of %d bytes: more than %d are not read", f.size, int64(maxSparse))
	}
	t := tar.NewReader(io.NewSectionReader(f.in, f.off, 1<<62-f.off))
	for range f.skip + 1 {
		if _, err := t.Next(); err != nil {
			return nil, err
		}
	}
	return io.NopCloser(t), nil
}
