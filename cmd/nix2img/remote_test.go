package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
	"github.com/nix2img/nix2img/closure/nar"
)

// cacheTest is a cache with the closure of app, which is spoiled before something is built of it.
type cacheTest struct {
	*testing.T
	*cachetest.Cache
	app, lib, data closure.Path
	format         []string // flags that the name of the image follows
	args           []string // further flags
	url            string   // of the server, once there is one
	closeServer    func()
}

// info reads the narinfo of an object.
func (c *cacheTest) info(p closure.Path) *binarycache.NARInfo {
	n, err := binarycache.ParseNARInfo("/nix/store", c.Files[p.Digest()+".narinfo"])
	if err != nil {
		c.Fatal(err)
	}
	return n
}

// edit replaces text in the narinfo of lib, without signing it again.
func edit(from, to string) func(*cacheTest) {
	return func(c *cacheTest) {
		name := c.lib.Digest() + ".narinfo"
		text := string(c.Files[name])
		if !strings.Contains(text, from) {
			c.Fatalf("no %q in %s", from, text)
		}
		c.Files[name] = []byte(strings.Replace(text, from, to, 1))
	}
}

// change changes the narinfo of lib, and signs it again.
func change(f func(*binarycache.NARInfo)) func(*cacheTest) {
	return func(c *cacheTest) {
		n := c.info(c.lib)
		n.Sigs = nil
		f(n)
		slices.Sort(n.References)
		cachetest.Sign(n, cachetest.KeyName, cachetest.Key(cachetest.KeyName))
		name := c.lib.Digest() + ".narinfo"
		c.Files[name] = []byte(n.String())
	}
}

// line replaces a whole line of the narinfo of lib.
func line(key, value string) func(*cacheTest) {
	return func(c *cacheTest) {
		name := c.lib.Digest() + ".narinfo"
		var out strings.Builder
		for l := range strings.Lines(string(c.Files[name])) {
			if strings.HasPrefix(l, key+":") {
				l = value
			}
			out.WriteString(l)
		}
		c.Files[name] = []byte(out.String())
	}
}

// archive has lib be another NAR, whole or not, for which the narinfo and its signature are right.
func archive(parts ...[]byte) func(*cacheTest) {
	return func(c *cacheTest) { c.Add(c.T, c.lib, bytes.Join(parts, nil), "none", c.data) }
}

// file changes the file that lib lies in, and nothing else.
func file(f func([]byte) []byte) func(*cacheTest) {
	return func(c *cacheTest) {
		url := c.info(c.lib).URL
		c.Files[url] = f(bytes.Clone(c.Files[url]))
	}
}

// sealed is file for a file for which FileHash and FileSize are right, or are not there.
func sealed(f func([]byte) []byte) func(*cacheTest) {
	return func(c *cacheTest) {
		file(f)(c)
		change(func(n *binarycache.NARInfo) { n.FileHash, n.FileSize = closure.Hash{}, 0 })(c)
	}
}

// packed is sealed for a file that is compressed in another way: the NAR of lib, or something else.
func packed(compression string, contents []byte, f func([]byte) []byte) func(*cacheTest) {
	return func(c *cacheTest) {
		if contents == nil {
			contents = cachetest.NAR(c.T, cachetest.Lib, ".")
		}
		change(func(n *binarycache.NARInfo) { n.Compression = compression })(c)
		sealed(func([]byte) []byte {
			b := cachetest.Compress(c.T, compression, contents)
			if f != nil {
				b = f(b)
			}
			return b
		})(c)
	}
}

// serve answers requests for the file that lib lies in.
func serve(h func(c *cacheTest, w http.ResponseWriter, r *http.Request)) func(*cacheTest) {
	return func(c *cacheTest) {
		c.Handlers[c.info(c.lib).URL] = func(w http.ResponseWriter, r *http.Request) { h(c, w, r) }
	}
}

// status answers everything about lib with a status.
func status(code int) func(*cacheTest) {
	return serve(func(_ *cacheTest, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
}

func both(fs ...func(*cacheTest)) func(*cacheTest) {
	return func(c *cacheTest) {
		for _, f := range fs {
			f(c)
		}
	}
}

func newCacheTest(t *testing.T) *cacheTest {
	c := &cacheTest{T: t, Cache: cachetest.New(), format: []string{"--squashfs", "-o"}}
	paths := c.Closure(t, "zstd")
	c.app, c.lib, c.data = paths[0], paths[1], paths[2]
	server := httptest.NewUnstartedServer(c)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	c.url, c.closeServer = server.URL, server.Close
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("NIX_CONF_DIR", t.TempDir())
	return c
}

// built is what a build has led to.
type built struct {
	code   int
	stderr string
	image  []byte
	left   string // temporary files, or segments of lib, if it has failed
}

// build builds app, in this process.
func (c *cacheTest) build(args ...string) (b built) {
	c.Helper()
	dir := c.TempDir()
	out := filepath.Join(dir, "image.sqsh")
	args = slices.Concat([]string{"build"}, c.format, []string{out, "--arch", "amd64", "--from", c.url, string(c.app)}, c.args, args)
	if !slices.Contains(args, "--no-check-sigs") {
		args = append(args, "--trusted-public-keys", cachetest.PublicKey())
	}
	var err error
	b.code, b.stderr, err = runQuietly(c.T, args)
	if err != nil {
		c.Fatal(err)
	}
	b.image, _ = os.ReadFile(out)
	if b.code == 0 {
		return b
	}
	lib := closure.Hash(sha256.Sum256(cachetest.NAR(c.T, cachetest.Lib, ".")))
	for _, dir := range []string{dir, os.Getenv("TMPDIR"), filepath.Join(os.Getenv("XDG_CACHE_HOME"), "nix2img")} {
		filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil || d.IsDir() || strings.Contains(name, "/narinfo/"):
				return nil
			case strings.Contains(name, "/v2/"):
				// What comes before lib was good.
				text, err := os.ReadFile(name)
				if err == nil && bytes.Contains(text, []byte(lib.String())) {
					b.left += name + " "
				}
				return err
			}
			b.left += name + " "
			return nil
		})
	}
	return b
}

// runQuietly runs the command in this process.
func runQuietly(t *testing.T, args []string) (code int, stderr string, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, "", err
	}
	defer null.Close()
	messages, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		return 0, "", err
	}
	defer messages.Close()
	a := &app{ui: newUI(null, null, messages)}
	root := newRoot(a)
	root.SetArgs(args)
	failure := root.ExecuteContext(t.Context())
	if failure != nil {
		a.ui.fail(failure)
	}
	text, err := os.ReadFile(messages.Name())
	return exitCode(failure), string(text), err
}

// What is no reason to fail.
func TestFailuresThatPass(t *testing.T) {
	patience.pause, patience.stall = time.Millisecond, 300*time.Millisecond
	t.Cleanup(func() { patience.pause, patience.stall = 0, 0 })
	want := newCacheTest(t).build()
	if want.code != 0 {
		t.Fatal(want.stderr)
	}
	// times answers the first n requests in another way.
	times := func(n int32, h http.HandlerFunc) func(*cacheTest) {
		return func(c *cacheTest) {
			var seen atomic.Int32
			other := func(w http.ResponseWriter, r *http.Request) {
				if seen.Add(1) <= n {
					h(w, r)
					return
				}
				c.Serve(w, r)
			}
			c.Handlers[c.info(c.lib).URL] = other
		}
	}
	half := func(ranges bool) func(*cacheTest) {
		return func(c *cacheTest) {
			var n atomic.Int32
			b := c.Files[c.info(c.lib).URL]
			c.Handlers[c.info(c.lib).URL] = func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 1 {
					w.Header().Set("ETag", `"1"`)
					w.Header().Set("Content-Length", fmt.Sprint(len(b)))
					w.Write(b[:len(b)/2])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				if ranges {
					if got := r.Header.Get("Range"); got != fmt.Sprintf("bytes=%d-", len(b)/2) || r.Header.Get("If-Range") != `"1"` {
						c.Errorf("Range is %q", got)
					}
					w.Header().Set("ETag", `"1"`)
				} else {
					r.Header.Del("Range")
				}
				http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(b))
			}
		}
	}
	for name, arrange := range map[string]func(*cacheTest){
		"503, then well":            times(2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }),
		"429 and Retry-After":       times(4, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }),
		"dropped once":              times(1, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"stalled once":              times(1, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
		"redirected":                times(1, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }),
		"resumed":                   half(true),
		"begun anew":                half(false),
		"nothing known of the file": change(func(n *binarycache.NARInfo) { n.FileHash, n.FileSize = closure.Hash{}, 0 }),
		"another file than the narinfo speaks of": change(func(n *binarycache.NARInfo) { n.FileHash, n.FileSize = closure.Hash{1}, 12345 }),
		"522, then well":           times(1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(522) }),
		"a strange signature, too": edit("Sig:", "Sig: nonsense\nSig:"),
		"a URL with a slash":       edit("URL: ", "URL: /"),
		"compressed again on the way": serve(func(c *cacheTest, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(cachetest.Compress(c.T, "gzip", c.Files[c.info(c.lib).URL]))
		}),
		"two signatures": func(c *cacheTest) {
			n := c.info(c.lib)
			own := n.Sigs
			n.Sigs = nil
			cachetest.Sign(n, "other-1", cachetest.Key("other-1"))
			n.Sigs = append(n.Sigs, own...)
			c.Put(n)
		},
		"unsigned, and that is fine": both(line("Sig", ""), func(c *cacheTest) { c.args = []string{"--no-check-sigs"} }),
		"a better cache is broken": func(c *cacheTest) {
			other := cachetest.New()
			other.Files["nix-cache-info"] = []byte("Priority: 1\n")
			other.Files[c.lib.Digest()+".narinfo"] = []byte("nonsense\n")
			server := httptest.NewServer(other)
			c.Cleanup(server.Close)
			c.args = []string{"--from", server.URL}
		},
		"without a cache of segments": func(c *cacheTest) { c.args = []string{"--no-cache"} },
		"one core":                    func(c *cacheTest) { c.args = []string{"-j1"} },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCacheTest(t)
			arrange(c)
			if b := c.build(); b.code != 0 || !bytes.Equal(b.image, want.image) {
				t.Errorf("exit code %d, same bytes: %v\n%s", b.code, bytes.Equal(b.image, want.image), b.stderr)
			}
		})
	}
}

// What is in the cache is not downloaded, be it segments or pieces of layers, and metadata are asked for once.
func TestNothingIsFetchedTwice(t *testing.T) {
	for name, format := range map[string][]string{"segments": {"--squashfs", "-o"}, "layers": {"--tag", "app:1", "--oci-archive"}} {
		t.Run(name, func(t *testing.T) {
			c := newCacheTest(t)
			var mu sync.Mutex
			asked := make(map[string]int)
			for file := range c.Files {
				c.Handlers[file] = func(w http.ResponseWriter, r *http.Request) {
					mu.Lock()
					asked[strings.TrimPrefix(r.URL.Path, "/")]++
					mu.Unlock()
					c.Serve(w, r)
				}
			}
			c.format = format
			app, lib := c.app, c.info(c.lib)
			c.app = c.lib
			if b := c.build(); b.code != 0 {
				t.Fatal(b.stderr)
			}
			c.app = app
			want := c.build()
			if want.code != 0 {
				t.Fatal(want.stderr)
			}
			for file, n := range asked {
				if n != 1 {
					t.Errorf("%s was asked for %d times", file, n)
				}
			}
			if asked[lib.URL] != 1 || asked[c.info(app).URL] != 1 || len(asked) != 1+3+3 {
				t.Errorf("asked for %v", asked)
			}
			clear(asked)
			if b := c.build(); b.code != 0 || !bytes.Equal(b.image, want.image) || len(asked) != 0 {
				t.Errorf("once more: exit code %d, asked for %v\n%s", b.code, asked, b.stderr)
			}
			// Metadata are asked for again, contents are not.
			if err := os.RemoveAll(filepath.Join(os.Getenv("XDG_CACHE_HOME"), "nix2img", "narinfo")); err != nil {
				t.Fatal(err)
			}
			if b := c.build(); b.code != 0 || !bytes.Equal(b.image, want.image) || len(asked) != 1+3 {
				t.Errorf("without narinfos: exit code %d, asked for %v\n%s", b.code, asked, b.stderr)
			}
			c.closeServer()
			if b := c.build(); b.code != 0 || !bytes.Equal(b.image, want.image) {
				t.Errorf("without the server: exit code %d\n%s", b.code, b.stderr)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	for name, test := range map[string]struct {
		netrc, conf string
		want        string // Authorization
	}{
		"netrc":   {"machine 127.0.0.1 login me password secret", "", "Basic bWU6c2VjcmV0"},
		"token":   {"machine elsewhere login me password secret", "access-tokens = 127.0.0.1=abc", "Bearer abc"},
		"nobody":  {"", "", ""},
		"address": {"machine 127.0.0.1 login you password other", "access-tokens = 127.0.0.1=abc", "Basic bWU6c2VjcmV0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCacheTest(t)
			inner := *c.Cache
			refused := false
			for file := range c.Files {
				c.Handlers[file] = func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != test.want {
						refused = true
						w.WriteHeader(401)
						return
					}
					inner.Serve(w, r)
				}
			}
			dir := os.Getenv("NIX_CONF_DIR")
			for file, text := range map[string]string{"netrc": test.netrc, "nix.conf": test.conf} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if name == "address" {
				c.url = strings.Replace(c.url, "://", "://me:secret@", 1)
			}
			b := c.build()
			if b.code != 0 || refused {
				t.Errorf("exit code %d, refused: %v\n%s", b.code, refused, b.stderr)
			}
			if strings.Contains(b.stderr, "anybody can read") {
				t.Errorf("of a file that nobody else can read: %s", b.stderr)
			}
			if err := os.Chmod(filepath.Join(dir, "netrc"), 0o644); err != nil {
				t.Fatal(err)
			}
			if b := c.build(); strings.Contains(b.stderr, "note: anybody can read the passwords in "+dir) != (test.netrc != "") {
				t.Errorf("of a file that anybody can read: %s", b.stderr)
			}
		})
	}
}

// What a cache has said is asked for again if somebody says so, and what was missing in any case.
func TestRefresh(t *testing.T) {
	c := newCacheTest(t)
	asked := 0
	gone := true
	for name := range c.Files {
		if strings.HasSuffix(name, "info") {
			c.Handlers[name] = func(w http.ResponseWriter, r *http.Request) {
				asked++
				if gone && r.URL.Path != "/nix-cache-info" {
					http.NotFound(w, r)
					return
				}
				c.Serve(w, r)
			}
		}
	}
	list := func(args ...string) (int, string) {
		asked = 0
		code, stderr, err := runQuietly(t, append([]string{"closure", "--from", c.url, "--trusted-public-keys", cachetest.PublicKey(), string(c.data)}, args...))
		if err != nil {
			t.Fatal(err)
		}
		return code, stderr
	}
	if code, stderr := list(); code != exitClosure || !strings.Contains(stderr, "--refresh") {
		t.Errorf("not there: exit code %d\n%s", code, stderr)
	}
	gone = false
	for _, test := range []struct {
		args []string
		want int // requests
	}{{nil, 1}, {nil, 0}, {[]string{"--refresh"}, 2}, {nil, 0}} {
		if code, stderr := list(test.args...); code != 0 || asked != test.want {
			t.Errorf("%q: exit code %d, %d requests, want %d\n%s", test.args, code, asked, test.want, stderr)
		}
	}
	if code, stderr, err := runQuietly(t, []string{"warm", "--refresh", "--from", c.url, "--trusted-public-keys", cachetest.PublicKey(), string(c.data)}); code != 0 || err != nil {
		t.Errorf("warm: exit code %d, %v\n%s", code, err, stderr)
	}
}

func TestUnreachableHostFailsSoon(t *testing.T) {
	c := newCacheTest(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.url = "http://" + l.Addr().String()
	l.Close()
	start := time.Now()
	if b := c.build(); b.code != exitNetwork || time.Since(start) > 30*time.Second {
		t.Errorf("exit code %d after %v\n%s", b.code, time.Since(start), b.stderr)
	}
}

// makeCache writes the objects of testStore into a binary cache in dir.
func makeCache(store, dir string) error {
	f, err := os.Open(filepath.Join(store, "path-info.json"))
	if err != nil {
		return err
	}
	defer f.Close()
	objects, err := closure.ReadObjects(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "nar"), 0o777); err != nil {
		return err
	}
	write := func(name string, b []byte) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o666)
		}
	}
	write("nix-cache-info", []byte("StoreDir: /nix/store\n"))
	for _, o := range objects {
		var b bytes.Buffer
		if err := nar.Dump(&b, closure.DirFS(filepath.Join(store, "nix/store")), o.Path.Base()); err != nil {
			return err
		}
		n := &binarycache.NARInfo{Object: o, URL: "nar/" + o.Path.Digest() + ".nar", Compression: "none"}
		write(n.URL, b.Bytes())
		write(o.Path.Digest()+".narinfo", []byte(n.String()))
	}
	return err
}
