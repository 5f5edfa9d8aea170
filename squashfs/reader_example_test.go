package squashfs_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"

	"github.com/nix2img/nix2img/squashfs"
)

// List the files of an image, with a digest of each.
func ExampleOpen() {
	f, err := os.Open("testdata/plain.img")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	fsys, err := squashfs.Open(f)
	if err != nil {
		log.Fatal(err)
	}
	err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		file, err := fsys.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		h := sha256.New()
		if _, err := io.Copy(h, file); err != nil {
			return err
		}
		fmt.Printf("%x %s\n", h.Sum(nil)[:8], name)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// 64896f89fd111900 a/b/c/deep
	// 7e4fa2eb8c7ac089 a/b/other
	// 080ec90ad19d643a big
	// e3b0c44298fc1c14 empty
}
