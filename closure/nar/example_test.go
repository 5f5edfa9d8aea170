package nar_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"log"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure/nar"
)

// The hash by which Nix knows a file tree is the SHA-256 of its archive.
func ExampleDump() {
	files := fstest.MapFS{
		"bin/hello":        {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
		"share/doc/README": {Data: []byte("Run hello.\n")},
		"share/man":        {Data: []byte("doc"), Mode: fs.ModeSymlink},
	}
	hash := sha256.New()
	if err := nar.Dump(hash, files, "."); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", hash.Sum(nil))
	// Output: 9e05d5642ca0bc99b91913c73025faaef0bdf14e1f5fa66b1f3d30f535424891
}

func ExampleReader() {
	var archive bytes.Buffer
	w := nar.NewWriter(&archive)
	w.WriteHeader(&nar.Header{Path: ".", Mode: fs.ModeDir})
	w.WriteHeader(&nar.Header{Path: "motto", Size: 8})
	io.WriteString(w, "festina\n")
	w.WriteHeader(&nar.Header{Path: "slogan", Mode: fs.ModeSymlink, LinkTarget: "motto"})
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes\n", archive.Len())

	r := nar.NewReader(&archive)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%v %s %q\n", h.Mode, h.Path, h.LinkTarget)
	}
	// Output:
	// 480 bytes
	// dr-xr-xr-x . ""
	// -r--r--r-- motto ""
	// Lrwxrwxrwx slogan "motto"
}
