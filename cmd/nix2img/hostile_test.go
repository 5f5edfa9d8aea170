package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
)

// Parts of NARs.
var (
	dirBegin = cachetest.Strings("nix-archive-1", "(", "type", "directory")
	dirEnd   = cachetest.Strings(")")
	bomb     = append(append(cachetest.Strings("nix-archive-1", "(", "type", "regular", "contents"), length64(1<<24)...), make([]byte, 1<<24)...)
	emptyNAR = []string{"(", "type", "regular", "contents", "", ")"}
)

func dirEntry(name string, node ...string) []byte {
	if node == nil {
		node = emptyNAR
	}
	return cachetest.Strings(append(append([]string{"entry", "(", "name", name, "node"}, node...), ")")...)
}

func length64(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

// zstdFrame is the head of a zstd frame with the given window descriptor, and a block of one byte a great many times.
func zstdFrame(window byte) []byte {
	b := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window}
	for range 1 << 12 {
		b = append(b, 0x02, 0x00, 0x10, 'x') // 128 KiB, not the last block
	}
	return append(b, 0x01, 0, 0)
}

func TestHostileAndFailingCaches(t *testing.T) {
	patience.pause, patience.stall = time.Millisecond, 300*time.Millisecond
	t.Cleanup(func() { patience.pause, patience.stall = 0, 0 })

	const (
		aboutLib  = "lib-2.0"
		libInfo   = ".narinfo"
		aboutFile = "/nar/"
	)
	tests := []struct {
		name  string
		spoil func(*cacheTest)
		code  int
		want  []string // in the message
	}{
		// Signatures.
		{"unsigned", line("Sig", ""), exitVerify, []string{aboutLib, libInfo, "not signed"}},
		{"unknown key", func(c *cacheTest) {
			n := c.info(c.lib)
			n.Sigs = nil
			cachetest.Sign(n, "other-1", cachetest.Key("other-1"))
			c.Put(n)
		}, exitVerify, []string{aboutLib, libInfo, "other-1"}},
		{"known name, other key", func(c *cacheTest) {
			n := c.info(c.lib)
			n.Sigs = nil
			cachetest.Sign(n, cachetest.KeyName, cachetest.Key("other-1"))
			c.Put(n)
		}, exitVerify, []string{aboutLib, libInfo, "signature is wrong"}},
		{"signature of another path", func(c *cacheTest) {
			n := c.info(c.lib)
			n.Sigs = c.info(c.app).Sigs
			c.Put(n)
		}, exitVerify, []string{aboutLib, libInfo, "signature is wrong"}},
		{"references added", edit("References: ", "References: "+cachetest.Path("evil").Base()+" "), exitVerify, []string{aboutLib, "signature is wrong"}},
		{"references dropped", line("References", "References: \n"), exitVerify, []string{aboutLib, "signature is wrong"}},
		{"NarSize changed", line("NarSize", "NarSize: 1234\n"), exitVerify, []string{aboutLib, "signature is wrong"}},
		{"NarHash changed", line("NarHash", "NarHash: sha256:"+strings.Repeat("1", 52)+"\n"), exitVerify, []string{aboutLib, "signature is wrong"}},
		{"signature not base 64", line("Sig", "Sig: test-1:***\n"), exitVerify, []string{aboutLib, libInfo, "not signed in a form"}},
		{"signature too short", line("Sig", "Sig: test-1:AAAA\n"), exitVerify, []string{aboutLib, libInfo, "64 bytes"}},
		{"signature without a name", line("Sig", "Sig: AAAA\n"), exitVerify, []string{aboutLib, libInfo, "not signed in a form"}},
		{"content address that does not fit", line("Sig", "CA: fixed:r:sha256:"+strings.Repeat("1", 52)+"\n"), exitVerify, []string{aboutLib, "not signed"}},
		{"content address of a weak hash", line("Sig", "CA: fixed:md5:"+strings.Repeat("1", 26)+"\n"), exitVerify, []string{aboutLib, "not signed"}},
		{"text with another hash", func(c *cacheTest) {
			n := c.info(c.data)
			n.Sigs, n.CA = nil, "text:"+closure.Hash(sha256.Sum256([]byte("x"))).Base32()
			c.Put(n)
		}, exitVerify, []string{"-data", "not signed"}},

		// Metadata.
		{"narinfo of another path", func(c *cacheTest) { c.Files[c.lib.Digest()+".narinfo"] = c.Files[c.data.Digest()+".narinfo"] }, exitVerify, []string{aboutLib, libInfo, "it is about"}},
		{"empty narinfo", func(c *cacheTest) { c.Files[c.lib.Digest()+".narinfo"] = []byte{} }, exitClosure, []string{aboutLib, libInfo, "missing"}},
		{"a web page", func(c *cacheTest) { c.Files[c.lib.Digest()+".narinfo"] = []byte("<html>welcome</html>\n") }, exitClosure, []string{aboutLib, libInfo, "welcome"}},
		{"binary narinfo", func(c *cacheTest) { c.Files[c.lib.Digest()+".narinfo"] = []byte("\x00\xff\n") }, exitClosure, []string{aboutLib, libInfo}},
		{"huge narinfo", func(c *cacheTest) {
			c.Files[c.lib.Digest()+".narinfo"] = append(c.Files[c.lib.Digest()+".narinfo"], bytes.Repeat([]byte("X: y\n"), 1<<20)...)
		}, exitNetwork, []string{aboutLib, libInfo, "longer"}},
		{"no StorePath", line("StorePath", ""), exitClosure, []string{aboutLib, libInfo, "StorePath is missing"}},
		{"no URL", line("URL", ""), exitClosure, []string{aboutLib, "URL is missing"}},
		{"no NarHash", line("NarHash", ""), exitClosure, []string{aboutLib, "NarHash is missing"}},
		{"no NarSize", line("NarSize", ""), exitClosure, []string{aboutLib, "NarSize is missing"}},
		{"two NarHashes", edit("NarSize:", "NarHash: "+closure.Hash{1}.Base32()+"\nNarSize:"), exitVerify, []string{aboutLib, "signature is wrong"}},
		{"two lists of references", edit("Sig:", "References: "+cachetest.Path("evil").Base()+"\nSig:"), exitClosure, []string{aboutLib, "twice"}},
		{"NarSize of 2^64", line("NarSize", "NarSize: 18446744073709551616\n"), exitClosure, []string{aboutLib, "NarSize"}},
		{"NarSize of 2^63", line("NarSize", "NarSize: 9223372036854775808\n"), exitClosure, []string{aboutLib, "NarSize"}},
		{"negative NarSize", line("NarSize", "NarSize: -1\n"), exitClosure, []string{aboutLib, "NarSize"}},
		{"NarSize of 0", line("NarSize", "NarSize: 0\n"), exitClosure, []string{aboutLib, "NarSize"}},
		{"FileSize overflows", line("FileSize", "FileSize: 99999999999999999999999\n"), exitClosure, []string{aboutLib, "FileSize"}},
		{"hash of another kind", line("NarHash", "NarHash: md5:00000000000000000000000000000000\n"), exitClosure, []string{aboutLib, "NarHash"}},
		{"reference that is a path", edit("References: ", "References: ../../etc/passwd "), exitClosure, []string{aboutLib, "References"}},
		{"another store", edit("StorePath: /nix", "StorePath: /opt"), exitClosure, []string{aboutLib, "not in /nix/store"}},
		{"URL upwards", line("URL", "URL: ../../etc/passwd\n"), exitClosure, []string{aboutLib, "URL"}},
		{"URL absolute", line("URL", "URL: /etc/passwd\n"), exitClosure, []string{aboutLib, "/etc/passwd", "404"}},
		{"URL absolute and upwards", line("URL", "URL: /../etc/passwd\n"), exitClosure, []string{aboutLib, "URL"}},
		{"URL of a local file", line("URL", "URL: file:///etc/passwd\n"), exitClosure, []string{aboutLib, "URL"}},
		{"unknown compression", change(func(n *binarycache.NARInfo) { n.Compression = "rot13" }), exitVerify, []string{aboutLib, aboutFile, "rot13"}},

		// Closures.
		{"reference that is not there", change(func(n *binarycache.NARInfo) { n.References = append(n.References, cachetest.Path("nowhere")) }),
			exitClosure, []string{"-nowhere", aboutLib, libInfo}},
		{"root that is not there", func(c *cacheTest) { delete(c.Files, c.app.Digest()+".narinfo") }, exitClosure, []string{"-app-1.0", libInfo}},
		{"cycle", change(func(n *binarycache.NARInfo) { n.References = append(n.References, cachetest.Path("app-1.0")) }), exitClosure, []string{aboutLib, "cycle"}},

		// Files.
		{"NAR 404", func(c *cacheTest) { delete(c.Files, c.info(c.lib).URL) }, exitClosure, []string{aboutLib, aboutFile, "404"}},
		{"NAR 403", status(403), exitClosure, []string{aboutLib, aboutFile, "403"}},
		{"NAR 410", status(410), exitClosure, []string{aboutLib, aboutFile, "410"}},
		{"NAR 401", status(401), exitNetwork, []string{aboutLib, aboutFile, "401", "netrc"}},
		{"NAR 418", status(418), exitNetwork, []string{aboutLib, aboutFile, "418"}},
		{"NAR 500", status(500), exitNetwork, []string{aboutLib, aboutFile, "500", "5 times"}},
		{"NAR 503", status(503), exitNetwork, []string{aboutLib, aboutFile, "503", "5 times"}},
		{"NAR 429", status(429), exitNetwork, []string{aboutLib, aboutFile, "429", "5 times"}},
		{"truncated file", file(func(b []byte) []byte { return b[:len(b)/2] }), exitVerify, []string{aboutLib, aboutFile, "bytes, and the narinfo says"}},
		{"truncated, and no size given", sealed(func(b []byte) []byte { return b[:len(b)-9] }), exitVerify, []string{aboutLib, aboutFile}},
		{"longer file", file(func(b []byte) []byte { return append(b, 0) }), exitVerify, []string{aboutLib, aboutFile, "bytes, and the narinfo says"}},
		{"endless file", serve(func(_ *cacheTest, w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0x7f}) // zstd skips what follows
			io.Copy(w, nothing{})
		}), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"empty file", sealed(func(b []byte) []byte { return nil }), exitVerify, []string{aboutLib, aboutFile}},
		{"garbage behind", sealed(func(b []byte) []byte { return append(b, "garbage, more than a little"...) }), exitVerify, []string{aboutLib, aboutFile}},
		{"a web page for a file", sealed(func(b []byte) []byte { return []byte("<html>") }), exitVerify, []string{aboutLib, aboutFile, "unpack"}},
		{"flipped bit", file(func(b []byte) []byte { b[len(b)/2] ^= 4; return b }), exitVerify, []string{aboutLib, aboutFile}},
		{"compressed otherwise", change(func(n *binarycache.NARInfo) { n.Compression = "xz" }), exitVerify, []string{aboutLib, aboutFile, "xz: file format"}},
		{"bomb", sealed(func([]byte) []byte {
			var b bytes.Buffer
			w, _ := zstd.NewWriter(&b)
			w.Write(append(cachetest.Strings("nix-archive-1", "(", "type", "regular", "contents"), length64(1<<28)...))
			io.CopyN(w, nothing{}, 1<<28)
			w.Close()
			return b.Bytes()
		}), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"bomb of xz", packed("xz", bomb, nil), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"bomb of gzip", packed("gzip", bomb, nil), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"bomb of brotli", packed("br", bomb, nil), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"truncated xz", packed("xz", nil, func(b []byte) []byte { return b[:len(b)-40] }), exitVerify, []string{aboutLib, aboutFile, "xz"}},
		{"garbage behind xz", packed("xz", nil, func(b []byte) []byte { return append(b, "garbage!"...) }), exitVerify, []string{aboutLib, aboutFile, "xz"}},
		{"another stream behind xz", packed("xz", nil, func(b []byte) []byte { return append(b, b...) }), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"flipped bit in xz", packed("xz", nil, func(b []byte) []byte { b[len(b)/2] ^= 4; return b }), exitVerify, []string{aboutLib, aboutFile, "xz"}},
		{"truncated gzip", packed("gzip", nil, func(b []byte) []byte { return b[:len(b)-9] }), exitVerify, []string{aboutLib, aboutFile, "gzip"}},
		{"truncated lz4", packed("lz4", nil, func(b []byte) []byte { return b[:len(b)-9] }), exitVerify, []string{aboutLib, aboutFile, "lz4"}},
		{"window of 2 TiB", sealed(func([]byte) []byte { return zstdFrame(0xf8) }), exitVerify, []string{aboutLib, aboutFile, "unpack zstd"}},
		{"dictionary of 4 GiB", both(sealed(func([]byte) []byte {
			// A block whose header asks for the largest dictionary that LZMA2 has.
			checked := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }
			b := append([]byte("\xfd7zXZ\x00"), checked([]byte{0, 1})...)
			return append(b, checked([]byte{2, 0, 0x21, 1, 40, 0, 0, 0})...)
		}), change(func(n *binarycache.NARInfo) { n.Compression = "xz"; n.FileHash, n.FileSize = closure.Hash{}, 0 })), exitVerify, []string{aboutLib, aboutFile, "dictionary size"}},
		{"other contents", func(c *cacheTest) {
			n := c.info(c.lib)
			other := cachetest.NAR(c.T, cachetest.Lib, ".")
			other[len(other)/2] ^= 1
			c.Files[n.URL] = cachetest.Compress(c.T, n.Compression, other)
			change(func(n *binarycache.NARInfo) { n.FileHash, n.FileSize = closure.Hash{}, 0 })(c)
		}, exitVerify, []string{aboutLib, aboutFile, "NAR hash"}},
		{"NarSize too small", change(func(n *binarycache.NARInfo) { n.NARSize -= 8 }), exitVerify, []string{aboutLib, aboutFile, "more than"}},
		{"NarSize too great", change(func(n *binarycache.NARInfo) { n.NARSize += 8 }), exitVerify, []string{aboutLib, aboutFile, "bytes, want"}},

		// Archives, whose hashes and signatures are right.
		{"name ..", archive(dirBegin, dirEntry(".."), dirEnd), exitVerify, []string{aboutLib, aboutFile, `".."`}},
		{"name .", archive(dirBegin, dirEntry("."), dirEnd), exitVerify, []string{aboutLib, aboutFile, `"."`}},
		{"name ../x", archive(dirBegin, dirEntry("../x"), dirEnd), exitVerify, []string{aboutLib, aboutFile, "slash"}},
		{"absolute name", archive(dirBegin, dirEntry("/etc/passwd"), dirEnd), exitVerify, []string{aboutLib, aboutFile, "slash"}},
		{"empty name", archive(dirBegin, dirEntry(""), dirEnd), exitVerify, []string{aboutLib, aboutFile, "empty name"}},
		{"NUL in a name", archive(dirBegin, dirEntry("a\x00b"), dirEnd), exitVerify, []string{aboutLib, aboutFile, "zero byte"}},
		{"name of 1 MB", archive(dirBegin, dirEntry(strings.Repeat("x", 1<<20)), dirEnd), exitVerify, []string{aboutLib, aboutFile, "1048576"}},
		{"name twice", archive(dirBegin, dirEntry("a"), dirEntry("a"), dirEnd), exitVerify, []string{aboutLib, aboutFile, `"a"`}},
		{"names unsorted", archive(dirBegin, dirEntry("b"), dirEntry("a"), dirEnd), exitVerify, []string{aboutLib, aboutFile, `"a"`}},
		{"link used as a directory", archive(dirBegin, dirEntry("a", "(", "type", "symlink", "target", "/etc", ")"),
			dirEntry("a", "(", "type", "directory", "entry", "(", "name", "passwd", "node", "(", "type", "regular", "contents", "", ")", ")", ")"), dirEnd),
			exitVerify, []string{aboutLib, aboutFile, `"a"`}},
		{"entries below a link", archive(dirBegin, dirEntry("a", "(", "type", "symlink", "target", "/etc", "entry", ")"), dirEnd), exitVerify, []string{aboutLib, aboutFile}},
		{"empty link target", archive(dirBegin, dirEntry("a", "(", "type", "symlink", "target", "", ")"), dirEnd), exitVerify, []string{aboutLib, aboutFile, "target"}},
		{"unknown type", archive(dirBegin, dirEntry("a", "(", "type", "device", ")"), dirEnd), exitVerify, []string{aboutLib, aboutFile, "device"}},
		{"padding", archive(dirBegin, bytes.Replace(dirEntry("a"), append([]byte("a"), make([]byte, 7)...), []byte("a\x00\x00\x00\x00\x00\x00x"), 1), dirEnd),
			exitVerify, []string{aboutLib, aboutFile, "padded"}},
		{"contents of 2^63 bytes", archive(cachetest.Strings("nix-archive-1", "(", "type", "regular", "contents"), length64(1<<63)), exitVerify, []string{aboutLib, aboutFile}},
		{"contents of 2^62 bytes", archive(cachetest.Strings("nix-archive-1", "(", "type", "regular", "contents"), length64(1<<62-1)), exitVerify, []string{aboutLib, aboutFile}},
		{"string of 2^64-1 bytes", archive(length64(1<<64-1), make([]byte, 64)), exitVerify, []string{aboutLib, aboutFile}},
		{"too deep", archive(cachetest.Strings("nix-archive-1"), bytes.Repeat(cachetest.Strings("(", "type", "directory", "entry", "(", "name", "d", "node"), 3000)),
			exitVerify, []string{aboutLib, aboutFile, "4095"}},
		{"ends in the middle", archive(dirBegin, dirEntry("a")), exitVerify, []string{aboutLib, aboutFile, "ends"}},
		{"goes on after the end", archive(dirBegin, dirEnd, dirEnd), exitVerify, []string{aboutLib, aboutFile, "follow"}},
		{"no archive", archive([]byte("this is no archive at all")), exitVerify, []string{aboutLib, aboutFile}},
		{"10 million entries", func(c *cacheTest) {
			archive(dirBegin, dirEnd)(c)
			name := c.info(c.lib).URL
			change(func(n *binarycache.NARInfo) { n.FileHash, n.FileSize = closure.Hash{}, 0 })(c)
			c.Handlers[name] = func(w http.ResponseWriter, r *http.Request) {
				w.Write(dirBegin)
				for i := range 10_000_000 {
					if _, err := w.Write(dirEntry(fmt.Sprintf("%08d", i))); err != nil {
						return
					}
				}
			}
		}, exitVerify, []string{aboutLib, aboutFile, "more than"}},

		// Networks.
		{"connection dropped each time", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100000")
			w.Write(make([]byte, 10))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}), exitNetwork, []string{aboutLib, aboutFile, "5 times"}},
		{"connection dropped at once", serve(func(*cacheTest, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			exitNetwork, []string{aboutLib, aboutFile, "5 times"}},
		{"connection dropped half-way", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			b := c.Files[c.info(c.lib).URL]
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:len(b)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}), exitNetwork, []string{aboutLib, aboutFile, "5 times"}},
		{"another part than asked for", func(c *cacheTest) {
			var n atomic.Int32
			serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
				b := c.Files[c.info(c.lib).URL]
				if n.Add(1) == 1 {
					w.Header().Set("Content-Length", fmt.Sprint(len(b)))
					w.Write(b[:5])
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-4/%d", len(b)))
				w.WriteHeader(206)
				w.Write(b[:5])
			})(c)
		}, exitNetwork, []string{aboutLib, aboutFile, "another part"}},
		{"slow-loris: no header", serve(func(_ *cacheTest, _ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
			exitNetwork, []string{aboutLib, aboutFile, "sends nothing"}},
		{"slow-loris: no contents", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), exitNetwork, []string{aboutLib, aboutFile, "sends nothing"}},
		{"slow-loris: byte by byte", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			for _, b := range c.Files[c.info(c.lib).URL] {
				if _, err := w.Write([]byte{b}); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}), exitNetwork, []string{aboutLib, aboutFile, "5 times"}},
		{"redirect loop", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		}),
			exitNetwork, []string{aboutLib, aboutFile, "redirects"}},
		{"redirect to nowhere", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "gopher://x/", http.StatusFound)
		}),
			exitNetwork, []string{aboutLib, aboutFile, "gopher"}},
		{"encoding that is none", serve(func(c *cacheTest, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			c.Serve(w, r)
		}), exitNetwork, []string{aboutLib, aboutFile, "encoding"}},
		{"bomb in a narinfo", func(c *cacheTest) {
			b := cachetest.Compress(c.T, "gzip", make([]byte, 1<<26))
			c.Handlers[c.lib.Digest()+".narinfo"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				w.Write(b)
			}
		}, exitNetwork, []string{aboutLib, libInfo, "longer"}},
		{"narinfo 500", func(c *cacheTest) {
			c.Handlers[c.lib.Digest()+".narinfo"] = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }
		}, exitNetwork, []string{aboutLib, libInfo, "500"}},
		{"no nix-cache-info", func(c *cacheTest) { delete(c.Files, "nix-cache-info") }, exitNetwork, []string{"nix-cache-info", "no binary cache"}},
		{"nix-cache-info makes no sense", func(c *cacheTest) { c.Files["nix-cache-info"] = []byte("Priority: high\n") }, exitClosure, []string{"nix-cache-info", "Priority"}},
		{"cache of another store", func(c *cacheTest) { c.Files["nix-cache-info"] = []byte("StoreDir: /opt/store\n") }, exitClosure, []string{"app-1.0"}},
		{"connection refused", func(c *cacheTest) { c.closeServer() }, exitNetwork, []string{"nix-cache-info", "refused"}},
	}
	if len(tests) < 60 {
		t.Errorf("%d cases", len(tests))
	}
	for i, format := range [][]string{{"--squashfs", "-o"}, {"--tag", "app:1", "--oci-archive"}} {
		for j, test := range tests {
			if testing.Short() && i != j%2 { // each case once, and both formats often
				continue
			}
			t.Run(format[0]+"/"+test.name, func(t *testing.T) {
				c := newCacheTest(t)
				c.format = format
				test.spoil(c)
				b := c.build()
				if b.code != test.code {
					t.Errorf("exit code %d, want %d", b.code, test.code)
				}
				for _, want := range append(test.want, c.url) {
					if !strings.Contains(b.stderr, want) {
						t.Errorf("no %q in the message", want)
					}
				}
				if b.left != "" {
					t.Errorf("left behind: %s", b.left)
				}
				if t.Failed() {
					t.Log(b.stderr)
				}
			})
		}
	}
}

type nothing struct{}

func (nothing) Read(p []byte) (int, error) { clear(p); return len(p), nil }
