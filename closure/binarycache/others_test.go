package binarycache_test

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
)

// fetch reads a closure and all its files.
func fetch(t *testing.T, s *binarycache.Source, roots ...closure.Path) error {
	t.Helper()
	c, err := s.Closure(t.Context(), roots...)
	if err != nil {
		return err
	}
	return readAll(t.Context(), c)
}

// on is open for a server that is made in another way.
func on(t *testing.T, h http.Handler, start func(*httptest.Server), rt *binarycache.Runtime) *binarycache.Source {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	start(server)
	t.Cleanup(server.Close)
	rt.Client, rt.Pause = server.Client(), time.Millisecond
	cache, err := binarycache.Open(t.Context(), server.URL, rt)
	if err != nil {
		t.Fatal(err)
	}
	return &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}, Runtime: rt}
}

func http2(s *httptest.Server) { s.EnableHTTP2 = true; s.StartTLS() }

// What breaks off is taken up again, over HTTP/2 as over HTTP/1.1, and where it stopped.
func TestTransfersAreResumed(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){"HTTP/1.1": (*httptest.Server).Start, "HTTP/2": http2} {
		for _, ending := range []string{"reset", "connection closed", "reset at the end"} {
			t.Run(name+", "+ending, func(t *testing.T) {
				c := cachetest.New()
				paths := c.Closure(t, "none")
				var server *httptest.Server
				var mu sync.Mutex
				seen := make(map[string]int)
				ranges := 0
				h := func(w http.ResponseWriter, r *http.Request) {
					b := c.Files[strings.TrimPrefix(r.URL.Path, "/")]
					mu.Lock()
					seen[r.URL.Path]++
					first := seen[r.URL.Path] == 1
					if r.Header.Get("Range") != "" {
						ranges++
					}
					mu.Unlock()
					if !first || !strings.Contains(r.URL.Path, "nar") {
						c.Serve(w, r)
						return
					}
					w.Header().Set("ETag", `"1"`)
					n := len(b) / 2
					if ending == "reset at the end" {
						n = len(b)
					} else {
						w.Header().Set("Content-Length", fmt.Sprint(len(b)))
					}
					w.Write(b[:n])
					w.(http.Flusher).Flush()
					if ending == "connection closed" {
						server.CloseClientConnections()
					}
					panic(http.ErrAbortHandler)
				}
				s := on(t, http.HandlerFunc(h), func(s *httptest.Server) { server = s; start(s) }, &binarycache.Runtime{})
				if err := fetch(t, s, paths[0]); err != nil {
					t.Error(err)
				}
				if ranges == 0 && ending != "connection closed" { // which can overtake what was sent
					t.Error("everything was sent again")
				}
			})
		}
	}
}

// A server that takes its leave has more to say on another connection.
func TestGoAway(t *testing.T) {
	c := cachetest.New()
	paths := c.Closure(t, "none")
	var asked atomic.Int32
	h := func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1)%2 == 0 {
			w.Header().Set("Connection", "close") // for HTTP/2 this is GOAWAY
		}
		c.Serve(w, r)
	}
	if err := fetch(t, on(t, http.HandlerFunc(h), http2, &binarycache.Runtime{}), paths[0]); err != nil {
		t.Error(err)
	}
}

// Every 5xx but those that are meant is tried again, for metadata and for NARs.
func TestStatusesThatPass(t *testing.T) {
	for _, code := range []int{400, 402, 408, 409, 418, 421, 425, 429, 451, 500, 501, 502, 503, 504, 505, 506, 507, 511, 520, 522, 524, 525, 530, 599} {
		c := cachetest.New()
		p := cachetest.Path("data")
		n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
		for _, name := range []string{p.Digest() + ".narinfo", n.URL} {
			var asked atomic.Int32
			c.Handlers[name] = func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) == 1 {
					w.WriteHeader(code)
					return
				}
				c.Serve(w, r)
			}
		}
		err := fetch(t, open(t, c, nil), p)
		want := code == 408 || code == 425 || code == 429 || code >= 500 && code != 501 && code != 505 && code != 511
		if (err == nil) != want {
			t.Errorf("%d, then 200: %v", code, err)
		}
	}
}

func encode(t *testing.T, encoding string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch encoding {
	case "deflate":
		w = zlib.NewWriter(&out)
	case "raw deflate":
		w, _ = flate.NewWriter(&out, 6)
	default:
		return cachetest.Compress(t, strings.TrimPrefix(encoding, "x-"), b)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// encoded answers with encoded files, asked for or not.
func encoded(t *testing.T, c *cachetest.Cache, list string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := c.Files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		for e := range strings.SplitSeq(list, ", ") {
			b = encode(t, e, b)
		}
		w.Header().Set("Content-Encoding", strings.TrimPrefix(list, "raw "))
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(b))
	})
}

func TestContentEncodings(t *testing.T) {
	for _, list := range []string{"gzip", "x-gzip", "br", "zstd", "deflate", "raw deflate", "gzip, br"} {
		for _, codec := range []string{"zstd", "none"} {
			c := cachetest.New()
			paths := c.Closure(t, codec)
			s := on(t, encoded(t, c, list), (*httptest.Server).Start, &binarycache.Runtime{})
			if err := fetch(t, s, paths[0]); err != nil {
				t.Errorf("%s of %s: %v", list, codec, err)
			}
		}
	}
	// What is sent in part has the encoding of the whole.
	c := cachetest.New()
	paths := c.Closure(t, "none")
	h := encoded(t, c, "gzip")
	var broken sync.Map
	s := on(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, again := broken.LoadOrStore(r.URL.Path, true); !again {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			for k, v := range rec.Header() {
				w.Header()[k] = v
			}
			w.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		h.ServeHTTP(w, r)
	}), (*httptest.Server).Start, &binarycache.Runtime{})
	if err := fetch(t, s, paths[0]); err != nil {
		t.Errorf("in two parts: %v", err)
	}
	// A server that knows gzip by its name has unpacked what is still called gzip.
	c = cachetest.New()
	paths = c.Closure(t, "none")
	for name, b := range c.Files {
		c.Files[name] = bytes.Replace(b, []byte("Compression: none"), []byte("Compression: gzip"), 1)
	}
	if err := fetch(t, on(t, encoded(t, c, "gzip"), (*httptest.Server).Start, &binarycache.Runtime{}), paths[0]); err != nil {
		t.Errorf("unpacked on the way: %v", err)
	}
}

func TestContentEncodingsAreBounded(t *testing.T) {
	zeros := make([]byte, 5<<20)
	for _, e := range []string{"gzip", "br", "zstd", "deflate"} {
		bomb := encode(t, e, zeros)
		for _, test := range []struct {
			name     string
			encoding string
			body     []byte
			want     string
		}{
			{"a bomb", e, bomb, "longer"},
			{"a bomb in a bomb", e + ", " + e, encode(t, e, bomb), "longer"},
			{"three times", e + ", " + e + ", " + e, bomb, "3 encodings"},
			{"not encoded", e, []byte("StorePath: /nix/store/x\n\n\n"), "encoding " + e},
			{"truncated", e, bomb[:9], "encoding " + e},
			{"nothing", e, nil, "encoding " + e},
			{"unknown", "rot13", bomb, "rot13"},
		} {
			if e == "zstd" && test.name == "nothing" || e == "deflate" && test.name == "not encoded" {
				continue // these are an empty file, and one that makes no sense
			}
			c := cachetest.New()
			p := c.Closure(t, "none")[0]
			spoiled := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", test.encoding)
				w.Write(test.body)
			}
			c.Handlers[p.Digest()+".narinfo"] = spoiled
			_, err := open(t, c, nil).Closure(t.Context(), p)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), p.Digest()) {
				t.Errorf("narinfo: %s: %s: %v", e, test.name, err)
			}

			c = cachetest.New()
			p = cachetest.Path("data")
			n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
			c.Handlers[n.URL] = spoiled
			want := strings.Replace(test.want, "longer", "more than", 1)
			if err := fetch(t, open(t, c, nil), p); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("NAR: %s: %s: %v", e, test.name, err)
			}
		}
	}
}

// What is not signed does not decide.
func TestOnlyWhatIsSignedCounts(t *testing.T) {
	add := func(line string) func(string) string { return func(s string) string { return s + line + "\n" } }
	first := func(line string) func(string) string { return func(s string) string { return line + "\n" + s } }
	set := func(key, value string) func(string) string {
		return func(s string) string {
			var b strings.Builder
			for line := range strings.Lines(s) {
				if strings.HasPrefix(line, key+":") {
					line = value
				}
				b.WriteString(line)
			}
			return b.String()
		}
	}
	for name, test := range map[string]struct {
		change func(narinfo string) string
		note   bool
		want   string // in the error
	}{
		"as it is":                     {change: add("Unknown: field")},
		"FileHash of another file":     {change: set("FileHash", "FileHash: "+closure.Hash{1}.Base32()+"\n"), note: true},
		"FileSize too small":           {change: set("FileSize", "FileSize: 3\n"), note: true},
		"FileSize too great":           {change: set("FileSize", "FileSize: 123456789\n"), note: true},
		"nothing known of the file":    {change: func(s string) string { return set("FileSize", "")(set("FileHash", "")(s)) }},
		"a strange signature first":    {change: first("Sig: nonsense")},
		"a strange signature last":     {change: add("Sig: test-1:AAAA")},
		"nothing but strange ones":     {change: set("Sig", "Sig: nonsense\nSig: a:b\n"), want: "not signed in a form that is known"},
		"no signature":                 {change: set("Sig", ""), want: "not signed"},
		"the right StorePath last":     {change: first("StorePath: " + string(cachetest.Path("other")))},
		"the right StorePath first":    {change: add("StorePath: " + string(cachetest.Path("other"))), want: "it is about"},
		"the right NarHash last":       {change: first("NarHash: " + closure.Hash{1}.Base32())},
		"the right NarHash first":      {change: add("NarHash: " + closure.Hash{1}.Base32()), want: "signature is wrong"},
		"the right NarSize last":       {change: first("NarSize: 1")},
		"the right URL last":           {change: first("URL: nowhere")},
		"References twice":             {change: add("References: " + cachetest.Path("other").Base()), want: "References comes twice"},
		"references after none":        {change: first("References: ")},
		"a bad value, though not last": {change: first("NarSize: x"), want: "NarSize"},
	} {
		t.Run(name, func(t *testing.T) {
			c := cachetest.New()
			paths := c.Closure(t, "zstd")
			info := paths[1].Digest() + ".narinfo"
			c.Files[info] = []byte(test.change(string(c.Files[info])))
			var notes []string
			err := fetch(t, open(t, c, &binarycache.Runtime{Note: func(s string) { notes = append(notes, s) }}), paths[0])
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if (len(notes) == 1 && strings.Contains(notes[0], "narinfo says")) != test.note {
				t.Errorf("notes: %q", notes)
			}
		})
	}
	// One note is enough.
	c := cachetest.New()
	paths := c.Closure(t, "none")
	for name, b := range c.Files {
		c.Files[name] = bytes.Replace(b, []byte("FileSize: "), []byte("FileSize: 1"), 1)
	}
	notes := 0
	if err := fetch(t, open(t, c, &binarycache.Runtime{Note: func(string) { notes++ }}), paths[0]); err != nil || notes != 1 {
		t.Errorf("%d notes, %v", notes, err)
	}
}

func TestURLs(t *testing.T) {
	for _, prefix := range []string{"", "/some/prefix"} {
		for _, url := range []string{"nar/FILE", "/nar/FILE", "nar/FILE?hash=abc&x=%2F", "http://HOST/nar/FILE"} {
			c := cachetest.New()
			p := cachetest.Path("data")
			n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				// A slash means the host, as Nix reads it.
				if strings.HasPrefix(url, "nar/") || strings.HasSuffix(r.URL.Path, "info") {
					http.StripPrefix(prefix, c).ServeHTTP(w, r)
					return
				}
				c.ServeHTTP(w, r)
			}))
			defer server.Close()
			n.URL = strings.NewReplacer("FILE", strings.TrimPrefix(n.URL, "nar/"), "HOST", strings.TrimPrefix(server.URL, "http://")).Replace(url)
			c.Put(n)
			cache, err := binarycache.Open(t.Context(), server.URL+prefix, nil)
			if err != nil {
				t.Fatal(err)
			}
			s := &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}}
			if err := fetch(t, s, p); err != nil {
				t.Errorf("%s behind %q: %v", url, prefix, err)
			}
		}
	}
	// In a directory it means that of the cache.
	for _, url := range []string{"nar/file", "/nar/file"} {
		c := cachetest.New()
		p := cachetest.Path("data")
		n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
		c.Files["nar/file"] = c.Files[n.URL]
		n.URL = url
		c.Put(n)
		if err := fetch(t, inDirectory(t, c), p); err != nil {
			t.Errorf("%s in a directory: %v", url, err)
		}
	}
	for _, url := range []string{"", "/", "//host/nar/x", "/../x", "../x", "nar/../../x", "/nar/./x", "file:///x", `nar\x`, "nar/%2e%2e/%2e%2e/x", "/%2e%2e/x"} {
		text := strings.Replace(realInfo, "\nURL: ", "\nURL: "+url+"\nX: ", 1)
		if n, err := binarycache.ParseNARInfo("/nix/store", []byte(text)); err == nil {
			t.Errorf("%q was taken: %+v", url, n)
		}
	}
}

// That an object was not there is believed as long as another cache has it.
func TestMissingPathsAreAskedForAgain(t *testing.T) {
	c := cachetest.New()
	paths := c.Closure(t, "none")
	now := time.Now()
	rt := &binarycache.Runtime{Keep: t.TempDir(), Now: func() time.Time { return now }}
	var gone atomic.Bool
	var asked atomic.Int32
	for _, p := range paths {
		c.Handlers[p.Digest()+".narinfo"] = func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if gone.Load() {
				http.NotFound(w, r)
				return
			}
			c.Serve(w, r)
		}
	}
	s := open(t, c, rt)
	gone.Store(true)
	for _, p := range paths {
		if _, err := s.Closure(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	gone.Store(false)
	now = now.Add(time.Minute)

	// The other cache has it.
	other := cachetest.New()
	other.Closure(t, "none")
	both := open(t, other, rt)
	both.Caches = append(s.Caches[:1:1], both.Caches...)
	asked.Store(0)
	if _, err := both.Closure(t.Context(), paths[0]); err != nil || asked.Load() != 0 {
		t.Errorf("%d requests, %v", asked.Load(), err)
	}
	// It has come meanwhile.
	if err := fetch(t, s, paths[0]); err != nil || int(asked.Load()) != len(paths) {
		t.Errorf("%d requests, %v", asked.Load(), err)
	}
}

// Credentials go to nobody but the server that they are for.
func TestCredentialsStay(t *testing.T) {
	type seen struct {
		sync.Mutex
		with, without int
	}
	watch := func(s *seen, h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s.Lock()
			if r.Header.Get("Authorization") != "" {
				s.with++
			} else {
				s.without++
			}
			s.Unlock()
			h.ServeHTTP(w, r)
		})
	}
	for name, test := range map[string]struct {
		redirect bool // else the URL is in the narinfo
		from, to func(*httptest.Server)
		back     bool // the other server sends back
		want     string
	}{
		"redirected to another port":        {redirect: true, from: (*httptest.Server).Start, to: (*httptest.Server).Start},
		"redirected to another scheme":      {redirect: true, from: (*httptest.Server).Start, to: (*httptest.Server).StartTLS},
		"redirected from https to http":     {redirect: true, from: (*httptest.Server).StartTLS, to: (*httptest.Server).Start, want: "sent from https:"},
		"redirected and back":               {redirect: true, from: (*httptest.Server).Start, to: (*httptest.Server).Start, back: true},
		"narinfo with another port":         {from: (*httptest.Server).Start, to: (*httptest.Server).Start},
		"narinfo with another scheme":       {from: (*httptest.Server).Start, to: (*httptest.Server).StartTLS},
		"narinfo of https says http":        {from: (*httptest.Server).StartTLS, to: (*httptest.Server).Start, want: "sent from https:"},
		"narinfo of https says https there": {from: (*httptest.Server).StartTLS, to: (*httptest.Server).StartTLS},
	} {
		t.Run(name, func(t *testing.T) {
			c := cachetest.New()
			p := cachetest.Path("data")
			n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
			var own, other seen
			var first *httptest.Server
			second := httptest.NewUnstartedServer(watch(&other, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if test.back {
					http.Redirect(w, r, first.URL+"/back/"+n.URL, http.StatusFound)
					return
				}
				c.Serve(w, r)
			})))
			test.to(second)
			defer second.Close()
			back := watch(&other, http.StripPrefix("/back", http.HandlerFunc(c.Serve))) // having been elsewhere, it counts as another
			nars := http.RedirectHandler(second.URL+"/"+n.URL, http.StatusFound)
			first = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasPrefix(r.URL.Path, "/back/"):
					back.ServeHTTP(w, r)
				case strings.HasPrefix(r.URL.Path, "/nar/") && test.redirect:
					watch(&own, nars).ServeHTTP(w, r)
				default:
					watch(&own, c).ServeHTTP(w, r)
				}
			}))
			test.from(first)
			defer first.Close()
			if !test.redirect {
				n.URL = second.URL + "/" + n.URL
				c.Put(n)
			}
			client := first.Client()
			if second.TLS != nil {
				client = second.Client() // the certificate of both is the same
			}
			for _, address := range []string{first.URL, strings.Replace(first.URL, "://", "://me:secret@", 1)} {
				rt := &binarycache.Runtime{Client: client, Pause: time.Millisecond, Authorize: func(r *http.Request) { r.SetBasicAuth("me", "secret") }}
				cache, err := binarycache.Open(t.Context(), address, rt)
				if err != nil {
					t.Fatal(err)
				}
				err = fetch(t, &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}, Runtime: rt}, p)
				if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
					t.Errorf("%v, want %q", err, test.want)
				}
			}
			if own.with == 0 || own.without > 0 || other.with > 0 || (other.without > 0) != (test.want == "") {
				t.Errorf("the cache got %d requests with the password and %d without, the other %d and %d", own.with, own.without, other.with, other.without)
			}
		})
	}
}

// Whoever did not get the password says so.
func TestRefusedElsewhere(t *testing.T) {
	c := cachetest.New()
	p := cachetest.Path("data")
	n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }))
	defer elsewhere.Close()
	c.Handlers[n.URL] = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }
	err := fetch(t, open(t, c, nil), p)
	if !binarycache.Unauthorized(err) || !strings.Contains(err.Error(), "sent on to "+elsewhere.URL) {
		t.Error(err)
	}
}

// inDirectory is open for a cache in a directory.
func inDirectory(t *testing.T, c *cachetest.Cache) *binarycache.Source {
	t.Helper()
	dir := t.TempDir()
	write(t, c, dir)
	cache, err := binarycache.Open(t.Context(), "file://"+dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}}
}

// write writes a cache into a directory.
func write(t *testing.T, c *cachetest.Cache, dir string) {
	t.Helper()
	for name, b := range c.Files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o777), os.WriteFile(file, b, 0o666)); err != nil {
			t.Fatal(err)
		}
	}
}

// Nobody waits for a pipe, nor reads a device.
func TestOddFiles(t *testing.T) {
	c := cachetest.New()
	p := cachetest.Path("data")
	n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "none")
	for _, name := range []string{"nix-cache-info", p.Digest() + ".narinfo", n.URL} {
		for kind, make := range map[string]func(string) error{
			"pipe": func(name string) error { return syscall.Mkfifo(name, 0o666) },
			"link to a pipe": func(name string) error {
				return errors.Join(syscall.Mkfifo(name+"~", 0o666), os.Symlink(name+"~", name))
			},
			"device":    func(name string) error { return os.Symlink("/dev/zero", name) },
			"directory": func(name string) error { return os.Mkdir(name, 0o777) },
		} {
			dir := t.TempDir()
			write(t, c, dir)
			file := filepath.Join(dir, name)
			if err := errors.Join(os.Remove(file), make(file)); err != nil {
				t.Fatal(err)
			}
			cache, err := binarycache.Open(t.Context(), "file://"+dir, nil)
			if err == nil {
				err = fetch(t, &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}}, p)
			}
			if !isA[*binarycache.InfoError](err) || !strings.Contains(err.Error(), "not a regular file") || !strings.Contains(err.Error(), file) {
				t.Errorf("%s is a %s: %v", name, kind, err)
			}
		}
	}
}

// What a server says can be long. What is said of it is not.
func TestMessagesAreShort(t *testing.T) {
	long := strings.Repeat("x", 500_000)
	c := cachetest.New()
	p := cachetest.Path("data")
	n := c.Add(t, p, cachetest.NAR(t, cachetest.Data, "data"), "zstd")
	info := c.Files[p.Digest()+".narinfo"]
	for name, spoil := range map[string]func(){
		"redirect": func() {
			c.Handlers[n.URL] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://localhost:1/"+long, http.StatusFound)
			}
		},
		"encoding": func() {
			c.Handlers[n.URL] = func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Encoding", long) }
		},
		"URL":         func() { c.Files[p.Digest()+".narinfo"] = append(info, "URL: nar/"+long+"\n"...) },
		"bad URL":     func() { c.Files[p.Digest()+".narinfo"] = append(info, "URL: nar/%zz"+long+"\n"...) },
		"StorePath":   func() { c.Files[p.Digest()+".narinfo"] = append(info, "StorePath: "+long+"\n"...) },
		"References":  func() { c.Files[p.Digest()+".narinfo"] = append(info, "References: "+long+"\n"...) },
		"NarHash":     func() { c.Files[p.Digest()+".narinfo"] = append(info, "NarHash: "+long+"\n"...) },
		"Compression": func() { c.Files[p.Digest()+".narinfo"] = append(info, "Compression: "+long+"\n"...) },
		"Sig": func() {
			c.Files[p.Digest()+".narinfo"] = append([]byte("Sig: "+long+"\n"), bytes.Replace(info, []byte("\nSig"), []byte("\nX"), 1)...)
		},
		"line": func() { c.Files[p.Digest()+".narinfo"] = []byte(long) },
	} {
		c.Files[p.Digest()+".narinfo"] = info
		clear(c.Handlers)
		spoil()
		if err := fetch(t, open(t, c, nil), p); err == nil || len(err.Error()) > 3000 {
			t.Errorf("%s: %.300v", name, err)
		}
	}
}
