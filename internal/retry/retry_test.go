package retry_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/nix2img/nix2img/internal/retry"
)

func TestStatus(t *testing.T) {
	for code, want := range map[int]bool{
		200: false, 400: false, 401: false, 403: false, 404: false, 408: true, 416: false, 425: true, 429: true, 499: true,
		500: true, 501: false, 502: true, 503: true, 504: true, 505: false, 511: false, 520: true, 522: true, 524: true, 530: true, 600: false, 0: false,
	} {
		if got := retry.Status(code); got != want {
			t.Errorf("%d: %v", code, got)
		}
	}
}

func TestAfter(t *testing.T) {
	const date = "Tue, 24 Nov 2026 02:00:00 GMT"
	now := time.Date(2026, 11, 24, 1, 59, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"soon":                          0,
		"99999999999999999999":          0,
		"Tue, 24 Nov 2026 02:00:30 GMT": 30 * time.Second,
		"Tue, 24 Nov 2026 01:00:30 GMT": 0,
	} {
		if got := retry.After(http.Header{"Retry-After": {text}, "Date": {date}}, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", text, got, want)
		}
	}
	without := http.Header{"Retry-After": {date}}
	if got := retry.After(without, time.Time{}); got != 0 {
		t.Errorf("without a date: %s", got)
	}
	if got := retry.After(without, now); got != time.Minute {
		t.Errorf("by the clock: %s", got)
	}
}
