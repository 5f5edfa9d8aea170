package binarycache

import (
	"bufio"
	"bytes"
	"hash"
	"io"
)

// An unpacker reads the NAR in a file, and compares all that can be compared but the NAR hash:
// that is for who reads the NAR. After an error it has nothing more.
type unpacker struct {
	*source
	buffers *buffers
	raw     *errorReader
	in      *bufio.Reader // of raw
	out     io.Reader     // nil: it has not begun
	release func()        // gives up what out holds
	content hash.Hash     // of the contents that the address is made of, or nil
	size    int64         // bytes so far
	err     error
}

// unpack returns an unpacker of what a download has, to be read from file.
func (s *source) unpack(b *buffers, file io.Reader) *unpacker {
	raw := &errorReader{r: file}
	return &unpacker{source: s, buffers: b, raw: raw, in: bufio.NewReaderSize(raw, 16<<10), content: s.contentHash()}
}

func (u *unpacker) Read(p []byte) (n int, err error) {
	if u.err != nil {
		return 0, u.err
	}
	// Libraries that unpack are not made for whoever wants to break them.
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, u.wrong("unpack %s: %v", u.Compression, r)
		}
		if err != nil && err != io.EOF && u.raw.err != nil {
			err = u.raw.err
		}
		u.err = err
	}()
	if u.out == nil {
		if u.out, u.release, err = u.buffers.decoder(u.Compression, u.in); err != nil {
			return 0, u.wrong("unpack: %w", err)
		}
	}
	n, err = u.out.Read(p)
	if u.size += int64(n); u.size > u.NARSize {
		return 0, u.wrong("the NAR has more than %d bytes", u.NARSize)
	}
	if u.content != nil {
		u.content.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		err = u.finish()
	case err != nil:
		err = u.wrong("unpack %s: %w", u.Compression, err)
	}
	return n, err
}

// finish compares what is known when the NAR has been read. It returns io.EOF if all is well.
func (u *unpacker) finish() error {
	u.release()
	if u.size < u.NARSize {
		return u.wrong("the NAR has %d bytes, want %d", u.size, u.NARSize)
	}
	switch n, err := io.Copy(io.Discard, u.in); {
	case err != nil:
		return err
	case n > 0:
		return u.wrong("%d bytes follow the compressed NAR", n)
	}
	if u.content != nil {
		ca, _ := u.contentAddress()
		if got := u.content.Sum(nil); !bytes.Equal(got, ca.sum) {
			return u.wrong("the %s of the contents is %x, want %x", ca.algo, got, ca.sum)
		}
	}
	return io.EOF
}

// An errorReader remembers the error that ended it, if it was not io.EOF:
// a decoder does not always tell.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

// fill reads until p is full or there is nothing more.
func fill(p []byte, r io.Reader) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}
