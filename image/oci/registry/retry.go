package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/nix2img/nix2img/internal/retry"
)

const (
	maxFailures = 5               // in a row
	maxPause    = 2 * time.Minute // that a registry may ask for
)

// mayPass reports whether an error may not come again.
func mayPass(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return retry.Status(e.StatusCode)
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

// pauseAfter returns how long to wait after so many failures.
func pauseAfter(first time.Duration, failures int) time.Duration { return first << (failures - 1) }

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
			if !retry.Status(resp.StatusCode) {
				return resp, nil
			}
			reason = resp.Status
			if pause = max(pause, retry.After(resp.Header, time.Time{})); pause > maxPause {
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
		if err := retry.Sleep(ctx, pause); err != nil {
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
