package image_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"log"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

func Example() {
	const hello = "/nix/store/1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12"

	// A closure of one static program, which a program would read from a store.
	c, err := closure.New(nil, []closure.Object{{
		Path:    hello,
		NARHash: sha256.Sum256([]byte("not its NAR")),
		NARSize: 1000,
	}})
	if err != nil {
		log.Fatal(err)
	}
	c.Files = fstest.MapFS{
		"1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12/bin/hello": {Data: elftest.Program("arm64", ""), Mode: 0o555},
	}

	img := &image.Image{
		Closure: c,
		Config:  image.Config{Env: []string{"GREETING=Hello!"}},
	}
	r, err := img.Resolve(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	record, err := r.Record()
	if err != nil {
		log.Fatal(err)
	}
	base, err := r.Base(context.Background(), record)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println(r.Arch, r.Config.Entrypoint)
	fmt.Println(digest(base))
	// Output:
	// arm64 [/nix/store/1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12/bin/hello]
	// d8d3ab0b4deb57de285ffae42775f3da58441eae8e7164c522ede87fb08aceaf
}

// digest returns a SHA-256 over the modes, names, and contents of all files.
func digest(fsys fs.FS) string {
	h := sha256.New()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%v %q %d\n", info.Mode(), name, info.Size())
		var data []byte
		switch info.Mode().Type() {
		case 0:
			data, err = fs.ReadFile(fsys, name)
		case fs.ModeSymlink:
			var target string
			target, err = fs.ReadLink(fsys, name)
			data = []byte(target)
		}
		h.Write(data)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
