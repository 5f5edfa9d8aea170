package sif_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func ExampleWrite() {
	ctx := context.Background()

	// The closure comes from a file here. Package nixdb has it from a store.
	stream, err := os.Open("../testdata/hello.export")
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	info, err := stream.Stat()
	if err != nil {
		log.Fatal(err)
	}
	c, err := export.Open(ctx, stream, info.Size())
	if err != nil {
		log.Fatal(err)
	}

	f, err := os.CreateTemp("", "*.sif")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	img := &image.Image{Closure: c, Config: image.Config{Labels: map[string]string{"org.example.answer": "42"}}}
	res, err := sif.Write(ctx, f, img, nil, nil)
	if err != nil {
		log.Fatal(err)
	}

	h := sha256.New()
	io.Copy(h, io.NewSectionReader(f, 0, res.Size))
	fmt.Println(res.ID)
	fmt.Printf("%x\n", h.Sum(nil))
	// Output:
	// sha256:48ec66bc5ccf3ba49b3f1e53c13aafa8b285efdc01888a9d421e3a0ffcc2092e
	// e7ac70bff0f4d0e8be76c6f8a5662554e908900fa3d422a27a149900ad18bfd5
}
