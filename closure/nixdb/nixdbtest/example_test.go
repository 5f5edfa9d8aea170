package nixdbtest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/closure/nixdb/nixdbtest"
)

// A store with one object.
func ExampleWrite() {
	c, err := closure.New(nil, []closure.Object{{Path: "/nix/store/1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12", NARSize: 1000}})
	if err != nil {
		log.Fatal(err)
	}
	c.Files = fstest.MapFS{"1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12/bin/hello": {Mode: 0o555}}
	root, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(root)
	if err := nixdbtest.Write(root, c); err != nil {
		log.Fatal(err)
	}

	st, err := nixdb.OpenStore(root)
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	c, err = st.Closure(context.Background(), "/nix/store/1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12/bin/hello")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Roots(), c.NARSize(), c.CheckFiles())
	// Output: [/nix/store/1c1pzwb8rpyf2ai3jmcq9zxgfqzrxbgd-hello-2.12] 1000 <nil>
}
