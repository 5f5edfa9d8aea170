package binarycache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
	"github.com/nix2img/nix2img/closure/nar"
	"github.com/nix2img/nix2img/closure/narhash"
)

func open(t *testing.T, c *cachetest.Cache, rt *binarycache.Runtime) *binarycache.Source {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	if rt == nil {
		rt = &binarycache.Runtime{}
	}
	rt.Client, rt.Pause = server.Client(), time.Millisecond
	if rt.Now == nil {
		rt.Now = time.Now
	}
	cache, err := binarycache.Open(t.Context(), server.URL, rt)
	if err != nil {
		t.Fatal(err)
	}
	key, err := binarycache.ParsePublicKey(cachetest.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return &binarycache.Source{
		Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{Keys: []binarycache.PublicKey{key}}, Runtime: rt,
	}
}

// readAll fetches all objects of a closure, in order, and compares them with their NAR hashes.
func readAll(ctx context.Context, c *closure.Closure) error {
	fetch := c.Files.(closure.Fetcher).Fetch(ctx, c.Objects())
	defer fetch.Close()
	for _, o := range c.Objects() {
		hash := sha256.New()
		w := nar.NewWriter(hash)
		tree := fetch.Tree(o.Path)
		for {
			n, err := tree.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			h := &nar.Header{Path: n.Path, Mode: n.Info.Mode(), LinkTarget: n.Target}
			if h.Mode.IsRegular() {
				h.Size = n.Info.Size()
			}
			if err := w.WriteHeader(h); err != nil {
				return err
			}
			if _, err := io.Copy(struct{ io.Writer }{w}, tree); err != nil {
				return err
			}
		}
		if err := w.Close(); err != nil {
			return err
		}
		if got := closure.Hash(hash.Sum(nil)); got != o.NARHash {
			return &closure.HashError{Path: o.Path, Want: o.NARHash, Got: got}
		}
	}
	return nil
}

func TestAllCodecs(t *testing.T) {
	for _, codec := range []string{"xz", "zstd", "gzip", "br", "lz4", "none"} {
		c := cachetest.New()
		paths := c.Closure(t, codec)
		got, err := open(t, c, nil).Closure(t.Context(), paths[0])
		if err == nil {
			err = readAll(t.Context(), got)
		}
		if err != nil {
			t.Errorf("%s: %v", codec, err)
		}
		// As files, too.
		if err := narhash.Verify(t.Context(), got, 0); err != nil {
			t.Errorf("%s: files: %v", codec, err)
		}
	}
}

// There is no bzip2 in Go that writes.
const dataBzip2 = "QlpoOTFBWSZTWSiMQAwAACFZgHzSQGIgAC7n32AgAFRFPKaeiZMjQwjQ9INNUNDT0gAZMTRrermDBVtVuRRAB4XEIMSNI15kGm04VdLdzON" +
	"GNd1b1E0E4rvwBtEswJLhl+LuSKcKEgURiAGA"

func TestNoCompressionMeansBzip2(t *testing.T) {
	c := cachetest.New()
	n := c.Add(t, cachetest.Path("data"), cachetest.NAR(t, cachetest.Data, "data"), "none")
	file, err := base64.StdEncoding.DecodeString(dataBzip2)
	if err != nil {
		t.Fatal(err)
	}
	c.Files[n.URL] = file
	n.Compression, n.FileSize, n.FileHash = "", 0, closure.Hash{}
	c.Put(n)
	got, err := open(t, c, nil).Closure(t.Context(), n.Path)
	if err == nil {
		err = readAll(t.Context(), got)
	}
	if err != nil {
		t.Error(err)
	}
}

func TestSignatureOfNix(t *testing.T) {
	n, err := binarycache.ParseNARInfo("/nix/store", []byte(realInfo))
	if err != nil {
		t.Fatal(err)
	}
	key, err := binarycache.ParsePublicKey(realKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&binarycache.Trust{Keys: []binarycache.PublicKey{key}}).Check(n); err != nil {
		t.Error(err)
	}
	if n.String() != realInfo {
		t.Errorf("%s", n)
	}
}

// contentAddressed are objects that Nix 2.8 has made, with the archives of the first two and of the last.
var contentAddressed = []struct {
	path, ca, refs string
	narHash        string
}{
	{"s9hxkxfbfpik2qm5k8xa9pvqmjzw49vk-tree", "fixed:r:sha256:17jd5c4qsglmmj1j2mr023qx47mjik6xk94f84csy6mhc2z2588s", "",
		"sha256:17jd5c4qsglmmj1j2mr023qx47mjik6xk94f84csy6mhc2z2588s"},
	{"rbjs35s89dr6d7mr7b87a3x9b4lwm4r7-flat.txt", "fixed:sha256:02jhncwq2qh2lqzbalmm28k2h3mfbf5p3iqdg75h5dh0q9vmzcri", "",
		"sha256:1fmj2jmyy424sx9q2brfb239l4jaxd6vcwzjhqfw3lrvw79y1dpz"},
	{"rqf8v5binsiwak9a62mfc18xpy7cf4j2-text.txt", "text:sha256:19hyd1ia8nwcby9mgzv17zfn660hcfwvg8513bcbsxmjszf5ygm2", "",
		"sha256:19r39kx95jfxbwj6b9xbhla2llbz60r2gfcviq63gv5q7k0kqyp4"},
	{"zl9kzvn4h79a6819i2fnd3pyl5hll5qc-d.drv", "text:sha256:1lr4pkc8nhzlfp66mwgi5ph4hf6jgvmp8f8hvbfq0i7lq0nnmz2z", "rqf8v5binsiwak9a62mfc18xpy7cf4j2-text.txt",
		"sha256:0k9w26sngllj0zbvz3f7i347hssgkgafhiyjabj32fqi21154clj"},
}

func TestContentAddressedObjectsNeedNoSignature(t *testing.T) {
	trust := &binarycache.Trust{}
	for _, test := range contentAddressed {
		text := fmt.Sprintf("StorePath: /nix/store/%s\nURL: x\nNarHash: %s\nNarSize: 128\nReferences: %s\nCA: %s\n",
			test.path, test.narHash, test.refs, test.ca)
		parse := func(text string) *binarycache.NARInfo {
			n, err := binarycache.ParseNARInfo("/nix/store", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := trust.Check(parse(text)); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
		for _, change := range [][2]string{
			{"References:", "References: " + cachetest.Path("more").Base()},
			{"-" + test.path[33:] + "\n", "-other\n"},
			{test.ca, strings.Replace(test.ca, "sha256:", "sha256:0", 1)[:len(test.ca)]},
			{"StorePath: /nix/store/" + test.path[:1], "StorePath: /nix/store/0"},
		} {
			if err := trust.Check(parse(strings.Replace(text, change[0], change[1], 1))); err == nil {
				t.Errorf("%s with %q: no error", test.path, change[1])
			}
		}
	}
}

// That the contents have the hash is compared, too.
func TestContentsOfContentAddressedObjects(t *testing.T) {
	for contents, good := range map[string]bool{"flat file\n": true, "flat fake\n": false} {
		c := cachetest.New()
		fsys := fstest.MapFS{"x": {Data: []byte(contents)}}
		n := c.Add(t, closure.Path("/nix/store/"+contentAddressed[1].path), cachetest.NAR(t, fsys, "x"), "none")
		n.Sigs, n.CA = nil, contentAddressed[1].ca
		c.Put(n)
		got, err := open(t, c, nil).Closure(t.Context(), n.Path)
		if err != nil {
			t.Fatal(err)
		}
		err = readAll(t.Context(), got)
		if _, wrong := errors.AsType[*binarycache.VerifyError](err); good && err != nil || !good && !wrong {
			t.Errorf("%q: %v", contents, err)
		}
	}
}

// What is kept of a cache is believed for as long as Nix does.
func TestKeptInfos(t *testing.T) {
	now := time.Now()
	keep := t.TempDir()
	c := cachetest.New()
	paths := c.Closure(t, "none")
	var asked atomic.Int32
	for name := range c.Files {
		if strings.HasSuffix(name, "info") {
			c.Handlers[name] = func(w http.ResponseWriter, r *http.Request) { asked.Add(1); c.Serve(w, r) }
		}
	}
	missing := cachetest.Path("missing")
	c.Handlers[missing.Digest()+".narinfo"] = func(w http.ResponseWriter, r *http.Request) { asked.Add(1); http.NotFound(w, r) }

	// Every source has a server of its own, so all share one.
	rt := &binarycache.Runtime{Keep: keep, Now: func() time.Time { return now }}
	s := open(t, c, rt)
	for _, step := range []struct {
		after time.Duration
		path  closure.Path
		want  int32 // requests
	}{
		{0, paths[0], 1 + 3}, {time.Minute, paths[0], 0}, {29 * 24 * time.Hour, paths[0], 0}, {2 * 24 * time.Hour, paths[0], 3},
	} {
		now = now.Add(step.after)
		if _, err := s.Closure(t.Context(), step.path); err != nil {
			t.Fatal(err)
		}
		if got := asked.Swap(0); got != step.want {
			t.Errorf("after %v more: %d requests, want %d", step.after, got, step.want)
		}
	}
	now = time.Now()
	for _, step := range []struct {
		after time.Duration
		want  int32
	}{{0, 1}, {59 * time.Minute, 0}, {2 * time.Minute, 1}} {
		now = now.Add(step.after)
		if _, err := s.Closure(t.Context(), missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v", err)
		}
		if got := asked.Swap(0); got != step.want {
			t.Errorf("%v after it was not there: %d requests, want %d", step.after, got, step.want)
		}
	}
	// What has been forged there is noticed.
	err := filepath.WalkDir(keep, func(name string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, paths[1].Digest()+".narinfo") {
			text, _ := os.ReadFile(name)
			err = os.WriteFile(name, bytes.Replace(text, []byte("NarSize: "), []byte("NarSize: 1"), 1), 0o600)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	now = time.Now()
	if _, err := s.Closure(t.Context(), paths[0]); err == nil {
		t.Error("a forged narinfo was taken")
	}
	if _, err := s.Closure(t.Context(), paths[0]); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// What is unpacked ahead stays within its bounds, and none waits for what nobody reads.
func TestSpoolIsBounded(t *testing.T) {
	c := cachetest.New()
	random := rand.NewChaCha8([32]byte{})
	var roots []closure.Path
	for i := range 6 {
		data := make([]byte, 5<<19+i)
		random.Read(data)
		p := cachetest.Path(fmt.Sprintf("p%02d", i))
		c.Add(t, p, cachetest.NAR(t, fstest.MapFS{"f": {Data: data}}, "f"), []string{"xz", "none", "none"}[i%3])
		roots = append(roots, p)
	}
	for _, spool := range []int64{-1, 4 << 20, 1 << 30} {
		got, err := open(t, c, &binarycache.Runtime{Spool: spool, TempDir: t.TempDir(), Workers: 2}).Closure(t.Context(), roots...)
		if err == nil {
			err = readAll(t.Context(), got)
		}
		if err != nil {
			t.Errorf("with a spool of %d bytes: %v", spool, err)
		}
	}
	// An end in the middle is an end, too.
	s := open(t, c, &binarycache.Runtime{TempDir: t.TempDir()})
	got, err := s.Closure(t.Context(), roots...)
	if err != nil {
		t.Fatal(err)
	}
	fetch := got.Files.(closure.Fetcher).Fetch(t.Context(), got.Objects())
	if _, err := fetch.Tree(got.Objects()[4].Path).Next(); err != nil {
		t.Error(err)
	}
	fetch.Close()
	if _, err := fetch.Tree(got.Objects()[5].Path).Next(); err == nil {
		t.Error("read after the end")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := readAll(ctx, got); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The store comes first, then the caches by their priorities.
func TestMixedSources(t *testing.T) {
	c := cachetest.New()
	paths := c.Closure(t, "zstd")
	other := cachetest.New()
	other.Closure(t, "gzip")
	other.Files["nix-cache-info"] = []byte("Priority: 10\n")
	s := open(t, c, nil)
	s.Caches = append(s.Caches, open(t, other, s.Runtime).Caches...)
	binarycache.Sort(s.Caches)

	data := paths[2]
	s.Local = func(_ context.Context, p closure.Path) ([]closure.Object, error) {
		if p != data {
			return nil, nil
		}
		archive := cachetest.NAR(t, cachetest.Data, "data")
		return []closure.Object{{Path: p, NARHash: sha256.Sum256(archive), NARSize: int64(len(archive))}}, nil
	}
	s.LocalFiles = fstest.MapFS{data.Base(): cachetest.Data["data"]}
	got, err := s.Closure(t.Context(), paths[0])
	if err != nil {
		t.Fatal(err)
	}
	files := got.Files.(*binarycache.Files)
	if files.Remote(data) || !files.Remote(paths[1]) || !strings.HasSuffix(files.Address(paths[1]), ".gzip") {
		t.Errorf("%s is from %q, %s from %q", data, files.Address(data), paths[1], files.Address(paths[1]))
	}
	if err := narhash.Verify(t.Context(), got, 0); err != nil {
		t.Error(err)
	}
}

func TestParseInfo(t *testing.T) {
	got, err := binarycache.ParseInfo([]byte("StoreDir: /opt/store\nWantMassQuery: 1\nPriority: -3\nNews: none\n"))
	if want := (binarycache.Info{StoreDir: "/opt/store", WantMassQuery: true, Priority: -3}); err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestNetrc(t *testing.T) {
	n, err := binarycache.ParseNetrc("# comment\nmachine a.example login me password \"my \\\"word\\\"\"\nmacdef init\nmachine x\n\n" +
		"machine b.example password token\ndefault login anonymous password guest")
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"A.example": `me my "word"`, "b.example": " token", "x": "anonymous guest",
	} {
		user, password, ok := n.Find(host)
		if got := user + " " + password; !ok || got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	for _, bad := range []string{"login me", "machine", "machine a what b", `machine "a`} {
		if _, err := binarycache.ParseNetrc(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}
