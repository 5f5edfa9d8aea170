package binarycache

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
)

// A source is where a store object comes from.
type source struct {
	*NARInfo
	cache *Cache
}

// address is the URL of the NAR, for people.
func (s *source) address() string { return s.cache.at(s.URL) }

func (s *source) wrong(format string, args ...any) error {
	return &VerifyError{s.address(), s.Path, fmt.Errorf(format, args...)}
}

// unpack gives the NAR to put, whose error ends it,
// and compares all that can be compared but the NAR hash: that is for who reads the NAR.
func (s *source) unpack(ctx context.Context, put func(*[chunkSize]byte, int) error) (err error) {
	t, err := s.cache.get(ctx, s.URL)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.cache.forget(infoName(s.Path))
		return &closure.MissingError{Path: s.Path, Err: fmt.Errorf("%s: %w", s.address(), err)}
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return s.cache.unreadable(s.URL, s.Path, err)
	}
	defer t.close()
	if s.FileSize > 0 && t.size >= 0 && t.size != s.FileSize {
		return s.wrong("the file has %d bytes, want %d", t.size, s.FileSize)
	}
	raw := &rawFile{r: t, limit: s.FileSize, hash: sha256.New()}
	// Libraries that unpack are not made for whoever wants to break them.
	defer func() {
		if r := recover(); r != nil {
			err = s.wrong("unpack %s: %v", s.Compression, r)
		}
	}()
	err = s.decode(raw, put)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case raw.err == errTooLong:
		return s.wrong("the file has more than %d bytes", s.FileSize)
	case raw.err != nil:
		return s.cache.unreadable(s.URL, s.Path, raw.err)
	}
	return err
}

func (s *source) decode(raw *rawFile, put func(*[chunkSize]byte, int) error) error {
	r := bufio.NewReaderSize(raw, 64<<10)
	d, release, err := newDecoder(s.Compression, r)
	if err != nil {
		return s.wrong("unpack: %w", err)
	}
	content := s.contentHash()
	var size int64
	for end := false; !end; {
		buf := chunks.Get().(*[chunkSize]byte)
		n, err := fill(buf[:], d)
		end = err == io.EOF
		if err != nil && !end {
			return s.wrong("unpack %s: %w", s.Compression, err)
		}
		if size += int64(n); size > s.NARSize {
			return s.wrong("the NAR has more than %d bytes", s.NARSize)
		}
		if content != nil {
			content.Write(buf[:n])
		}
		if err := put(buf, n); err != nil {
			return err
		}
	}
	release()
	if size < s.NARSize {
		return s.wrong("the NAR has %d bytes, want %d", size, s.NARSize)
	}
	if n, err := io.Copy(io.Discard, r); n > 0 && err == nil {
		return s.wrong("%d bytes follow the compressed NAR", n)
	}
	if s.FileSize > 0 && raw.size != s.FileSize {
		return s.wrong("the file has %d bytes, want %d", raw.size, s.FileSize)
	}
	if got := closure.Hash(raw.hash.Sum(nil)); !s.FileHash.IsZero() && got != s.FileHash {
		return s.wrong("the file's hash is %s, want %s", got, s.FileHash)
	}
	if content != nil {
		ca, _ := s.contentAddress()
		if got := content.Sum(nil); !bytes.Equal(got, ca.sum) {
			return s.wrong("the %s of the contents is %x, want %x", ca.algo, got, ca.sum)
		}
	}
	return nil
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

// A rawFile is a file that is being unpacked.
type rawFile struct {
	r     io.Reader
	limit int64 // bytes; 0: none
	size  int64 // bytes so far
	hash  hash.Hash
	err   error // the first that is not io.EOF
}

func (f *rawFile) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.r.Read(p)
	f.size += int64(n)
	f.hash.Write(p[:n])
	if f.limit > 0 && f.size > f.limit {
		err = errTooLong
	}
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}
