package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nix2img/nix2img/internal/par"
	"github.com/nix2img/nix2img/internal/retry"
)

// Runtime is what decides only speed and reporting. Nil means the zero value.
type Runtime struct {
	// Client makes the requests. Nil means one like [http.DefaultClient].
	// It is told to follow redirects to http: and https: only, and none from https: to http:.
	Client *http.Client
	// Authorize, if not nil, adds to a request what the user has to log in to the cache.
	// Requests to another scheme, host or port, to which a redirect or the URL in a narinfo may lead, go without it.
	Authorize func(*http.Request)
	// Now is the clock. It decides when something that was kept is too old, and when a transfer is too slow.
	// Nil means that nothing is kept, and that a transfer is given up only if nothing comes at all.
	Now func() time.Time
	// Note, if not nil, is told of what is odd about a cache but no reason to fail, once for each cache.
	// Calls may overlap.
	Note func(string)
	// Workers is how many cores there are to unpack. Zero means GOMAXPROCS.
	Workers int
	// TempDir is where NARs are kept that have been unpacked ahead. Empty means that of the system.
	TempDir string
	// Spool is how many bytes may be there at a time. Zero means [DefaultSpool], less than zero none.
	Spool int64
	// Keep is a directory where narinfos are kept from one run to the next, for as long as Nix keeps them:
	// see KeepFound and KeepMissing; nix-cache-info for 7 days, unless KeepFound is less than zero. Empty means nowhere.
	// What is found there is checked like what has just come.
	Keep string
	// KeepFound is how long narinfos are believed, and KeepMissing that there is none.
	// Zero means 30 days and an hour, as in Nix, less than zero that they are asked for each time.
	// That there is none is believed only as long as another cache has the object.
	KeepFound, KeepMissing time.Duration
	// Stall is how long a server may say nothing, or little. Zero means 30 seconds.
	Stall time.Duration
	// Pause is the time until a request is made again, doubled each time. Zero means 250 ms.
	Pause time.Duration
}

// DefaultSpool is how much temporary files hold at most, in bytes.
const DefaultSpool = 1 << 30

const (
	attempts    = 5               // of a request that fails, as in Nix
	slowest     = 1 << 10         // bytes a second, below which a transfer has stalled
	longestWait = 2 * time.Minute // that a server may ask for
)

// orDefault returns a Runtime that is not nil.
func (rt *Runtime) orDefault() *Runtime {
	if rt == nil {
		return new(Runtime)
	}
	return rt
}

// now returns the time, or zero if there is no clock.
func (rt *Runtime) now() (t time.Time) {
	if rt.Now != nil {
		t = rt.Now()
	}
	return t
}

func (rt *Runtime) workers() int { return par.Workers(rt.Workers) }

func (rt *Runtime) stall() time.Duration {
	if rt.Stall > 0 {
		return rt.Stall
	}
	return 30 * time.Second
}

// pause waits before the n-th repetition of a request, or as long as the server has asked for.
func (rt *Runtime) pause(ctx context.Context, n int, asked time.Duration) error {
	d := rt.Pause
	if d <= 0 {
		d = 250 * time.Millisecond
	}
	d = max(d<<(n-1), min(asked, longestWait))
	return retry.Sleep(ctx, d)
}

// Cache is a binary cache.
type Cache struct {
	Info
	URL string // as it was given, but for a password

	base   *url.URL
	dir    string // where its files are, if it is on this machine
	rt     *Runtime
	client *http.Client
	noted  sync.Once
}

// Open reads the nix-cache-info of a cache: file:///DIR, http://... or https://...
// A parameter ?priority=N overrides what the cache says of itself.
func Open(ctx context.Context, address string, rt *Runtime) (*Cache, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &AddressError{address, errors.Unwrap(err).Error()}
	}
	address = u.Redacted()
	rt = rt.orDefault()
	c := &Cache{URL: address, rt: rt, client: rt.client()}
	switch {
	case u.Scheme == "file" && u.Host == "" && u.Path != "":
		c.dir = u.Path
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	case u.Scheme == "s3":
		return nil, &AddressError{address, "S3 is not spoken here: give the https:// address of a bucket that anybody may read"}
	default:
		return nil, &AddressError{address, "not the address of a binary cache: want file:///DIR, http:// or https://"}
	}
	query := u.Query()
	u.RawQuery, u.Fragment = "", ""
	c.base = u
	text, _, err := c.small(ctx, cacheInfoName, "", false)
	if err != nil {
		return nil, err
	}
	if text == nil {
		return nil, c.unreadable(cacheInfoName, "", fmt.Errorf("%w, so this is no binary cache", fs.ErrNotExist))
	}
	info, err := ParseInfo(text)
	if err != nil {
		return nil, &InfoError{c.at(cacheInfoName), "", err}
	}
	c.Info = *info
	if p := query.Get("priority"); p != "" {
		if _, err := fmt.Sscan(p, &c.Priority); err != nil {
			return nil, &AddressError{address, fmt.Sprintf("priority: %q is not a number", p)}
		}
	}
	return c, nil
}

const cacheInfoName = "nix-cache-info"

// at returns the address of a file of the cache, for people.
func (c *Cache) at(name string) string {
	if c.dir == "" && c.base != nil {
		if u, err := c.resolve(name); err == nil {
			return clip(u.Redacted())
		}
	}
	base := c.URL
	if c.base != nil {
		base = c.base.Redacted()
	}
	return clip(strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(name, "/"))
}

// note says what is odd about a cache, if nothing has been said yet.
func (c *Cache) note(format string, args ...any) {
	if c.rt.Note != nil {
		c.noted.Do(func() { c.rt.Note(fmt.Sprintf(format, args...)) })
	}
}
