package cachetest_test

import (
	"context"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
)

// A cache on a web server, as binarycache reads it.
func ExampleCache() {
	c := cachetest.New()
	n := c.Add(nil, cachetest.Path("data"), cachetest.NAR(nil, cachetest.Data, "data"), "xz")
	server := httptest.NewServer(c)
	defer server.Close()

	cache, err := binarycache.Open(context.Background(), server.URL, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(cache.StoreDir, cache.Priority)
	fmt.Println(n.Path.Name(), n.NARSize, n.Sigs[0].Name)
	// Output:
	// /nix/store 30
	// data 128 test-1
}
