package layout_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log"
	"os"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci/layout"
)

// An image is put into a layout, found there by its tag, and looked into. Nothing is unpacked.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "layout-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: "etc/motd", Mode: 0o644, Size: 6}); err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(w, "Hello\n")
	w.Close()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(archive.Bytes(), types.OCIUncompressedLayer))
	if err != nil {
		log.Fatal(err)
	}

	written, err := layout.Write(ctx, dir, "app:1.0", img)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(written.Blobs, "blobs")

	stored, err := layout.Open(dir+":app:1.0", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer stored.Close()
	files, err := stored.Files(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer files.Close()
	motd, err := fs.ReadFile(files, "etc/motd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(motd))
	// Output:
	// 2 blobs
	// Hello
}
