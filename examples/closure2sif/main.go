// Closure2sif writes the closure of a store path as a SIF.
//
//	go run ./examples/closure2sif ./result result.sif
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: closure2sif STORE-PATH OUTPUT")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "closure2sif:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arg, name string) error {
	store, err := nixdb.OpenStore("")
	if err != nil {
		return err
	}
	defer store.Close()
	c, err := store.Closure(ctx, arg)
	if err != nil {
		return err
	}
	result, err := sif.WriteFile(ctx, name, &image.Image{Closure: c}, nil, nil)
	if err != nil {
		return err
	}
	fmt.Println(result.ID)
	return nil
}
