// Cache2registry sends the closure of a store path from a binary cache to a registry, with no file in between.
//
//	go run ./examples/cache2registry https://cache.example.org "$KEY" /nix/store/...-app registry.example.org/app:1.0
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/binarycache"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/registry"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 5 {
		log.Fatal("usage: cache2registry CACHE KEY STORE-PATH REFERENCE")
	}
	ctx, ref := context.Background(), must(name.ParseReference(os.Args[4]))
	cache := must(binarycache.Open(ctx, os.Args[1], nil))
	source := &binarycache.Source{Caches: []*binarycache.Cache{cache}, Trust: must(binarycache.ParseTrust(os.Args[2]))}
	c := must(source.Closure(ctx, must(closure.ParsePath(os.Args[3]))))
	img := must(oci.Build(ctx, &image.Image{Closure: c}, nil, nil))
	defer img.Close()
	fmt.Println(must(registry.Push(ctx, ref, img, &registry.Runtime{Keychain: authn.DefaultKeychain})))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
