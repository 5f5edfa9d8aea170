package nixdb_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/closure/nixdb/nixdbtest"
)

// exampleStore makes the database of a store with two objects.
func exampleStore() (root string) {
	glibc := closure.Object{Path: "/nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36", NARSize: 12794400}
	glibc.NARHash, _ = closure.ParseHash("sha256:e7df6ca7077ea0356b3487590f7ecf751109297b1de4f32ceba9596d43fe77fd")
	glibc.References = []closure.Path{glibc.Path}
	hello := closure.Object{Path: "/nix/store/713340nl6bnvj6x2y5744vn22rdvir17-hello-2.10", NARSize: 165744}
	hello.NARHash, _ = closure.ParseHash("sha256:33f0a5a0fa6323dbd72242394e3ba6e579ac9ff52888b1cb16e0cef617f91554")
	hello.References = []closure.Path{glibc.Path}
	c, err := closure.New(nil, []closure.Object{glibc, hello})
	if err != nil {
		log.Fatal(err)
	}
	if root, err = os.MkdirTemp("", "nixdb-example-"); err != nil {
		log.Fatal(err)
	}
	if err := nixdbtest.Write(root, c); err != nil {
		log.Fatal(err)
	}
	return root
}

// A closure of the store of this machine. Its files come along.
func ExampleOpenStore() {
	root := exampleStore() // usually "", for /nix/store
	defer os.RemoveAll(root)

	st, err := nixdb.OpenStore(root)
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	// A link such as ./result would do as well.
	c, err := st.Closure(context.Background(), "/nix/store/713340nl6bnvj6x2y5744vn22rdvir17-hello-2.10/bin/hello")
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range c.Objects() {
		fmt.Println(o.Path.Name(), o.NARSize, o.NARHash)
	}
	// Output:
	// glibc-2.36 12794400 sha256-599spwd+oDVrNIdZD37PdREJKXsd5PMs66lZbUP+d/0=
	// hello-2.10 165744 sha256-M/CloPpjI9vXIkI5Tjum5Xmsn/UoiLHLFuDO9hf5FVQ=
}
