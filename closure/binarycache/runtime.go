package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/nix2img/nix2img/internal/par"
)

// Runtime is what decides only speed and reporting. Client and Now must be there for caches on web servers.
type Runtime struct {
	// Client makes the requests. Redirects are its business, and so are proxies.
	Client *http.Client
	// Authorize, if not nil, adds to a request what the user has to log in to its host.
	Authorize func(*http.Request)
	// Now is the clock. It decides when something that was kept is too old, and when a transfer is too slow.
	Now func() time.Time
	// Workers is how many cores there are to unpack. Zero means GOMAXPROCS.
	Workers int
	// TempDir is where NARs are kept that have been unpacked ahead. Empty means that of the system.
	TempDir string
	// Spool is how many bytes may be there at a time. Zero means [DefaultSpool], less than zero none.
	Spool int64
	// Keep is a directory where narinfos are kept from one run to the next, for as long as Nix keeps them:
	// see KeepFound and KeepMissing; nix-cache-info for 7 days. Empty means nowhere.
	// What is found there is checked like what has just come.
	Keep string
	// KeepFound is how long narinfos are believed, and KeepMissing that there is none.
	// Zero means 30 days and an hour, as in Nix, less than zero that they are asked for each time.
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
	wait, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-wait.Done()
	return ctx.Err()
}

// Cache is a binary cache.
type Cache struct {
	Info
	URL string // as it was given, but for a password

	base *url.URL
	dir  string // where its files are, if it is on this machine
	rt   *Runtime
}

// Open reads the nix-cache-info of a cache: file:///DIR, http://... or https://...
// A parameter ?priority=N overrides what the cache says of itself.
func Open(ctx context.Context, address string, rt *Runtime) (*Cache, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, &AddressError{address, errors.Unwrap(err).Error()}
	}
	address = u.Redacted()
	c := &Cache{URL: address, rt: rt}
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
	text, err := c.small(ctx, cacheInfoName, "")
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
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		return u.Redacted()
	}
	return strings.TrimSuffix(c.base.Redacted(), "/") + "/" + name
}
