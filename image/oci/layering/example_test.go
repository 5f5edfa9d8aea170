package layering_test

import (
	"fmt"
	"log"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/oci/layering"
)

// What changes most often lies last, and what does not change with it is not pulled again.
func Example() {
	object := func(name string, size int64, refs ...closure.Path) closure.Object {
		path := closure.Path("/nix/store/00000000000000000000000000000000-" + name)
		return closure.Object{Path: path, NARHash: closure.Hash{1}, NARSize: size, References: refs}
	}
	glibc := object("glibc-2.40", 30_000_000)
	python := object("python3-3.12.4", 90_000_000, glibc.Path)
	numpy := object("python3.12-numpy-2.1", 40_000_000, python.Path)
	app := object("app-1.0", 1_000_000, python.Path, numpy.Path)
	c, err := closure.New([]closure.Path{app.Path}, []closure.Object{glibc, python, numpy, app})
	if err != nil {
		log.Fatal(err)
	}

	opts := &layering.Options{Max: 4} // one of them is that of the base files
	layers, err := opts.Plan(c)
	if err != nil {
		log.Fatal(err)
	}
	for i, layer := range layers {
		for _, o := range layer {
			fmt.Println(i, o.Path.Name())
		}
	}
	for _, change := range layering.Changes(c, layers) {
		fmt.Printf("%s: %d MB to pull\n", change.Name, change.Bytes/1_000_000)
	}
	// Output:
	// 0 glibc-2.40
	// 0 python3-3.12.4
	// 1 python3.12-numpy-2.1
	// 2 app-1.0
	// the application: 21 MB to pull
	// one Python module: 41 MB to pull
	// python: 161 MB to pull
	// glibc: 161 MB to pull
}
