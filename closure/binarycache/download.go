package binarycache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"sync/atomic"

	"github.com/nix2img/nix2img/closure"
)

// A source is where a store object comes from.
type source struct {
	*NARInfo
	cache *Cache

	// odd says in what the file is not the one that the narinfo speaks of, once it has been read.
	// Whether it will do shows when it has been unpacked: what is signed is the NAR.
	odd atomic.Pointer[string]
}

// address is the URL of the NAR, for people.
func (s *source) address() string { return s.cache.at(s.URL) }

func (s *source) wrong(format string, args ...any) error {
	return &VerifyError{s.address(), s.Path, fmt.Errorf(format, args...)}
}

// maxFileSize bounds the file that a NAR is packed in, in bytes: no codec makes it much larger.
func (s *source) maxFileSize() int64 { return s.NARSize + s.NARSize/16 + 64<<10 }

// A download reads the file that a cache has of a NAR, and compares it with FileSize and FileHash,
// if the narinfo says them. Its errors say what is wrong with which file.
type download struct {
	*source
	ctx  context.Context
	t    *transfer // nil: it has not begun
	in   io.Reader // of t, as it was before it was sent
	size int64     // bytes so far
	hash hash.Hash // nil: nobody knows what it should be
}

func (s *source) download(ctx context.Context) *download {
	d := &download{source: s, ctx: ctx}
	if !s.FileHash.IsZero() {
		d.hash = sha256.New()
	}
	return d
}

func (d *download) Read(p []byte) (int, error) {
	if d.t == nil {
		if err := d.begin(); err != nil {
			return 0, err
		}
	}
	n, err := d.in.Read(p)
	d.size += int64(n)
	if d.hash != nil {
		d.hash.Write(p[:n])
	}
	switch {
	case d.size > d.maxFileSize():
		return n, d.wrong("the file has more than %d bytes, and the NAR in it only %d", d.maxFileSize(), d.NARSize)
	case err == nil:
		return n, nil
	case d.ctx.Err() != nil:
		return n, d.ctx.Err()
	case err != io.EOF:
		return n, d.cache.unreadable(d.URL, d.Path, err)
	}
	d.compare()
	return n, io.EOF
}

// compare compares a file that has been read with what the narinfo says.
func (d *download) compare() {
	var odd string
	if d.FileSize > 0 && d.size != d.FileSize {
		odd = fmt.Sprintf("the file has %d bytes, and the narinfo says %d", d.size, d.FileSize)
	} else if d.hash != nil {
		if got := closure.Hash(d.hash.Sum(nil)); got != d.FileHash {
			odd = fmt.Sprintf("the file's hash is %s, and the narinfo says %s", got, d.FileHash)
		}
	}
	if odd != "" {
		d.odd.Store(&odd)
	}
}

func (d *download) begin() error {
	t, err := d.cache.get(d.ctx, d.URL)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.cache.forget(infoName(d.Path))
		return &closure.MissingError{Path: d.Path, Err: fmt.Errorf("%s: %w", d.address(), err)}
	case d.ctx.Err() != nil:
		return d.ctx.Err()
	case err != nil:
		return d.cache.unreadable(d.URL, d.Path, err)
	}
	d.t, d.in = t, decode(t.encoding, t)
	return nil
}

func (d *download) Close() error {
	if d.t != nil {
		d.t.close()
	}
	return nil
}
