package squash_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/squash"
)

func ExampleWrite() {
	ctx := context.Background()
	stream, err := os.Open("../../testdata/hello.export")
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

	f, err := os.CreateTemp("", "*.squashfs")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	res, err := squash.Write(ctx, f, &image.Image{Closure: c}, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(res.ID)
	// Output:
	// sha256:342d933c138da85a418daf9e4fdedf65e09d52931fa9413689c8bdc6d235b585
}
