// Package cachetest makes small binary caches for tests and examples.
//
// Where a function takes a [testing.TB] that is nil, as in an example, what goes wrong is a panic.
package cachetest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/nar"
)

// Cache is a binary cache: its files by name. It is also a handler that serves them.
type Cache struct {
	Files map[string][]byte
	// Handlers answer for some files instead.
	Handlers map[string]http.HandlerFunc
}

// New returns a cache without objects.
func New() *Cache {
	return &Cache{
		Files:    map[string][]byte{"nix-cache-info": []byte("StoreDir: /nix/store\nPriority: 30\n")},
		Handlers: make(map[string]http.HandlerFunc),
	}
}

func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if h := c.Handlers[name]; h != nil {
		h(w, r)
		return
	}
	c.Serve(w, r)
}

// Serve serves a file.
func (c *Cache) Serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	b, ok := c.Files[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(b))[:16]))
	if len(b) == 0 { // ServeContent has its own ideas of it
		return
	}
	http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(b))
}

// Path returns a store path with a digest that has nothing to do with anything but the name.
func Path(name string) closure.Path {
	const digits = "0123456789abcdfghijklmnpqrsvwxyz"
	sum := sha256.Sum256([]byte(name))
	var d [32]byte
	for i, c := range sum {
		d[i] = digits[c%32]
	}
	return closure.Path("/nix/store/" + string(d[:]) + "-" + name)
}

// Key returns a key made from its name.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// KeyName is the name of the key by which Add signs.
const KeyName = "test-1"

// PublicKey is that key as users write it.
func PublicKey() string {
	return KeyName + ":" + base64.StdEncoding.EncodeToString(Key(KeyName).Public().(ed25519.PublicKey))
}

// Sign adds a signature.
func Sign(n *binarycache.NARInfo, name string, key ed25519.PrivateKey) {
	n.Sigs = append(n.Sigs, binarycache.Signature{Name: name, Sig: ed25519.Sign(key, []byte(n.Fingerprint()))})
}

// Add packs an object, signs it, and puts it into the cache.
func (c *Cache) Add(t testing.TB, p closure.Path, archive []byte, compression string, refs ...closure.Path) *binarycache.NARInfo {
	if t != nil {
		t.Helper()
	}
	file := Compress(t, compression, archive)
	n := &binarycache.NARInfo{
		Object: closure.Object{
			Path: p, NARHash: sha256.Sum256(archive), NARSize: int64(len(archive)), References: slices.Sorted(slices.Values(refs)),
		},
		URL:         fmt.Sprintf("nar/%x.nar.%s", sha256.Sum256(file), compression),
		Compression: compression,
		FileHash:    sha256.Sum256(file),
		FileSize:    int64(len(file)),
	}
	Sign(n, KeyName, Key(KeyName))
	c.Files[n.URL] = file
	c.Put(n)
	return n
}

// Put puts a narinfo into the cache as it is.
func (c *Cache) Put(n *binarycache.NARInfo) { c.Files[n.Path.Digest()+".narinfo"] = []byte(n.String()) }

// NAR returns the archive of a file system.
func NAR(t testing.TB, fsys fs.FS, root string) []byte {
	if t != nil {
		t.Helper()
	}
	var b bytes.Buffer
	if err := nar.Dump(&b, fsys, root); err != nil {
		fatal(t, err)
	}
	return b.Bytes()
}

// Strings returns strings as they are in a NAR.
func Strings(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = append(append(b, s...), make([]byte, -len(s)&7)...)
	}
	return b
}

// Closure adds an application, the library that it needs, and what that needs,
// and returns their paths, the application first.
func (c *Cache) Closure(t testing.TB, compression string) []closure.Path {
	app, lib, data := Path("app-1.0"), Path("lib-2.0"), Path("data")
	c.Add(t, data, NAR(t, Data, "data"), compression)
	c.Add(t, lib, NAR(t, Lib, "."), compression, data, lib)
	c.Add(t, app, NAR(t, App, "."), compression, lib, data)
	return []closure.Path{app, lib, data}
}

// Files of the objects of Closure.
var (
	App = fstest.MapFS{
		"bin/app":  {Data: []byte("#!/bin/sh\necho app\n"), Mode: 0o755},
		"bin/link": {Data: []byte("app"), Mode: fs.ModeSymlink},
	}
	Lib = fstest.MapFS{
		"lib/lib.so": {Data: bytes.Repeat([]byte("library\n"), 50000)},
		"empty":      {Mode: fs.ModeDir},
		"include/lib.h": {
			Data: []byte("int lib(void);\n"),
		},
	}
	Data = fstest.MapFS{"data": {Data: []byte("some data\n")}}
)

// Compress packs b. For bzip2, which Go cannot write, there must be a file of the same contents.
func Compress(t testing.TB, compression string, b []byte) []byte {
	if t != nil {
		t.Helper()
	}
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case "none":
		return b
	case "xz":
		w, err = xz.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "gzip":
		w = gzip.NewWriter(&out)
	case "br":
		w = brotli.NewWriter(&out)
	case "lz4":
		w = lz4.NewWriter(&out)
	default:
		fatal(t, fmt.Errorf("no compressor for %s", compression))
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		fatal(t, err)
	}
	return out.Bytes()
}

func fatal(t testing.TB, err error) {
	if t == nil {
		panic(err)
	}
	t.Fatal(err)
}
