package registry_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// buildHello makes an image of a small closure.
func buildHello(ctx context.Context) *oci.Image {
	stream, err := os.Open("../../../testdata/hello.export")
	if err != nil {
		log.Fatal(err)
	}
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
	return img
}

func ExamplePush() {
	ctx := context.Background()
	img := buildHello(ctx)
	defer img.Close()
	reg := registrytest.New(nil) // one that runs here; usually it is registry.example.org
	defer reg.Close()

	ref, err := name.ParseReference(reg.Host + "/group/hello:1.0")
	if err != nil {
		log.Fatal(err)
	}
	missing, err := registry.Compare(ctx, ref, img, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(missing.Blobs), missing.Blobs[0].State)
	digest, err := registry.Push(ctx, ref, img, nil)
	if err != nil {
		log.Fatal(err)
	}
	again, err := registry.Compare(ctx, ref, img, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(again.There, again.Digest == digest)
	// Output:
	// 8 missing
	// true true
}

func ExamplePull() {
	ctx := context.Background()
	img := buildHello(ctx)
	defer img.Close()
	reg := registrytest.New(nil)
	defer reg.Close()
	ref, err := name.ParseReference(reg.Host + "/group/hello:1.0")
	if err != nil {
		log.Fatal(err)
	}
	pushed, err := registry.Push(ctx, ref, img, nil)
	if err != nil {
		log.Fatal(err)
	}

	pulled, digest, err := registry.Pull(ctx, ref, v1.Platform{OS: "linux", Architecture: "amd64"}, nil)
	if err != nil {
		log.Fatal(err)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(digest == pushed, config.Config.Entrypoint)
	// Output:
	// true [/nix/store/nhhpg2gnpyssb0z3d9fcnbl00w0r8q7k-hello-1.0/bin/hello]
}
