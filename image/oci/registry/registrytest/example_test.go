package registrytest_test

import (
	"fmt"
	"log"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// A registry that counts what comes.
func ExampleNew() {
	reg := registrytest.New(nil)
	defer reg.Close()
	ref, err := name.ParseReference(reg.Host + "/empty:1.0")
	if err != nil {
		log.Fatal(err)
	}
	if err := remote.Write(ref, empty.Image); err != nil {
		log.Fatal(err)
	}
	received, requests := reg.Reset()
	fmt.Println(reg.Has("empty", "1.0"), received)
	fmt.Println(requests[0])
	// Output:
	// true 115
	// GET /v2/
}
