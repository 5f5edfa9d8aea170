package binarycache

import (
	"bufio"
	"bytes"
	"fmt"
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
			n, err = 0, u.damaged("unpack %s: %v", u.Compression, r)
		}
		if err != nil && err != io.EOF && u.raw.err != nil {
			err = u.raw.err
		}
		u.err = err
	}()
	if u.out == nil {
		if err := u.begin(); err != nil {
			return 0, err
		}
	}
	n, err = u.out.Read(p)
	if u.size += int64(n); u.size > u.NARSize {
		return 0, u.damaged("the NAR has more than %d bytes", u.NARSize)
	}
	if u.content != nil {
		u.content.Write(p[:n])
	}
	switch {
	case err == io.EOF:
		err = u.finish()
	case err != nil:
		err = u.damaged("unpack %s: %w", u.Compression, err)
	}
	return n, err
}

// begin finds out how the NAR is packed. One that is not packed is what it seems to be, whatever the narinfo says:
// web servers that know what gzip is unpack it on the way.
func (u *unpacker) begin() (err error) {
	compression := u.Compression
	if head, err := u.in.Peek(len(narHead)); err == nil && string(head) == narHead {
		compression = "none"
	}
	if u.out, u.release, err = u.buffers.decoder(compression, u.in); err != nil {
		return u.damaged("unpack: %w", err)
	}
	return nil
}

// narHead is how every NAR begins.
const narHead = "\x0d\x00\x00\x00\x00\x00\x00\x00nix-archive-1\x00\x00\x00"

// damaged is wrong, with what may explain it.
func (u *unpacker) damaged(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	if odd := u.odd.Load(); odd != nil {
		return u.wrong("%w; %s", err, *odd)
	}
	return u.wrong("%w", err)
}

// finish compares what is known when the NAR has been read. It returns io.EOF if all is well.
func (u *unpacker) finish() error {
	u.release()
	if u.size < u.NARSize {
		return u.damaged("the NAR has %d bytes, want %d", u.size, u.NARSize)
	}
	switch n, err := io.Copy(io.Discard, u.in); {
	case err != nil:
		return err
	case n > 0:
		return u.damaged("%d bytes follow the compressed NAR", n)
	}
	if u.content != nil {
		ca, _ := u.contentAddress()
		if got := u.content.Sum(nil); !bytes.Equal(got, ca.sum) {
			return u.damaged("the %s of the contents is %x, want %x", ca.algo, got, ca.sum)
		}
	}
	if odd := u.odd.Load(); odd != nil {
		u.cache.note("%s: %s: compressed again on the way? What is signed, the NAR in it, is compared as always", u.address(), *odd)
	}
	return io.EOF
}

// An errorReader remembers the error that ended it, if it was not io.EOF:
// a decoder does not always tell. It is not asked again after that.
type errorReader struct {
	r   io.Reader
	err error
}

func (e *errorReader) Read(p []byte) (int, error) {
	if e.err != nil {
		return 0, e.err
	}
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}
