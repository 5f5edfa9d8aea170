package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

const (
	maxFailures = 5               // in a row
	maxPause    = 2 * time.Minute // that a registry may ask for
)

// temporary reports whether a status may be another one the next time. Proxies and CDNs have many of their own above 500.
func temporary(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, 499: // nginx: client closed request
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return status >= 500 && status < 600
}

// mayPass reports whether an error may not come again.
func mayPass(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return temporary(e.StatusCode)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return e.IsTemporary
	}
	for _, permanent := range []func(error) bool{
		is[*senselessError], is[*tls.CertificateVerificationError], is[tls.RecordHeaderError], is[x509.UnknownAuthorityError], is[x509.HostnameError],
		func(err error) bool { return errors.Is(err, http.ErrSchemeMismatch) },
	} {
		if permanent(err) {
			return false
		}
	}
	return true
}

func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-wait.Done()
	return ctx.Err()
}

// pauseAfter returns how long to wait after so many failures.
func pauseAfter(first time.Duration, failures int) time.Duration { return first << (failures - 1) }

// retryAfter returns how long an answer asks to wait, or 0: a number of seconds or a date (RFC 9110, section 10.2.3).
// What a date means depends on the clock of the registry alone.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 20); err == nil {
		return time.Duration(n) * time.Second
	}
	then, err1 := http.ParseTime(text)
	now, err2 := http.ParseTime(h.Get("Date"))
	if err1 != nil || err2 != nil {
		return 0
	}
	return max(0, then.Sub(now))
}

// A retrier repeats requests that may do better the next time, as long as they have no body or one that can be had again.
// What is sent in a body that cannot, blobs, is repeated by who has it.
type retrier struct {
	inner http.RoundTripper
	pause time.Duration
	note  func(format string, args ...any)

	reached atomic.Bool // there has been an answer
}

func (t *retrier) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	repeatable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	for failures := 1; ; failures++ {
		resp, err := t.inner.RoundTrip(req)
		var reason string
		pause := pauseAfter(t.pause, failures)
		switch {
		case err == nil:
			t.reached.Store(true)
			if !temporary(resp.StatusCode) {
				return resp, nil
			}
			reason = resp.Status
			if pause = max(pause, retryAfter(resp.Header)); pause > maxPause {
				return resp, nil
			}
		case !mayPass(ctx, err), !t.reached.Load() && isDial(err):
			return nil, err
		default:
			reason = err.Error()
		}
		if !repeatable || failures == maxFailures {
			return resp, err
		}
		if err == nil {
			resp.Body.Close()
		}
		t.note("%s %s: %s; trying again in %s", req.Method, req.URL.Host, reason, pause.Round(time.Millisecond))
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, fmt.Errorf("repeat the request: %w", err)
			}
			req = req.Clone(ctx)
			req.Body = body
		}
	}
}

func isDial(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}
