package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// refuse answers with a status and an error of the distribution specification.
func refuse(w http.ResponseWriter, status int, code string) bool {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"on purpose"}]}`, code)
	return true
}

// TestFaultsThatPass has a registry fail in many ways, and then do better.
func TestFaultsThatPass(t *testing.T) {
	type fault = func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request, n int32) bool
	for _, test := range []struct {
		name    string
		methods string // n counts the requests with each of these
		fault   fault
		most    int64 // bytes that may be sent, per byte of the image, in percent
	}{
		{"500", "GET HEAD POST PATCH PUT", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			return n%3 != 0 && refuse(w, 500, "UNKNOWN")
		}, 100},
		{"hang up", "GET HEAD POST PATCH PUT", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			if n%2 == 1 {
				registrytest.Hangup(w)
			}
			return n%2 == 1
		}, 100},
		{"drop within a piece", "PATCH", func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request, n int32) bool {
			if n%2 == 1 {
				reg.Drop(w, r, 3000)
			}
			return n%2 == 1
		}, 100},
		{"too many requests", "HEAD PATCH", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			return n%4 == 2 && refuse(w, 429, "TOOMANYREQUESTS")
		}, 100},
		{"digest invalid", "PUT", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			return n == 1 && refuse(w, 400, "DIGEST_INVALID")
		}, 140},
		{"upload forgotten", "PATCH", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			return n == 2 && refuse(w, 404, "BLOB_UPLOAD_UNKNOWN")
		}, 140},
		{"no pieces", "PATCH", func(_ *registrytest.Registry, w http.ResponseWriter, _ *http.Request, n int32) bool {
			return refuse(w, 405, "UNSUPPORTED")
		}, 100},
		{"answer lost", "PUT", func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request, n int32) bool {
			if n%2 == 1 {
				reg.Serve(httptest.NewRecorder(), r)
				registrytest.Hangup(w)
			}
			return n%2 == 1
		}, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			img := randomImage(t)
			ref := parse(t, reg.Host, "/app:1")
			counts := make(map[string]*atomic.Int32) // by method
			for method := range strings.FieldsSeq(test.methods) {
				counts[method] = new(atomic.Int32)
			}
			reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				n := counts[r.Method]
				return n != nil && test.fault(reg, w, r, n.Add(1))
			}
			var last Progress
			rt := fast()
			rt.Jobs = 1
			rt.Progress = func(p Progress) { last = p }
			mustPush(t, ref, img, rt)
			if last.Done != last.Total {
				t.Errorf("progress ended with %+v", last)
			}
			if got, _ := reg.Reset(); got*100 > last.Total*test.most {
				t.Errorf("%d bytes have arrived for an image of %d", got, last.Total)
			}
			got, _, err := Pull(t.Context(), ref, v1.Platform{}, rt)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(got); err != nil {
				t.Error(err)
			}
			reg.Fault = nil
			same(t, ref, img)
		})
	}
}

// TestFaultsThatStay has a registry that does not recover. No tag may lead anywhere.
func TestFaultsThatStay(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request) bool
		want  string
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) bool { return refuse(w, 500, "UNKNOWN") }, "on purpose"},
		{"500 for pieces", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "PATCH" && refuse(w, 500, "UNKNOWN")
		}, "blob sha256:"},
		{"hang up", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PATCH" {
				registrytest.Hangup(w)
			}
			return r.Method == "PATCH"
		}, "blob sha256:"},
		{"a pause of an hour", func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			return r.Method == "PATCH" && refuse(w, 429, "TOOMANYREQUESTS")
		}, "TOOMANYREQUESTS"},
		{"unauthorized", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			return refuse(w, 401, "UNAUTHORIZED")
		}, "401 Unauthorized"},
		{"denied", func(w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "POST" && refuse(w, 403, "DENIED")
		}, "DENIED"},
		{"another digest", func(w http.ResponseWriter, r *http.Request) bool {
			other := r.Method == "PUT" && strings.Contains(r.URL.Path, "/manifests/")
			if other {
				w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
				w.WriteHeader(http.StatusCreated)
			}
			return other
		}, "the registry has got sha256:000"},
		{"another digest of a blob", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PUT" {
				w.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat("0", 64))
				w.WriteHeader(http.StatusCreated)
			}
			return r.Method == "PUT"
		}, "the registry has got sha256:000"},
		{"no location", func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "POST" {
				w.WriteHeader(http.StatusAccepted)
			}
			return r.Method == "POST"
		}, "does not say where"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			var tagged atomic.Bool
			reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == "PUT" && strings.HasSuffix(r.URL.Path, "/manifests/1") {
					tagged.Store(true)
				}
				return test.fault(w, r)
			}
			_, err := Push(t.Context(), parse(t, reg.Host, "/app:1"), randomImage(t), fast())
			if !is[*Error](err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if tagged.Load() || reg.Has("app", "1") {
				t.Error("there is a tag")
			}
		})
	}
}

// TestWrongCredentials has a registry with tokens, which gives none.
func TestWrongCredentials(t *testing.T) {
	reg := registrytest.New(t)
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			if user, password, _ := r.BasicAuth(); user == "me" && password == "right" {
				io.WriteString(w, `{"token":"let me in"}`)
				return true
			}
			return refuse(w, 401, "UNAUTHORIZED")
		}
		if r.Header.Get("Authorization") == "Bearer let me in" {
			return false
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="here"`, r.Host))
		return refuse(w, 401, "UNAUTHORIZED")
	}
	ref, img := parse(t, reg.Host, "/app:1"), randomImage(t)
	rt := fast()
	rt.Keychain = keychain{authn.AuthConfig{Username: "me", Password: "wrong"}}
	_, err := Push(t.Context(), ref, img, rt)
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 401 {
		t.Errorf("error %v", err)
	}
	rt.Keychain = keychain{authn.AuthConfig{Username: "me", Password: "right"}}
	mustPush(t, ref, img, rt)
}

type keychain struct{ config authn.AuthConfig }

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(k.config), nil
}

// TestCheckPush has a registry that lets everybody read.
func TestCheckPush(t *testing.T) {
	reg := registrytest.New(t)
	ref := parse(t, reg.Host, "/app:1")
	if err := CheckPush(t.Context(), ref, fast()); err != nil {
		t.Error(err)
	}
	reg.SetFault(func(w http.ResponseWriter, r *http.Request) bool {
		return r.Method == "POST" && refuse(w, 403, "DENIED")
	})
	err := CheckPush(t.Context(), ref, fast())
	if e, ok := errors.AsType[*Error](err); !ok || e.Status != 403 {
		t.Errorf("error %v", err)
	}
	if sent, requests := reg.Reset(); sent != 0 || len(requests) != 5 { // GET /v2/ and POST, each time, and one DELETE
		t.Errorf("sent %d bytes, by %q", sent, requests)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	begin := time.Now()
	_, err = Push(t.Context(), parse(t, l.Addr().String(), "/app:1"), randomImage(t), nil)
	if !is[*Error](err) || !strings.Contains(err.Error(), "connection refused") || time.Since(begin) > 5*time.Second {
		t.Errorf("error %v after %s", err, time.Since(begin))
	}
}

func TestCancel(t *testing.T) {
	reg := registrytest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" {
			cancel()
			registrytest.Hangup(w)
		}
		return r.Method == "PATCH"
	}
	rt := fast()
	rt.Pause = time.Hour
	if _, err := Push(ctx, parse(t, reg.Host, "/app:1"), randomImage(t), rt); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestFetchGoesOn drops the connection in the middle of each answer.
func TestFetchGoesOn(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		reg := registrytest.New(t)
		img := randomImage(t)
		ref := parse(t, reg.Host, "/app:1")
		mustPush(t, ref, img, fast())
		reg.Reset()
		got, _, err := Pull(t.Context(), ref, v1.Platform{}, fast())
		if err != nil {
			t.Fatal(err)
		}
		var served atomic.Int64
		var answers atomic.Int32
		reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if !ranges {
				r.Header.Del("Range")
			}
			rec := httptest.NewRecorder()
			reg.Serve(rec, r)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.WriteHeader(rec.Code)
			most := 4000 * int(answers.Add(1))
			if ranges {
				most = 4000
			}
			body := rec.Body.Bytes()
			if len(body) <= most {
				w.Write(body)
				return true
			}
			w.Write(body[:most])
			served.Add(int64(most))
			w.(http.Flusher).Flush()
			registrytest.Hangup(w)
			return true
		}
		layers, _ := got.Layers()
		rc, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		rc.Close()
		want, _ := layers[0].Digest()
		if h, _, _ := v1.SHA256(bytes.NewReader(data)); h != want {
			t.Errorf("got %s, want %s", h, want)
		}
		if ranges && served.Load() > int64(len(data)) {
			t.Errorf("%d bytes were sent for a blob of %d", served.Load(), len(data))
		}
	}
}

// TestFetchOtherBytes has a registry that changes a blob.
func TestFetchOtherBytes(t *testing.T) {
	reg := registrytest.New(t)
	ref := parse(t, reg.Host, "/app:1")
	digest := mustPush(t, ref, randomImage(t), fast())
	got, _, err := Pull(t.Context(), ref, v1.Platform{}, fast())
	if err != nil {
		t.Fatal(err)
	}
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		rec := httptest.NewRecorder()
		reg.Serve(rec, r)
		body := rec.Body.Bytes()
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		w.Write(body)
		return true
	}
	layers, _ := got.Layers()
	rc, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); !is[*DigestError](err) {
		t.Errorf("layer: error %v", err)
	}
	if _, _, err := Pull(t.Context(), digest, v1.Platform{}, fast()); !is[*DigestError](err) {
		t.Errorf("manifest: error %v", err)
	}
}

// TestPauses counts, by a clock of its own, how long requests are held back.
func TestPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []time.Duration
		begin := time.Now()
		r := &retrier{pause: time.Second, note: func(string, ...any) {}, inner: roundTripper(func(req *http.Request) (*http.Response, error) {
			asked = append(asked, time.Since(begin))
			h := http.Header{}
			if len(asked) == 2 {
				h.Set("Retry-After", "60")
			}
			return &http.Response{StatusCode: 503, Header: h, Body: http.NoBody}, nil
		})}
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://x/", nil)
		resp, err := r.RoundTrip(req)
		if err != nil || resp.StatusCode != 503 {
			t.Fatal(resp, err)
		}
		want := fmt.Sprint([]time.Duration{0, time.Second, 61 * time.Second, 65 * time.Second, 73 * time.Second})
		if fmt.Sprint(asked) != want {
			t.Errorf("asked at %s, want %s", asked, want)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFormsOfUploads has registries that take blobs in one way only.
func TestFormsOfUploads(t *testing.T) {
	upload := func(r *http.Request) bool { return strings.Contains(r.URL.Path, "/blobs/uploads/") }
	// edited lets f change the header of an answer.
	edited := func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request, f func(h http.Header)) bool {
		rec := httptest.NewRecorder()
		reg.Serve(rec, r)
		f(rec.Header())
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		return true
	}
	type fault = func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool
	tests := map[string]fault{
		"no PATCH but of a whole blob": func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
			whole := strings.HasPrefix(r.Header.Get("Content-Range"), "0-") && r.ContentLength != fast().ChunkSize
			return (r.Method == "PATCH" && !whole || r.Method == "PUT" && upload(r) && r.ContentLength > 0) && refuse(w, 416, "BLOB_UPLOAD_INVALID")
		},
		"PATCH without Location": func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "PATCH" && edited(reg, w, r, func(h http.Header) { h.Del("Location") })
		},
		"PATCH without Range": func(reg *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "PATCH" && edited(reg, w, r, func(h http.Header) { h.Del("Range") })
		},
	}
	for _, status := range []int{400, 404, 405} {
		tests[fmt.Sprint("PUT with a body: ", status)] = func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "PUT" && upload(r) && r.ContentLength > 0 && refuse(w, status, "BLOB_UNKNOWN")
		}
		tests[fmt.Sprint("PATCH: ", status)] = func(_ *registrytest.Registry, w http.ResponseWriter, r *http.Request) bool {
			return r.Method == "PATCH" && refuse(w, status, "UNSUPPORTED")
		}
	}
	for name, fault := range tests {
		for _, chunk := range []int64{10_000, 1 << 20} {
			t.Run(fmt.Sprint(name, ", pieces of ", chunk), func(t *testing.T) {
				t.Parallel()
				reg := registrytest.New(t)
				reg.Fault = func(w http.ResponseWriter, r *http.Request) bool { return fault(reg, w, r) }
				img, ref := randomImage(t), parse(t, reg.Host, "/app:1")
				var last Progress
				rt := fast()
				rt.ChunkSize, rt.Progress = chunk, func(p Progress) { last = p }
				mustPush(t, ref, img, rt)
				if last.Done != last.Total {
					t.Errorf("progress ended with %+v", last)
				}
				reg.Fault = nil
				same(t, ref, img)
			})
		}
	}
}

// A form that a registry has refused for one blob is not tried with the next.
func TestRefusedFormIsRemembered(t *testing.T) {
	reg := registrytest.New(t)
	var refused atomic.Int32
	reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" || !strings.Contains(r.URL.Path, "/uploads/") || r.ContentLength == 0 {
			return false
		}
		refused.Add(1)
		return refuse(w, 404, "BLOB_UNKNOWN")
	}
	mustPush(t, parse(t, reg.Host, "/app:1"), randomImage(t), &Runtime{Jobs: 1})
	if refused.Load() != 1 {
		t.Errorf("%d blobs were refused, want 1", refused.Load())
	}
}

// TestUploadsThatLeadNowhere has a registry that keeps a client busy.
func TestUploadsThatLeadNowhere(t *testing.T) {
	location := func(to string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "POST" {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusAccepted)
			}
			return r.Method == "POST"
		}
	}
	noProgress := func(text string) func(w http.ResponseWriter, r *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PATCH" {
				w.Header().Set("Location", r.URL.Path)
				w.Header().Set("Range", text)
				w.WriteHeader(http.StatusAccepted)
			}
			return r.Method == "PATCH"
		}
	}
	for _, test := range []struct {
		name  string
		fault func(w http.ResponseWriter, r *http.Request) bool
		want  string
		most  int // requests
	}{
		{"no progress", noProgress("0-0"), "has taken nothing", 30},
		{"back again", noProgress("0-99"), "has taken nothing", 40},
		{"file", location("file:///etc/passwd"), "neither http nor https", 8},
		{"gopher", location("gopher://127.0.0.1/"), "neither http nor https", 8},
		{"no scheme that is one", location("x+y:z"), "neither http nor https", 8},
		{"no address", location("http://[::1/"), "does not say where", 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			reg.Fault = test.fault
			rt := fast()
			rt.Jobs = 1
			_, err := Push(t.Context(), parse(t, reg.Host, "/app:1"), randomImage(t), rt)
			if !is[*Error](err) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if _, requests := reg.Reset(); len(requests) > test.most {
				t.Errorf("%d requests, want at most %d: %q", len(requests), test.most, requests)
			}
		})
	}
}

// TestErrorsAreShort has a registry that says much.
func TestErrorsAreShort(t *testing.T) {
	for name, body := range map[string]string{
		"details":  `{"errors":[{"code":"DENIED","message":"no","detail":{"Tag":"9"}}]}`,
		"a page":   "<html>" + strings.Repeat("<p>please log in</p>", 1000),
		"a novel":  `{"errors":[{"code":"DENIED","message":"` + strings.Repeat("x", 10000) + `"}]}`,
		"a saga":   `{"errors":[` + strings.Repeat(`{"code":"DENIED","message":"no"},`, 1000) + `{"code":"DENIED"}]}`,
		"a binary": "\x00\x01\x02",
	} {
		reg := registrytest.New(t)
		reg.Fault = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "GET" || r.URL.Path == "/v2/" {
				return false
			}
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, body)
			return true
		}
		_, _, err := Pull(t.Context(), parse(t, reg.Host, "/app:9"), v1.Platform{}, fast())
		if err == nil || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "<\x00") || strings.Contains(err.Error(), "map[") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// What a registry does not have is not the network's fault.
func TestNotFound(t *testing.T) {
	for name, host := range map[string]string{"ours": registrytest.New(t).Host, "theirs": theirs(t)} {
		digest := mustPush(t, parse(t, host, "/app:1"), randomImage(t), fast())
		for rest, want := range map[string]string{
			"/app:9":                                 "there is no tag 9",
			"/app@sha256:" + strings.Repeat("0", 64): "there is no manifest with this digest",
			"/nowhere:1":                             "there is no ",
		} {
			_, _, err := Pull(t.Context(), parse(t, host, rest), v1.Platform{}, fast())
			if !is[*NotFoundError](err) || is[*Error](err) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s, %s: error %v, want %q", name, rest, err, want)
			}
		}
		if _, _, err := Pull(t.Context(), digest, v1.Platform{}, fast()); err != nil {
			t.Error(err)
		}
	}
}
