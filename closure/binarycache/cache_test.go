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
	"sync"
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

// flatNARHash is that of an object that is a file with the text of TestContentsOfContentAddressedObjects.
const flatNARHash = "sha256:1fmj2jmyy424sx9q2brfb239l4jaxd6vcwzjhqfw3lrvw79y1dpz"

// contentAddressed are objects that Nix 2.8 has made. The one that refers to itself is by nix store make-content-addressed.
var contentAddressed = []struct {
	path, ca, refs string
	narHash        string
}{
	{"s9hxkxfbfpik2qm5k8xa9pvqmjzw49vk-tree", "fixed:r:sha256:17jd5c4qsglmmj1j2mr023qx47mjik6xk94f84csy6mhc2z2588s", "",
		"sha256:17jd5c4qsglmmj1j2mr023qx47mjik6xk94f84csy6mhc2z2588s"},
	{"rbjs35s89dr6d7mr7b87a3x9b4lwm4r7-flat.txt", "fixed:sha256:02jhncwq2qh2lqzbalmm28k2h3mfbf5p3iqdg75h5dh0q9vmzcri", "",
		flatNARHash},
	{"rqf8v5binsiwak9a62mfc18xpy7cf4j2-text.txt", "text:sha256:19hyd1ia8nwcby9mgzv17zfn660hcfwvg8513bcbsxmjszf5ygm2", "",
		"sha256:19r39kx95jfxbwj6b9xbhla2llbz60r2gfcviq63gv5q7k0kqyp4"},
	{"01g5nwhby8s36439kqw8djc3bqj66r5f-flat.txt", "fixed:md5:77j315dsxgbbxpgpgy3z6xbqn5", "", flatNARHash},
	{"0mhpws9mxm9gzqgs2nhki73ch4ivp8gx-flat.txt", "fixed:r:md5:3ranbc8zjpbb4v343q3xr7dx2x", "", flatNARHash},
	{"2xi67wiim3qmdm8ihijca90xd6l8q2rp-flat.txt", "fixed:sha1:dyx0ryw8s1srxlwfj4fkk9k5qln6swhb", "", flatNARHash},
	{"ybjhzxg0pf5laxanzbz85jjj52xvr8g6-flat.txt", "fixed:r:sha1:pqmd50zcss69gd6l33k09ql28l359i7s", "", flatNARHash},
	{"aifxb3ks9c812xrx59rjp1vvkw1yhzwq-flat.txt", "fixed:sha512:4c8cdd48a3d4fb9be25b422c107b81b34ef2293438fe814af3a30dc228eff035" +
		"deb82c943bc158fe68c6397a535d1f9871be54f30cdad3a6e89cc2ebbb1f482f", "", flatNARHash},
	{"3vpxvnqfsijmz5jw53hgly0s43blym7z-flat.txt", "fixed:r:sha512:32d331vaj3fikf6bznl473wcasgxxj85girc419yfbphij22knxqxhkv" +
		"mwpc4qvi0wh52dmq053zbykiq3sha9m5spiz1mdkqvr3ji9", "", flatNARHash},
	{"y89ng34bz04n8n132as614jh5i1v3vxx-self", "fixed:r:sha256:03a6gaw78cxdv6ivcvy6s4gx830vdcx09sy6lcby0irnxx8741gn",
		"y89ng34bz04n8n132as614jh5i1v3vxx-self", "sha256:1mqn4z0i4hd65na2baps2fvps66j81fzxp7vqdbfmknq5kfklcm0"},
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
			{test.ca, otherDigit(test.ca, strings.LastIndexByte(test.ca, ':')+2)},
			{test.path, otherDigit(test.path, 0)},
		} {
			if err := trust.Check(parse(strings.Replace(text, change[0], change[1], 1))); err == nil {
				t.Errorf("%s with %q: no error", test.path, change[1])
			}
		}
	}
}

func otherDigit(s string, at int) string {
	digit := "0"
	if s[at] == '0' {
		digit = "1"
	}
	return s[:at] + digit + s[at+1:]
}

// That the contents have the hash is compared, too.
func TestContentsOfContentAddressedObjects(t *testing.T) {
	for _, test := range contentAddressed {
		p := closure.Path("/nix/store/" + test.path)
		tree := func(fake string) fs.FS {
			switch {
			case p.Name() == "flat.txt":
				return fstest.MapFS{"x": {Data: []byte("flat file" + fake + "\n")}}
			case p.Name() == "self":
				return fstest.MapFS{
					"x/a": {Data: []byte("I am " + string(p) + fake + "\n")},
					"x/b": {Data: []byte(p + "/a"), Mode: fs.ModeSymlink},
				}
			}
			return nil
		}
		if tree("") == nil {
			continue
		}
		for _, fake := range []string{"", "!"} {
			c := cachetest.New()
			var refs []closure.Path
			if test.refs != "" {
				refs = []closure.Path{p}
			}
			n := c.Add(t, p, cachetest.NAR(t, tree(fake), "x"), "none", refs...)
			n.Sigs, n.CA = nil, test.ca
			c.Put(n)
			got, err := open(t, c, nil).Closure(t.Context(), n.Path)
			if err == nil {
				err = readAll(t.Context(), got)
			}
			if _, wrong := errors.AsType[*binarycache.VerifyError](err); fake == "" && err != nil || fake != "" && !wrong {
				t.Errorf("%s with %q: %v", test.ca, fake, err)
			}
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
	}{{0, 1}, {59 * time.Minute, 1}, {2 * time.Minute, 1}} {
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
	for _, want := range []int32{1, 0} {
		now = time.Now()
		got, err := s.Closure(t.Context(), paths[0])
		if err != nil {
			t.Fatal(err)
		}
		if o, _ := got.Object(paths[1]); o.NARSize != int64(len(cachetest.NAR(t, cachetest.Lib, "."))) {
			t.Errorf("a forged narinfo was taken: %v", o)
		}
		if n := asked.Swap(0); n != want {
			t.Errorf("%d requests, want %d", n, want)
		}
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
	for _, workers := range []int{1, 2, 7} {
		for _, spool := range []int64{-1, 4 << 20, 1 << 30} {
			rt := &binarycache.Runtime{Spool: spool, TempDir: t.TempDir(), Workers: workers}
			got, err := open(t, c, rt).Closure(t.Context(), roots...)
			if err == nil {
				err = readAll(t.Context(), got)
			}
			if err != nil {
				t.Errorf("with %d workers and a spool of %d bytes: %v", workers, spool, err)
			}
		}
	}
	// An end in the middle is an end, too.
	for _, workers := range []int{1, 7} {
		s := open(t, c, &binarycache.Runtime{TempDir: t.TempDir(), Workers: workers})
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
}

// Files that are read by many at once are fetched at once, each object but once; and again after an error.
func TestFilesForMany(t *testing.T) {
	c := cachetest.New()
	paths := c.Closure(t, "zstd")
	var asked atomic.Int32
	both := make(chan struct{})
	for name := range c.Files {
		if strings.HasPrefix(name, "nar/") {
			c.Handlers[name] = func(w http.ResponseWriter, r *http.Request) {
				switch asked.Add(1) {
				case 1:
					select { // for another object to be fetched meanwhile
					case <-both:
					case <-r.Context().Done():
					}
				case 2:
					close(both)
				}
				c.Serve(w, r)
			}
		}
	}
	got, err := open(t, c, nil).Closure(t.Context(), paths[0])
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 * len(paths) {
		wg.Go(func() {
			if _, err := fs.Lstat(got.Files, paths[i%len(paths)].Base()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := int(asked.Load()); n != len(paths) {
		t.Errorf("%d requests", n)
	}

	failed := false
	file := "nar/" + filepath.Base(got.Files.(*binarycache.Files).Address(paths[2]))
	c.Handlers[file] = func(w http.ResponseWriter, r *http.Request) {
		if !failed {
			failed = true
			http.NotFound(w, r)
			return
		}
		c.Serve(w, r)
	}
	if got, err = open(t, c, nil).Closure(t.Context(), paths[0]); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if _, err := fs.Lstat(got.Files, paths[2].Base()); (err == nil) != (i == 1) {
			t.Errorf("attempt %d: %v", i, err)
		}
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

// How long is a setting of Nix, too, and what is too old does not stay.
func TestLifetimes(t *testing.T) {
	keep := t.TempDir()
	c := cachetest.New()
	paths := c.Closure(t, "none")
	var asked atomic.Int32
	c.Handlers[paths[2].Digest()+".narinfo"] = func(w http.ResponseWriter, r *http.Request) { asked.Add(1); c.Serve(w, r) }
	now := time.Now()
	rt := &binarycache.Runtime{Keep: keep, Now: func() time.Time { return now }, KeepFound: time.Minute}
	s := open(t, c, rt)
	for _, step := range []struct {
		after time.Duration
		keep  time.Duration
		want  int32
	}{{0, time.Minute, 1}, {59 * time.Second, time.Minute, 0}, {2 * time.Second, time.Minute, 1}, {0, -1, 1}, {0, 0, 0}} {
		now, rt.KeepFound = now.Add(step.after), step.keep
		if _, err := s.Closure(t.Context(), paths[2]); err != nil {
			t.Fatal(err)
		}
		if got := asked.Swap(0); got != step.want {
			t.Errorf("after %v, kept for %v: %d requests, want %d", step.after, step.keep, got, step.want)
		}
	}
	files := func() (n int) {
		filepath.WalkDir(keep, func(name string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(name, ".narinfo") {
				n++
			}
			return err
		})
		return n
	}
	if files() == 0 {
		t.Fatal("nothing is kept")
	}
	now = now.Add(31 * 24 * time.Hour)
	if _, err := binarycache.Open(t.Context(), s.Caches[0].URL, rt); err != nil || files() > 0 {
		t.Errorf("%d files are left, %v", files(), err)
	}
}

// A directory that is no cache is so at once.
func TestDirectories(t *testing.T) {
	rt := &binarycache.Runtime{Now: time.Now, Pause: time.Hour}
	dir := t.TempDir()
	for _, address := range []string{"file://" + dir, "file://" + dir + "/nowhere", "file:///dev/null"} {
		_, err := binarycache.Open(t.Context(), address, rt)
		if e, ok := errors.AsType[*binarycache.InfoError](err); !ok || !strings.HasPrefix(e.URL, address) {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{"s3://bucket", "ftp://example.org", "file://host/dir", "file:relative", "http://", ":", "http://x?priority=high"} {
		if address[0] == 'h' && strings.Contains(address, "?") {
			c := cachetest.New()
			server := httptest.NewServer(c)
			defer server.Close()
			rt.Client, address = server.Client(), server.URL+"?priority=high"
		}
		if _, err := binarycache.Open(t.Context(), address, rt); !isA[*binarycache.AddressError](err) {
			t.Errorf("%s: %v", address, err)
		}
	}
	// An object that it does not have is somewhere else, or nowhere; and one whose NAR is gone fails.
	c := cachetest.New()
	paths := c.Closure(t, "none")
	write(t, c, dir)
	cache, err := binarycache.Open(t.Context(), "file://"+dir, rt)
	if err != nil {
		t.Fatal(err)
	}
	s := &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: binarycache.Trust{All: true}, Runtime: rt}
	if _, err := s.Closure(t.Context(), cachetest.Path("nothing")); !isA[*closure.MissingError](err) {
		t.Error(err)
	}
	got, err := s.Closure(t.Context(), paths...)
	if err != nil {
		t.Fatal(err)
	}
	if err := readAll(t.Context(), got); err != nil {
		t.Error(err)
	}
	os.RemoveAll(filepath.Join(dir, "nar"))
	if err := readAll(t.Context(), got); !isA[*closure.MissingError](err) {
		t.Error(err)
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestPasswordsAreNotShown(t *testing.T) {
	c := cachetest.New()
	server := httptest.NewServer(c)
	defer server.Close()
	rt := &binarycache.Runtime{Client: server.Client(), Now: time.Now, Pause: time.Millisecond}
	address := strings.Replace(server.URL, "://", "://me:secret@", 1)
	cache, err := binarycache.Open(t.Context(), address, rt)
	if err != nil {
		t.Fatal(err)
	}
	_, err = (&binarycache.Source{Caches: []*binarycache.Cache{cache}, Runtime: rt}).Closure(t.Context(), cachetest.Path("nothing"))
	for _, text := range []string{cache.URL, err.Error()} {
		if strings.Contains(text, "secret") || !strings.Contains(text, "me:") {
			t.Error(text)
		}
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
