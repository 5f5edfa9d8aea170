// Closure2sif writes the closure of a store path as a SIF. The store is "/", or the directory below which nix/store lies.
//
//	go run ./examples/closure2sif / ./result result.sif
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: closure2sif STORE STORE-PATH OUTPUT")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store := must(nixdb.OpenStore(os.Args[1]))
	defer store.Close()
	c := must(store.Closure(ctx, os.Args[2]))
	result := must(sif.WriteFile(ctx, os.Args[3], &image.Image{Closure: c}, nil, nil))
	fmt.Println(result.ID)
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
