package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
)

var (
	errStalled = errors.New("the server sends nothing, or next to nothing")
	errTooLong = errors.New("it is longer than it should be")
)

// statusError is an answer other than the file.
type statusError struct {
	code  int
	text  string
	after time.Duration // when to ask again, if the server says so
}

func (e *statusError) Error() string { return "the server says " + e.text }

// Unauthorized reports whether an error is that of a server that wants somebody to log in.
func Unauthorized(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && (e.code == http.StatusUnauthorized || e.code == http.StatusProxyAuthRequired)
}

// passing reports whether it makes sense to try again.
func passing(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		switch e.code {
		case 408, 425, 429, 500, 502, 503, 504:
			return true
		}
		return false
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return false
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		// What the client itself refuses, such as a redirect too many, or a certificate.
		_, network := errors.AsType[net.Error](e.Err)
		return network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled)
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errStalled) || is[net.Error](err)
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// A transfer is a file that is being read from a cache.
// One that breaks off goes on where it has stopped.
type transfer struct {
	c    *Cache
	ctx  context.Context
	name string

	body   io.ReadCloser // nil: there is no connection
	stop   context.CancelCauseFunc
	off    int64
	size   int64  // bytes; -1: not known
	tag    string // by which the server knows this version of the file
	failed int    // attempts in a row
	since  int64  // off when failed was last 0

	waited time.Duration // for bytes
	got    int64         // bytes meanwhile
}

// get begins to read a file. The errors are those of fs.ErrNotExist, or say what went wrong.
func (c *Cache) get(ctx context.Context, name string) (*transfer, error) {
	t := &transfer{c: c, ctx: ctx, name: name, size: -1, stop: func(error) {}}
	for {
		err := t.connect()
		if err == nil {
			return t, nil
		}
		if err := t.again(err); err != nil {
			return nil, err
		}
	}
}

// again waits for the next attempt, or returns the error if there is to be none.
// What is wrong with a directory stays wrong.
func (t *transfer) again(err error) error {
	t.close()
	if t.ctx.Err() != nil {
		return t.ctx.Err()
	}
	if t.c.dir != "" || !passing(err) {
		return err
	}
	if t.off-t.since > 1<<20 { // it is getting somewhere
		t.failed, t.since = 0, t.off
	}
	if t.failed++; t.failed >= attempts {
		return fmt.Errorf("%w (tried %d times)", err, t.failed)
	}
	var asked time.Duration
	if e, ok := errors.AsType[*statusError](err); ok {
		asked = e.after
	}
	return t.c.rt.pause(t.ctx, t.failed, asked)
}

func (t *transfer) connect() error {
	c := t.c
	if c.dir != "" {
		f, err := os.Open(filepath.Join(c.dir, filepath.FromSlash(t.name)))
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is not a regular file", f.Name())
		}
		if err != nil {
			f.Close()
			return err
		}
		t.body, t.size = f, info.Size()
		return nil
	}
	u, err := url.Parse(t.name)
	if err != nil {
		return err
	}
	if u.Scheme == "" {
		query := u.RawQuery
		u = c.base.JoinPath(u.Path)
		u.RawQuery = query
	}
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // ranges are those of the file itself
	req.Header.Set("User-Agent", "nix2img")
	if t.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.off))
		if t.tag != "" {
			req.Header.Set("If-Range", t.tag)
		}
	}
	if c.rt.Authorize != nil {
		c.rt.Authorize(req)
	}
	ctx, stop := context.WithCancelCause(t.ctx)
	t.stop = stop
	done := t.watch()
	res, err := c.rt.Client.Do(req.WithContext(ctx))
	done()
	if err != nil {
		err = t.cause(ctx, err)
		stop(nil)
		return err
	}
	res.Body = body{res.Body, ctx, t}
	if err := t.accept(res); err != nil {
		res.Body.Close()
		stop(nil)
		return err
	}
	t.body = res.Body
	return nil
}

// accept judges an answer.
func (t *transfer) accept(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK:
		t.size = res.ContentLength
		t.tag = res.Header.Get("ETag")
		if strings.HasPrefix(t.tag, "W/") {
			t.tag = ""
		}
		if t.tag == "" {
			t.tag = res.Header.Get("Last-Modified")
		}
		// The server begins anew.
		if skip := t.off; skip > 0 {
			if n, err := io.CopyN(io.Discard, res.Body, skip); err != nil {
				return fmt.Errorf("byte %d of %d that had been there: %w", n, skip, io.ErrUnexpectedEOF)
			}
		}
	case res.StatusCode == http.StatusPartialContent && t.off > 0:
		if !strings.HasPrefix(res.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", t.off)) {
			return fmt.Errorf("the server sends another part than the one from byte %d on", t.off)
		}
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone,
		res.StatusCode == http.StatusForbidden: // which a bucket says that may not be listed
		return fmt.Errorf("%w (the server says %s)", fs.ErrNotExist, res.Status)
	default:
		return &statusError{res.StatusCode, res.Status, t.after(res.Header.Get("Retry-After"))}
	}
	if e := res.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fmt.Errorf("the server sends it with encoding %q, which was not asked for", shorten(e))
	}
	return nil
}

// after reads the header Retry-After.
func (t *transfer) after(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, 3600)) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, at.Sub(t.c.rt.Now()))
	}
	return 0
}

// watch cancels the request if nothing happens until the function it returns is called.
func (t *transfer) watch() (done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), t.c.rt.stall())
	stop := t.stop
	off := context.AfterFunc(ctx, func() { stop(errStalled) })
	return func() { off(); cancel() }
}

// cause returns why a request has failed, if it is this package that has canceled it.
func (t *transfer) cause(ctx context.Context, err error) error {
	if context.Cause(ctx) == errStalled {
		return errStalled
	}
	return err
}

// A body is that of an answer, with an eye on its speed.
type body struct {
	io.ReadCloser
	ctx context.Context
	t   *transfer
}

func (b body) Read(p []byte) (int, error) {
	t := b.t
	start := t.c.rt.Now()
	done := t.watch()
	n, err := b.ReadCloser.Read(p)
	done()
	t.waited += t.c.rt.Now().Sub(start)
	t.got += int64(n)
	if t.waited > t.c.rt.stall() {
		if float64(t.got) < slowest*t.waited.Seconds() && err == nil {
			t.stop(errStalled)
			err = errStalled
		}
		t.waited, t.got = 0, 0
	}
	if err != nil && err != io.EOF {
		err = t.cause(b.ctx, err)
	}
	return n, err
}

func (t *transfer) Read(p []byte) (int, error) {
	for {
		if t.body == nil {
			if err := t.connect(); err != nil {
				if err := t.again(err); err != nil {
					return 0, err
				}
				continue
			}
		}
		n, err := t.body.Read(p)
		t.off += int64(n)
		if err == nil || err == io.EOF && (t.size < 0 || t.off == t.size) {
			return n, err
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err = t.again(err); err == nil && n == 0 {
			continue
		}
		return n, err
	}
}

func (t *transfer) close() {
	if t.body != nil {
		t.stop(nil)
		t.body.Close()
		t.body = nil
	}
}

// small reads a file of metadata about an object, or returns nil if the cache has none.
func (c *Cache) small(ctx context.Context, name string, p closure.Path) ([]byte, error) {
	if text, ok := c.kept(name); ok {
		return text, nil
	}
	text, err := c.read(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, c.unreadable(name, p, err)
	}
	c.keep(name, text)
	return text, nil
}

func (c *Cache) read(ctx context.Context, name string) ([]byte, error) {
	t, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	text, err := io.ReadAll(io.LimitReader(t, maxInfo+1))
	if err == nil && len(text) > maxInfo {
		err = errTooLong
	}
	return text, err
}
