package binarycache

import (
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

// A download reads the file that a cache has of a NAR, and compares it with FileSize and FileHash,
// if the narinfo says them. Its errors say what is wrong with which file.
type download struct {
	*source
	ctx  context.Context
	t    *transfer // nil: it has not begun
	size int64     // bytes so far
	hash hash.Hash
}

func (s *source) download(ctx context.Context) *download {
	return &download{source: s, ctx: ctx, hash: sha256.New()}
}

func (d *download) Read(p []byte) (int, error) {
	if d.t == nil {
		if err := d.begin(); err != nil {
			return 0, err
		}
	}
	n, err := d.t.Read(p)
	d.size += int64(n)
	d.hash.Write(p[:n])
	switch {
	case d.FileSize > 0 && d.size > d.FileSize:
		return n, d.wrong("the file has more than %d bytes", d.FileSize)
	case err == nil:
		return n, nil
	case d.ctx.Err() != nil:
		return n, d.ctx.Err()
	case err != io.EOF:
		return n, d.cache.unreadable(d.URL, d.Path, err)
	case d.FileSize > 0 && d.size != d.FileSize:
		return n, d.wrong("the file has %d bytes, want %d", d.size, d.FileSize)
	}
	if got := closure.Hash(d.hash.Sum(nil)); !d.FileHash.IsZero() && got != d.FileHash {
		return n, d.wrong("the file's hash is %s, want %s", got, d.FileHash)
	}
	return n, io.EOF
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
	d.t = t
	if d.FileSize > 0 && t.size >= 0 && t.size != d.FileSize {
		return d.wrong("the file has %d bytes, want %d", t.size, d.FileSize)
	}
	return nil
}

func (d *download) Close() error {
	if d.t != nil {
		d.t.close()
	}
	return nil
}
