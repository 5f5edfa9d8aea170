// Closure2sif writes the closure of a store path as a SIF.
//
//	go run ./examples/closure2sif "$(realpath result)" result.sif
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/nix2img/nix2img/closure"
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
	root, err := closure.ParsePath(arg)
	if err != nil {
		return err
	}
	db, err := nixdb.Open("/nix/var/nix/db")
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := db.Closure(ctx, "/nix/store", root)
	if err != nil {
		return err
	}
	c.Files = closure.DirFS("/nix/store")

	result, err := sif.WriteFile(ctx, name, &image.Image{Closure: c}, nil, nil)
	if err != nil {
		return err
	}
	fmt.Println(result.ID)
	return nil
}
