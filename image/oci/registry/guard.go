package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// A RealmError reports that a password was not sent to where a registry has its tokens made.
type RealmError struct {
	Realm string // the address
	// Clear says that the password would have gone there without TLS: see [Runtime.Insecure].
	// Otherwise it is no address at all.
	Clear bool
}

func (e *RealmError) Error() string {
	if e.Clear {
		return "the registry wants the password at " + e.Realm + ", without TLS"
	}
	return fmt.Sprintf("the registry wants the password at %q, which is not an address", e.Realm)
}

// A guard sees to it that credentials go only where they should.
//
// A registry with tokens names the host that gives them, its realm, in the answer to the first request
// (distribution specification, "Token Authentication"). That host gets the password.
type guard struct {
	*session
	inner http.RoundTripper
	login bool // there is a password, or what stands for one
}

var bearerRealm = regexp.MustCompile(`(?i)\bbearer\b[^"]*(?:"[^"]*"[^"]*?)*?\brealm="([^"]*)"`)

func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") != "" && !g.mayKnow(req.URL) {
		return nil, &senselessError{&RealmError{req.URL.Scheme + "://" + req.URL.Host, true}}
	}
	resp, err := g.inner.RoundTrip(req)
	if err != nil || !g.login || resp.StatusCode != http.StatusUnauthorized || req.URL.Path != "/v2/" {
		return resp, err
	}
	for _, challenge := range resp.Header.Values("WWW-Authenticate") {
		for _, m := range bearerRealm.FindAllStringSubmatch(challenge, -1) {
			if err := g.checkRealm(m[1]); err != nil {
				resp.Body.Close()
				return nil, &senselessError{err}
			}
		}
	}
	return resp, nil
}

// checkRealm speaks up before a password goes to another host, and stops what would go without TLS.
func (g *guard) checkRealm(realm string) error {
	to, err := url.Parse(realm)
	if err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Host == "" {
		return &RealmError{realm, false}
	}
	if !g.mayKnow(to) {
		return &RealmError{to.Redacted(), true}
	}
	if host := g.repo.RegistryStr(); to.Host != host {
		g.note("the password for %s goes to %s://%s, where the registry has its tokens made", host, to.Scheme, to.Host)
	}
	return nil
}

// mayKnow reports whether credentials may go to an address. Without TLS, they may go only to a registry
// that was named so, to this machine and private networks, and elsewhere with [Runtime.Insecure].
// (Of a registry with TLS, go-containerregistry takes no realm without.)
func (g *guard) mayKnow(to *url.URL) bool {
	if to.Scheme == "https" || g.Insecure {
		return true
	}
	if to.Host == g.repo.RegistryStr() {
		return g.repo.Scheme() == "http"
	}
	host, err := name.NewRegistry(to.Host)
	return err == nil && host.Scheme() == "http"
}

// hasPassword reports whether an authenticator has what a realm would get.
func hasPassword(ctx context.Context, auth authn.Authenticator) (bool, error) {
	if auth == authn.Anonymous {
		return false, nil
	}
	c, err := authn.Authorization(ctx, auth)
	return err == nil && strings.Join([]string{c.Username, c.Password, c.Auth, c.IdentityToken}, "") != "", err
}
