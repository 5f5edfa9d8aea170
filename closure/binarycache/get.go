package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/regular"
)

var (
	errStalled = errors.New("the server sends nothing, or next to nothing")
	errTooLong = errors.New("it is longer than it should be")
)

// A transfer is a file that is being read from a cache.
// One that breaks off is resumed.
type transfer struct {
	c    *Cache
	ctx  context.Context
	name string

	body     io.ReadCloser // nil: there is no connection
	stop     context.CancelCauseFunc
	off      int64
	size     int64    // bytes; -1: not known
	tag      string   // by which the server knows this version of the file
	encoding []string // in which the server sends it: body, off and size are those of what is sent
	failed   int      // attempts in a row
	since    int64    // off when failed was last 0

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
	if t.c.dir != "" {
		return t.open()
	}
	req, err := t.request()
	if err != nil {
		return &answerError{err}
	}
	ctx, stop := context.WithCancelCause(t.ctx)
	t.stop = stop
	done := t.watch()
	res, err := t.c.client.Do(req.WithContext(ctx))
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

// open opens a file of a directory.
func (t *transfer) open() error {
	f, err := regular.Open(filepath.Join(t.c.dir, filepath.FromSlash(t.name)))
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	t.body, t.size = f, info.Size()
	return nil
}

// accept judges an answer.
func (t *transfer) accept(res *http.Response) error {
	switch {
	case res.StatusCode == http.StatusOK:
		if err := t.setEncoding(res); err != nil {
			return err
		}
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
			return &answerError{fmt.Errorf("the server sends another part than the one from byte %d on", t.off)}
		}
	case res.StatusCode == http.StatusRequestedRangeNotSatisfiable && t.off > 0 &&
		res.Header.Get("Content-Range") == fmt.Sprintf("bytes */%d", t.off):
		// It was the end that got lost.
		t.size = t.off
		res.Body.Close()
		res.Body = http.NoBody
	case res.StatusCode == http.StatusNotFound, res.StatusCode == http.StatusGone,
		res.StatusCode == http.StatusForbidden: // which a bucket says that may not be listed
		return &answerError{fmt.Errorf("%w (the server says %s)", fs.ErrNotExist, shorten(res.Status))}
	default:
		return t.newStatusError(res)
	}
	return nil
}

// setEncoding notes how a file is sent. A part of one has the encoding of the whole, and need not say so.
func (t *transfer) setEncoding(res *http.Response) error {
	list, err := parseEncoding(res.Header.Values("Content-Encoding"))
	if err == nil && t.off > 0 && !slices.Equal(list, t.encoding) {
		err = errors.New("the server sends it with another encoding than before")
	}
	if err != nil {
		return &answerError{err}
	}
	t.encoding = list
	return nil
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
	start := t.c.rt.now()
	done := t.watch()
	n, err := b.ReadCloser.Read(p)
	done()
	t.waited += t.c.rt.now().Sub(start)
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
		if err != nil && t.off == t.size {
			err = io.EOF // however the connection has ended
		}
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
// It believes what has been kept unless that is not wanted, and says so.
func (c *Cache) small(ctx context.Context, name string, p closure.Path, fresh bool) (text []byte, kept bool, err error) {
	if !fresh {
		if text, ok := c.kept(name); ok {
			return text, true, nil
		}
	}
	text, err = c.read(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		text = nil
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case err != nil:
		return nil, false, c.unreadable(name, p, err)
	}
	c.keep(name, text)
	return text, false, nil
}

func (c *Cache) read(ctx context.Context, name string) ([]byte, error) {
	t, err := c.get(ctx, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	sent := &io.LimitedReader{R: t, N: maxInfo + 1}
	text, err := io.ReadAll(io.LimitReader(decode(t.encoding, sent), maxInfo+1))
	if len(text) > maxInfo || sent.N == 0 {
		return nil, errTooLong
	}
	return text, err
}
