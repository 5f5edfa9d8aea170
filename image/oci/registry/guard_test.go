package registry

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

var login = keychain{authn.AuthConfig{Username: "me", Password: "secret"}}

// TestLocationElsewhere has a registry take blobs on another host, which gets no credentials.
func TestLocationElsewhere(t *testing.T) {
	for _, scheme := range []string{"Basic", "Bearer"} {
		reg := registrytest.New(t)
		var came, known atomic.Int32
		storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			came.Add(1)
			if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
				known.Add(1)
			}
			reg.Serve(w, r)
		}))
		defer storage.Close()
		reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			switch {
			case r.URL.Path == "/token":
				io.WriteString(w, `{"token":"let me in"}`)
				return true
			case r.Header.Get("Authorization") == "":
				w.Header().Set("WWW-Authenticate", fmt.Sprintf(`%s realm="http://%s/token",service="here"`, scheme, r.Host))
				return refuse(w, 401, "UNAUTHORIZED")
			case r.Method == "POST":
				rec := httptest.NewRecorder()
				reg.Serve(rec, r)
				w.Header().Set("Location", storage.URL+rec.Header().Get("Location"))
				w.WriteHeader(rec.Code)
				return true
			}
			return false
		}
		rt := fast()
		rt.Keychain = login
		mustPush(t, parse(t, reg.Host, "/app:1"), randomImage(t), rt)
		if came.Load() == 0 || known.Load() > 0 {
			t.Errorf("%s: of %d requests elsewhere, %d came with credentials", scheme, came.Load(), known.Load())
		}
	}
}

// TestLocationWithoutTLS has a registry with TLS that wants blobs, or requests, without.
func TestLocationWithoutTLS(t *testing.T) {
	var plain atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain.Add(1) }))
	defer other.Close()
	reg := registrytest.New(t)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case "POST":
			w.Header().Set("Location", other.URL+"/upload")
			w.WriteHeader(http.StatusAccepted)
		default:
			reg.Serve(w, r)
		}
	}))
	defer server.Close()
	rt := fast()
	rt.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "registry.example.org" {
			r = r.Clone(r.Context())
			r.URL.Host = server.Listener.Addr().String()
		}
		return server.Client().Transport.RoundTrip(r)
	})
	_, err := Push(t.Context(), parse(t, "registry.example.org", "/app:1"), randomImage(t), rt)
	if !is[*Error](err) || !strings.Contains(err.Error(), "without TLS") || plain.Load() > 0 {
		t.Errorf("error %v, %d requests without TLS", err, plain.Load())
	}
}

// TestRealms has registries that have their tokens made in places good and bad.
func TestRealms(t *testing.T) {
	for _, test := range []struct {
		realm     string
		plain     bool // the registry has no TLS
		insecure  bool
		anonymous bool
		err, note string
	}{
		{realm: "https://registry.example.org/token"},
		{realm: "https://auth.example.org/token", note: "the password for registry.example.org goes to https://auth.example.org"},
		{realm: "http://registry.example.org/token", err: "without TLS"},
		{realm: "http://auth.example.org/token", err: "without TLS"},
		{realm: "http://registry.example.org/token", plain: true},
		{realm: "http://auth.example.org/token", plain: true, err: "without TLS"},
		{realm: "http://auth.example.org/token", plain: true, insecure: true, note: "goes to http://auth.example.org"},
		{realm: "http://auth.example.org/token", plain: true, anonymous: true},
		{realm: "/token", err: "not an address"},
	} {
		asked := 0
		rt := fast()
		rt.Insecure = test.insecure
		if !test.anonymous {
			rt.Keychain = login
		}
		var notes []string
		rt.Note = func(s string) { notes = append(notes, s) }
		rt.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if test.plain && r.URL.Scheme == "https" {
				return nil, http.ErrSchemeMismatch
			}
			w := httptest.NewRecorder()
			switch {
			case r.URL.Path == "/token":
				asked++
				io.WriteString(w, `{"token":"let me in"}`)
			case r.URL.Path == "/v2/":
				w.Header().Add("WWW-Authenticate", fmt.Sprintf(`Bearer service="a, realm=b",realm="%s"`, test.realm))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.WriteHeader(http.StatusAccepted)
			}
			resp := w.Result()
			resp.Request = r
			return resp, nil
		})
		var opts []name.Option
		if test.plain {
			opts = append(opts, name.Insecure)
		}
		ref, err := name.ParseReference("registry.example.org/app:1", opts...)
		if err != nil {
			t.Fatal(err)
		}
		err = CheckPush(t.Context(), ref, rt)
		switch {
		case test.err == "" && (err != nil || asked == 0):
			t.Errorf("%+v: error %v, %d tokens", test, err, asked)
		case test.err != "" && (!is[*Error](err) || !is[*RealmError](err) || !strings.Contains(err.Error(), test.err) || asked > 0):
			t.Errorf("%+v: error %v, %d tokens", test, err, asked)
		}
		if got := strings.Join(notes, "; "); !strings.Contains(got, test.note) || test.note == "" && got != "" {
			t.Errorf("%+v: note %q", test, got)
		}
	}
}

func TestMayKnow(t *testing.T) {
	repo := func(s string, opts ...name.Option) name.Repository {
		r, err := name.NewRepository(s, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, test := range []struct {
		repo name.Repository
		to   string
		want bool
	}{
		{repo("registry.example.org/a"), "https://elsewhere.example.org/", true},
		{repo("registry.example.org/a"), "http://registry.example.org/", false},
		{repo("registry.example.org/a"), "http://127.0.0.1:5000/", true},
		{repo("registry.example.org/a", name.Insecure), "http://registry.example.org/", true},
		{repo("registry.example.org/a", name.Insecure), "http://elsewhere.example.org/", false},
		{repo("127.0.0.1:5000/a"), "http://127.0.0.1:5001/", true},
		{repo("127.0.0.1:5000/a"), "http://elsewhere.example.org/", false},
	} {
		to, _ := url.Parse(test.to)
		g := &guard{session: &session{Runtime: new(Runtime), repo: test.repo}}
		if got := g.mayKnow(to); got != test.want {
			t.Errorf("%s, %s: %t", test.repo, test.to, got)
		}
	}
}
