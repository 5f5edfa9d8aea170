package main

import (
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/nix2img/nix2img/internal/par"
)

// transport tells of requests, if that is wanted.
type transport struct {
	ui   *ui
	next http.RoundTripper
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil && req.Body != http.NoBody {
		req = req.Clone(req.Context())
		req.Body = body{req.Body}
	}
	start := time.Now()
	resp, err := t.next.RoundTrip(req)
	took := time.Since(start).Seconds()
	if err != nil {
		t.ui.detailf("%s %s: %v, %.2f s", req.Method, shownURL(req.URL), err, took)
	} else {
		t.ui.detailf("%s %s: %d, %.2f s", req.Method, shownURL(req.URL), resp.StatusCode, took)
	}
	return resp, err
}

// shownURL returns an address without what may be secret: passwords, and what storage wants to see signed.
func shownURL(u *url.URL) string {
	shown := *u
	if shown.RawQuery != "" {
		shown.RawQuery = "..."
	}
	return shown.Redacted()
}

// body is what is sent. The HTTP client reads it on a goroutine of its own.
type body struct{ io.ReadCloser }

func (b body) Read(p []byte) (int, error) {
	defer par.Recover()
	return b.ReadCloser.Read(p)
}
