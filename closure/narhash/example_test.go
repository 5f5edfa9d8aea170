package narhash_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure/narhash"
)

func ExampleSum() {
	files := fstest.MapFS{
		"00bgd045z0d4icpbc2yyz4gx48ak44la-hello/bin/hello": {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
	}
	hash, size, err := narhash.Sum(context.Background(), files, "00bgd045z0d4icpbc2yyz4gx48ak44la-hello")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(size, hash)
	// Output: 504 sha256-veukuHzfrUB87/tCe1AT8Dz/LRMSEY2WjDHvLFy8KRA=
}
