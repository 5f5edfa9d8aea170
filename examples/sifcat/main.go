// Sifcat prints a file out of a SIF, without a container runtime.
//
//	go run ./examples/sifcat result.sif etc/passwd
package main

import (
	"io"
	"log"
	"os"

	"github.com/nix2img/nix2img/sif"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: sifcat SIF FILE")
	}
	f := must(sif.OpenFile(os.Args[1]))
	defer f.Close()
	file := must(must(f.FS()).Open(os.Args[2]))
	defer file.Close()
	must(io.Copy(os.Stdout, file))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}
