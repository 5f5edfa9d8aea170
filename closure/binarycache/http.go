package binarycache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nix2img/nix2img/internal/retry"
)

const maxRedirects = 10

// defaultClient makes the requests of all caches whose Runtime has no client.
var defaultClient = sync.OnceValue(func() *http.Client {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program has its own
		return http.DefaultClient
	}
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = queries
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	// A connection of HTTP/2 that is dead would be used again for each new attempt.
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 15 * time.Second}
	return &http.Client{Transport: transport}
})

// client returns a client that gives credentials to nobody but the one they are for.
func (rt *Runtime) client() *http.Client {
	c := rt.Client
	if c == nil {
		c = defaultClient()
	}
	own := *c
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if err := checkRedirect(req, via); err != nil || c.CheckRedirect == nil {
			return err
		}
		err := c.CheckRedirect(req, via)
		if err != nil && err != http.ErrUseLastResponse {
			err = &refusal{err.Error()}
		}
		return err
	}
	return &own
}

// A refusal is a request that is not made, now or later.
type refusal struct{ reason string }

func (e *refusal) Error() string { return e.reason }

func checkRedirect(req *http.Request, via []*http.Request) error {
	if err := checkScheme(via[len(via)-1].URL, req.URL); err != nil {
		return err
	}
	if len(via) >= maxRedirects {
		return &refusal{fmt.Sprintf("stopped after %d redirects", len(via))}
	}
	if slices.ContainsFunc(via, func(r *http.Request) bool { return !sameOrigin(r.URL, req.URL) }) {
		req.Header.Del("Authorization")
	}
	return nil
}

// checkScheme judges where an address leads that came from another one.
func checkScheme(from, to *url.URL) error {
	switch {
	case to.Scheme != "http" && to.Scheme != "https":
		return &refusal{fmt.Sprintf("sent to %s, which is neither http: nor https:", shorten(to.Redacted()))}
	case from.Scheme == "https" && to.Scheme == "http":
		return &refusal{fmt.Sprintf("sent from https: to %s, which anybody on the way could read and change", shorten(to.Redacted()))}
	}
	return nil
}

// sameOrigin reports whether two addresses have the scheme, the host and the port in common.
func sameOrigin(a, b *url.URL) bool { return origin(a) == origin(b) }

func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = u.Scheme
	}
	switch port {
	case "80":
		port = "http"
	case "443":
		port = "https"
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// resolve returns the address of a file of a cache on a web server.
func (c *Cache) resolve(name string) (*url.URL, error) {
	u, err := url.Parse(name)
	if err != nil {
		return nil, err
	}
	base := *c.base
	if !strings.HasSuffix(base.Path, "/") {
		base = *base.JoinPath("/")
	}
	return base.ResolveReference(u), nil
}

// request returns the request for a file, or for what is left of it.
func (t *transfer) request() (*http.Request, error) {
	u, err := t.c.resolve(t.name)
	if err != nil {
		return nil, err
	}
	if err := checkScheme(t.c.base, u); err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity") // ranges are those of the file itself
	req.Header.Set("User-Agent", "nix2img")
	if t.off > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.off))
		if t.tag != "" {
			req.Header.Set("If-Range", t.tag)
		}
	}
	if t.c.rt.Authorize != nil && sameOrigin(u, t.c.base) {
		t.c.rt.Authorize(req)
	}
	return req, nil
}

// statusError is an answer other than the file.
type statusError struct {
	code  int
	text  string
	after time.Duration // when to ask again, if the server says so
}

func (e *statusError) Error() string { return "the server says " + e.text }

// newStatusError returns the error of an answer to a question that was first sent to another address.
func (t *transfer) newStatusError(res *http.Response) error {
	e := &statusError{res.StatusCode, shorten(res.Status), retry.After(res.Header, t.c.rt.now())}
	if u, err := t.c.resolve(t.name); err == nil && res.Request != nil && !sameOrigin(res.Request.URL, u) {
		e.text += fmt.Sprintf(" (sent on to %s://%s, which gets no password)", res.Request.URL.Scheme, shorten(res.Request.URL.Host))
	}
	return e
}

// Unauthorized reports whether an error is that of a server that wants somebody to log in.
func Unauthorized(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && (e.code == http.StatusUnauthorized || e.code == http.StatusProxyAuthRequired)
}

// passing reports whether it makes sense to try again.
//
// There is no list of what can happen to a connection: those of HTTP/2 end with errors that have no type.
// So it is everything but what a server means and what the client refuses.
func passing(err error) bool {
	if e, ok := errors.AsType[*statusError](err); ok {
		return retry.Status(e.code)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return false
	}
	return !is[*refusal](err) && !is[*tls.CertificateVerificationError](err) && !errors.Is(err, http.ErrSchemeMismatch) &&
		!is[*answerError](err) && !is[*url.EscapeError](err)
}

// An answerError is an answer that would be the same the next time.
type answerError struct{ error }

func (e *answerError) Unwrap() error { return e.error }

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// watch cancels the request if nothing happens until the function it returns is called.
func (t *transfer) watch() (done func()) {
	ctx, cancel := context.WithTimeout(context.Background(), t.c.rt.stall())
	stop := t.stop
	off := context.AfterFunc(ctx, func() { stop(errStalled) })
	return func() { off(); cancel() }
}
