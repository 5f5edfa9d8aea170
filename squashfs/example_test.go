package squashfs_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/squashfs"
)

func ExampleWrite() {
	fsys := fstest.MapFS{
		"hello/bin/hello":  {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o555, ModTime: time.Unix(1, 0)},
		"hello/share/info": {Data: []byte("a greeting\n"), Mode: 0o444, ModTime: time.Unix(1, 0)},
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	// MapFS makes up directories, with the mode 0555 and the time 0 of its own.
	img, err := squashfs.Write(context.Background(), f, []squashfs.Tree{
		squashfs.FileTree("opt/hello", fsys, "hello"),
	}, nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, io.NewSectionReader(f, 0, img.Size)); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d inodes in %d bytes\nsha256:%x\n", img.Inodes, img.Size, digest.Sum(nil))
	// Output:
	// 7 inodes in 8192 bytes
	// sha256:8fd8019af1b599ef32f07be095efd3ac8d8fa8d2bae65090abf01129112bb545
}
