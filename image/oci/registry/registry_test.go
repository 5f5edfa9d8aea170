package registry

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

// fast has no time to lose. Blobs of the tests have several pieces.
func fast() *Runtime { return &Runtime{Pause: time.Millisecond, ChunkSize: 10_000} }

func parse(t *testing.T, host, rest string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(host + rest)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func randomImage(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(25_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustPush(t *testing.T, ref name.Reference, m Manifest, rt *Runtime) name.Digest {
	t.Helper()
	digest, err := Push(t.Context(), ref, m, rt)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// same has go-containerregistry fetch an image and check every digest.
func same(t *testing.T, ref name.Reference, want v1.Image) {
	t.Helper()
	got, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got); err != nil {
		t.Error(err)
	}
	a, _ := got.Digest()
	b, _ := want.Digest()
	if a != b {
		t.Errorf("the registry has %s, was sent %s", a, b)
	}
}

// theirs is go-containerregistry's own registry.
func theirs(t *testing.T, opts ...ggcr.Option) string {
	s := httptest.NewServer(ggcr.New(append(opts, ggcr.Logger(log.New(io.Discard, "", 0)))...))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestPushPull(t *testing.T) {
	for _, reg := range []struct{ name, host string }{
		{"ours", registrytest.New(t).Host},
		{"theirs", theirs(t)},
	} {
		for _, rt := range []*Runtime{nil, fast(), {Jobs: 1, ChunkSize: 1 << 20}} {
			t.Run(reg.name, func(t *testing.T) {
				img := randomImage(t)
				ref := parse(t, reg.host, "/a/b:tag")
				digest := mustPush(t, ref, img, rt)
				same(t, ref, img)
				got, pulled, err := Pull(t.Context(), digest, v1.Platform{}, rt)
				if err != nil {
					t.Fatal(err)
				}
				if err := validate.Image(got); err != nil {
					t.Error(err)
				}
				if pulled != digest {
					t.Errorf("pulled %s, pushed %s", pulled, digest)
				}
			})
		}
	}
}

func TestPushSendsOnlyWhatIsMissing(t *testing.T) {
	reg := registrytest.New(t)
	img := randomImage(t)
	ref := parse(t, reg.Host, "/app:1")
	var last Progress
	rt := fast()
	rt.Progress = func(p Progress) { last = p }
	mustPush(t, ref, img, rt)
	if sent, _ := reg.Reset(); sent != last.Total || last.Done != sent || last.Sent != sent || sent < 75_000 {
		t.Errorf("%d bytes have arrived, and progress ended with %+v", sent, last)
	}
	mustPush(t, ref, img, rt)
	if sent, requests := reg.Reset(); sent != 0 || len(requests) > 4 {
		t.Errorf("again: %d bytes, %q", sent, requests)
	}
	mustPush(t, parse(t, reg.Host, "/app:2"), img, rt)
	if sent, _ := reg.Reset(); sent != 0 {
		t.Errorf("by another tag: %d bytes", sent)
	}
	extra, err := random.Layer(1000, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := mutate.AppendLayers(img, extra)
	if err != nil {
		t.Fatal(err)
	}
	mustPush(t, ref, changed, rt)
	layer, _ := extra.Size()
	config, _ := changed.RawConfigFile()
	if sent, _ := reg.Reset(); sent != layer+int64(len(config)) {
		t.Errorf("changed: %d bytes, want %d and %d", sent, layer, len(config))
	}
	same(t, ref, changed)

	rt.MountFrom = []name.Repository{ref.Context()}
	other := parse(t, reg.Host, "/other:1")
	mustPush(t, other, changed, rt)
	if sent, _ := reg.Reset(); sent != 0 {
		t.Errorf("to a repository that may mount: %d bytes", sent)
	}
	same(t, other, changed)
}

// Compare says what Push does, and changes nothing.
func TestCompare(t *testing.T) {
	reg := registrytest.New(t)
	img := randomImage(t)
	mustPush(t, parse(t, reg.Host, "/base:1"), img, fast())
	extra, err := random.Layer(1000, "application/vnd.oci.image.layer.v1.tar+gzip")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := mutate.AppendLayers(img, extra)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}, mutate.IndexAddendum{Add: changed})
	for _, test := range []struct {
		to        string
		m         Manifest
		from      []name.Repository
		want, did string
	}{
		{"/base:2", changed, nil, "present 3, missing 2", "sent 2, present 3"},
		{"/other:1", changed, nil, "missing 5", "sent 5"},
		{"/mounted:1", changed, []name.Repository{parse(t, reg.Host, "/mounted").Context(), parse(t, reg.Host, "/base").Context()},
			"mounted 5", "mounted 5"},
		{"/index:1", idx, nil, "missing 9", "sent 6, present 3"},
	} {
		rt := fast()
		rt.MountFrom = test.from
		ref := parse(t, reg.Host, test.to)
		reg.Reset()
		d, err := Compare(t.Context(), ref, test.m, rt)
		if err != nil {
			t.Fatal(err)
		}
		sent, requests := reg.Reset()
		if sent != 0 || d.There {
			t.Errorf("%s: %d bytes have arrived, it is there: %v", test.to, sent, d.There)
		}
		for _, r := range requests {
			if !strings.HasPrefix(r, "HEAD ") && r != "GET /v2/" {
				t.Errorf("%s: %s", test.to, r)
			}
		}
		if got := states(d.Blobs); got != test.want {
			t.Errorf("%s: %s, want %s", test.to, got, test.want)
		}
		var blobs []Blob
		rt.Blob = func(b Blob) { blobs = append(blobs, b) }
		digest := mustPush(t, ref, test.m, rt)
		if got := states(blobs); got != test.did {
			t.Errorf("%s: %s, want %s", test.to, got, test.did)
		}
		again, err := Compare(t.Context(), ref, test.m, rt)
		if err != nil {
			t.Fatal(err)
		}
		if d.Digest != digest || !again.There || len(again.Blobs) > 0 {
			t.Errorf("%s: %v, then %v, pushed %s", test.to, d.Digest, again, digest)
		}
	}
}

// states counts what has become of blobs.
func states(blobs []Blob) string {
	var n [Fetched + 1]int
	for _, b := range blobs {
		n[b.State]++
	}
	var list []string
	for _, s := range []State{Mounted, Sent, Present, Missing, Fetched} {
		if n[s] > 0 {
			list = append(list, fmt.Sprint(s, " ", n[s]))
		}
	}
	return strings.Join(list, ", ")
}

// A layer that the registry has is not opened.
func TestPushDoesNotReadWhatIsThere(t *testing.T) {
	reg := registrytest.New(t)
	img := randomImage(t)
	mustPush(t, parse(t, reg.Host, "/app:1"), img, fast())
	layers, _ := img.Layers()
	sealed := empty.Image
	for _, l := range layers {
		var err error
		if sealed, err = mutate.AppendLayers(sealed, unreadable{l}); err != nil {
			t.Fatal(err)
		}
	}
	ref := parse(t, reg.Host, "/app:2")
	mustPush(t, ref, sealed, fast())
	same(t, ref, sealed)

	_, err := Push(t.Context(), parse(t, reg.Host, "/elsewhere:2"), sealed, fast())
	if !errors.Is(err, errSealed) || is[*Error](err) {
		t.Errorf("error %v, want that of the layer", err)
	}
}

var errSealed = errors.New("sealed")

type unreadable struct{ v1.Layer }

func (unreadable) Compressed() (io.ReadCloser, error) { return nil, errSealed }

func TestPushIndex(t *testing.T) {
	reg := registrytest.New(t)
	forArch := func(arch string) v1.Image {
		img := randomImage(t)
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config.OS, config.Architecture = "linux", arch
		img, err = mutate.ConfigFile(img, config)
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
	amd, arm := forArch("amd64"), forArch("arm64")
	idx := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	ref := parse(t, reg.Host, "/app:1")
	mustPush(t, ref, idx, fast())
	got, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(got); err != nil {
		t.Error(err)
	}
	img, digest, err := Pull(t.Context(), ref, v1.Platform{OS: "linux", Architecture: "arm64"}, fast())
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := arm.Digest(); digest.DigestStr() != want.String() {
		t.Errorf("pulled %s, want %s", digest, want)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	_, _, err = Pull(t.Context(), ref, v1.Platform{OS: "linux", Architecture: "s390x"}, fast())
	if is[*Error](err) || !is[*NotFoundError](err) || !strings.HasSuffix(err.Error(), "no image for linux/s390x, but there is linux/amd64, linux/arm64") {
		t.Errorf("error %v", err)
	}
}
