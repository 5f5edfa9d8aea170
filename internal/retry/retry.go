// Package retry says which answers of web servers are worth another attempt, and when.
package retry

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// Status reports whether a status may be another one the next time. Proxies and CDNs have many of their own above 500.
func Status(code int) bool {
	switch code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, 499: // nginx: client closed request
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusNetworkAuthenticationRequired:
		return false
	}
	return code >= 500 && code < 600
}

// After returns how long an answer asks to wait, or 0: the header Retry-After has a number of seconds or a date (RFC 9110, section 10.2.3).
// A date counts from that of the answer, or else from now, if that is not zero.
func After(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 20); err == nil {
		return time.Duration(n) * time.Second
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	then, err := http.ParseTime(text)
	if err != nil || now.IsZero() {
		return 0
	}
	return max(0, then.Sub(now))
}

// Sleep waits, unless ctx ends before. The error is that of ctx.
func Sleep(ctx context.Context, d time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-wait.Done()
	return ctx.Err()
}
