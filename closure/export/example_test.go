package export_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log"

	"github.com/nix2img/nix2img/closure/export"
)

func ExampleOpen() {
	file := bytes.NewReader(stream(sample...)) // usually an os.File
	c, err := export.Open(context.Background(), file, file.Size())
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range c.Objects() {
		fmt.Println(o.Path.Name(), o.NARSize, o.NARHash)
	}
	text, err := fs.ReadFile(c.Files, c.Roots()[0].Base()+"/bin/hello")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", text)
	// Output:
	// c 160 sha256-TYZG2TxKOfkAt4ZLI0mHugybr1KHIF+uSJ6fqSrZGKA=
	// b 300280 sha256-W13jND9Jz1yaVUh2w4A3Tmh9DilYx3gXCh/8zjJmmeg=
	// a 1136 sha256-vgwTwxjLKRKrIIP/iGgAogmj4fiCqfIBmnRbLmkdKHw=
	// #!/bin/sh
	// echo hello
}
