package binarycache_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
	"github.com/nix2img/nix2img/closure/narhash"
)

// serve is a web server with a cache of two objects, signed by a key, and their path and that key.
func serve() (address, key string, root closure.Path, stop func()) {
	c := cachetest.New()
	lib, app := cachetest.Path("lib-2.0"), cachetest.Path("app-1.0")
	c.Add(nil, lib, cachetest.NAR(nil, cachetest.Data, "data"), "none")
	c.Add(nil, app, cachetest.NAR(nil, cachetest.App, "."), "none", lib)
	server := httptest.NewServer(c)
	return server.URL, cachetest.PublicKey(), app, server.Close
}

// A closure out of a binary cache. Its metadata are fetched and checked at once, its files when they are read.
func ExampleSource() {
	address, key, root, stop := serve() // usually https://cache.nixos.org and binarycache.DefaultKey
	defer stop()

	ctx := context.Background()
	cache, err := binarycache.Open(ctx, address, nil)
	if err != nil {
		log.Fatal(err)
	}
	trust, err := binarycache.ParseTrust(key)
	if err != nil {
		log.Fatal(err)
	}
	source := &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: trust}
	c, err := source.Closure(ctx, root)
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range c.Objects() {
		fmt.Println(o.Path.Name(), o.NARSize)
	}
	if err := narhash.Verify(ctx, c, 0); err != nil {
		log.Fatal(err)
	}
	fmt.Println("verified")
	// Output:
	// lib-2.0 128
	// app-1.0 696
	// verified
}

func ExampleParseNARInfo() {
	n, err := binarycache.ParseNARInfo("/nix/store", []byte(realInfo))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(n.Path.Name(), n.NARSize, n.Compression)
	fmt.Println(strings.Split(n.Fingerprint(), ";")[0:2])
	// Output:
	// glibc-2.36 12794400 xz
	// [1 /nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36]
}
