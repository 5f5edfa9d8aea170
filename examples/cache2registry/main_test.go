package main

import (
	"bytes"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nix2img/nix2img/closure/binarycache/cachetest"
	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"cache2registry": main}) }

// What comes from a cache has the bytes of what comes from a stream.
func TestCacheToRegistry(t *testing.T) {
	stream, err := os.ReadFile("../../testdata/hello.export")
	if err != nil {
		t.Fatal(err)
	}
	c, err := export.Open(t.Context(), bytes.NewReader(stream), int64(len(stream)))
	if err != nil {
		t.Fatal(err)
	}
	cache := cachetest.New()
	for _, o := range c.Objects() {
		cache.Add(t, o.Path, cachetest.NAR(t, c.Files, o.Path.Base()), "xz", o.References...)
	}
	server := httptest.NewServer(cache)
	defer server.Close()
	tag := registrytest.New(t).Host + "/group/hello:1.0"
	t.Setenv("DOCKER_CONFIG", t.TempDir())

	out, err := exec.Command("cache2registry", server.URL, cachetest.PublicKey(), string(c.Roots()[0]), tag).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ref, err := name.ParseReference(tag)
	if err != nil {
		t.Fatal(err)
	}
	pulled, digest, err := registry.Pull(t.Context(), ref, v1.Platform{OS: "linux", Architecture: "amd64"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled); err != nil {
		t.Error(err)
	}
	img, err := oci.Build(t.Context(), &image.Image{Closure: c}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != digest.String() || digest.DigestStr() != want.String() {
		t.Errorf("the program says %s, the registry has %s, want %s", got, digest, want)
	}
	// Nobody is trusted who has not signed.
	out, err = exec.Command("cache2registry", server.URL, "test-2:"+strings.Repeat("A", 43)+"=", string(c.Roots()[0]), tag).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sign") {
		t.Errorf("%v: %s", err, out)
	}
}
