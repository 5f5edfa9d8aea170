package sif_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

func ExampleWriteFile() {
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

	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "hello.sif")
	img := &image.Image{Closure: c, Config: image.Config{Labels: map[string]string{"org.example.answer": "42"}}}
	res, err := sif.WriteFile(ctx, name, img, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.ID)
	fmt.Printf("%x\n", sha256.Sum256(data))
	// Output:
	// sha256:6b1c62fb24288af2c0fde6202cfdfbe201a21a3c07307fe020ddc917db607ac3
	// 922097c6dd3a9c354d85259ea3f1e310c4a6a370094c136965f0bf17a2b4835b
}
