package sif_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/sif"
)

// helloClosure is a closure that comes from a file. Package nixdb has closures from a store.
func helloClosure(ctx context.Context) *closure.Closure {
	data, err := os.ReadFile("../testdata/hello.export")
	if err != nil {
		log.Fatal(err)
	}
	c, err := export.Open(ctx, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		log.Fatal(err)
	}
	return c
}

func ExampleWriteFile() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "hello.sif")
	img := &image.Image{Closure: helloClosure(ctx), Config: image.Config{Labels: map[string]string{"org.example.answer": "42"}}}
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
	// 8852efc1ee50521eced4d8334a10ac25672ca32a23198dc92189344a512ec6e2
}

func ExampleOpenFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx, name := context.Background(), filepath.Join(dir, "hello.sif")
	if _, err := sif.WriteFile(ctx, name, &image.Image{Closure: helloClosure(ctx)}, nil, nil); err != nil {
		log.Fatal(err)
	}

	f, err := sif.OpenFile(name)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	for _, o := range f.Objects {
		fmt.Println(o.ID, o.Type)
	}
	fsys, err := f.FS()
	if err != nil {
		log.Fatal(err)
	}
	// Names in an fs.FS are without a slash at the beginning.
	passwd, err := fs.ReadFile(fsys, "etc/passwd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", passwd)
	// Output:
	// 1 FS
	// 2 JSON.Generic
	// 3 JSON.Generic
	// 4 Def.FILE
	// root:x:0:0:root:/root:/bin/sh
	// nobody:x:65534:65534:nobody:/:/sbin/nologin
}
