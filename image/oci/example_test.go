package oci_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
)

// The layers of the store are the same on every machine. The one of the base files comes last.
func ExampleBuild() {
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

	img, err := oci.Build(ctx, &image.Image{Closure: c}, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer img.Close()
	layers, err := img.Layers()
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range layers[:len(layers)-1] {
		digest, err := l.Digest()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(digest)
	}
	// Output:
	// sha256:1f18ff0c8de4f7476196ff093964f923bf95b67a76e002a28cc5ca45d3b713a2
	// sha256:22a006e2e42c0003da30745e2f3c0264af16ad762125eaabcea38869a741f74c
	// sha256:c8e0a79f7b2b345477ddf575ea61abdef56535a521e7bdc657f46686dce9f342
	// sha256:cafa2f753fb97de59891e7577bd8d3d70205692bbe051d84bad4240d2a8856dd
	// sha256:6f0f53d6cac15fc3f6094b2c8a8c97bff237b8101129dea9d34d462da15aa410
	// sha256:4f538a78adb9da6dda23c9fb64986844b6b16d3f5a3942dc642188628f427f87
}
