package registry

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/nix2img/nix2img/image/oci/registry/registrytest"
)

func TestSIF(t *testing.T) {
	reg := registrytest.New(t)
	file := bytes.Repeat([]byte("a SIF, as far as a registry can tell\n"), 2000)
	img, err := SIF(t.Context(), bytes.NewReader(file), int64(len(file)), "app.sif")
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := img.RawManifest()
	// What "singularity push" sends, byte by byte but for the order of keys.
	const want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.sylabs.sif.config.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},` +
		`"layers":[{"mediaType":"application/vnd.sylabs.sif.layer.v1.sif","size":74000,"digest":"sha256:` + sifDigest + `",` +
		`"annotations":{"org.opencontainers.image.title":"app.sif"}}]}`
	if string(raw) != want {
		t.Errorf("manifest\n%s, want\n%s", raw, want)
	}
	ref := parse(t, reg.Host, "/app:sif")
	digest := mustPush(t, ref, img, fast())
	got, pulled, err := Pull(t.Context(), ref, v1.Platform{}, fast())
	if err != nil {
		t.Fatal(err)
	}
	if pulled != digest {
		t.Errorf("pulled %s, pushed %s", pulled, digest)
	}
	layer, title, err := SIFLayer(got)
	if err != nil {
		t.Fatal(err)
	}
	rc, err := layer.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if data, err := io.ReadAll(rc); err != nil || title != "app.sif" || !bytes.Equal(data, file) {
		t.Errorf("got %d bytes of %q, %v", len(data), title, err)
	}
	if _, _, err := SIFLayer(randomImage(t)); !errors.Is(err, ErrNotSIF) {
		t.Errorf("an image: error %v", err)
	}
}

// of the file in TestSIF
const sifDigest = "e56cd054a9e3c754cd1527637fadf2c1d6b39f9097cde75b391bea43647db01f"

func TestAttach(t *testing.T) {
	for _, reg := range []struct{ name, host string }{
		{"referrers API", theirs(t, ggcr.WithReferrersSupport(true))},
		{"tag", registrytest.New(t).Host},
	} {
		t.Run(reg.name, func(t *testing.T) {
			img := randomImage(t)
			subject := mustPush(t, parse(t, reg.host, "/app:1"), img, fast())
			about, err := Subject(img)
			if err != nil {
				t.Fatal(err)
			}
			const kind = "application/vnd.example.record.v1+json"
			attach := func(document string) name.Digest {
				d, err := Attach(t.Context(), subject, about, &Document{kind, "record.json", []byte(document)}, fast())
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			first := attach("one")
			if again := attach("one"); again != first {
				t.Errorf("the same document is %s and %s", first, again)
			}
			attach("two")
			referrers, err := remote.Referrers(subject)
			if err != nil {
				t.Fatal(err)
			}
			list, err := referrers.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Manifests) != 2 {
				t.Errorf("%d referrers, want 2", len(list.Manifests))
			}
			doc, _, err := Pull(t.Context(), first, v1.Platform{}, fast())
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := doc.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			if l := manifest.Layers[0]; l.MediaType != kind || l.Annotations[titleAnnotation] != "record.json" {
				t.Errorf("the document is described as %+v", l)
			}
			layers, _ := doc.Layers()
			rc, err := layers[0].Compressed()
			if err != nil {
				t.Fatal(err)
			}
			defer rc.Close()
			if data, err := io.ReadAll(rc); err != nil || string(data) != "one" {
				t.Errorf("the document is %q, %v", data, err)
			}
		})
	}
}

// TestAttachRefused has registries that do not take what is said about an image. The image itself stays as it is.
func TestAttachRefused(t *testing.T) {
	tag := regexp.MustCompile(`/manifests/sha256-([0-9a-f]{64})$`)
	tests := map[string]func(w http.ResponseWriter, r *http.Request) bool{
		"GitLab": func(w http.ResponseWriter, r *http.Request) bool { // it reads the tag as the digest
			r.URL.Path = tag.ReplaceAllString(r.URL.Path, "/manifests/sha256:$1")
			return false
		},
		"no subjects": func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != "PUT" || !strings.Contains(r.URL.Path, "/manifests/") {
				return false
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			return bytes.Contains(body, []byte(`"subject"`)) && refuse(w, 400, "MANIFEST_INVALID")
		},
	}
	for _, status := range []int{401, 403, 405, 500, 501} {
		tests[http.StatusText(status)] = func(w http.ResponseWriter, r *http.Request) bool {
			return strings.Contains(r.URL.Path, "/referrers/") && refuse(w, status, "UNSUPPORTED")
		}
	}
	for name, fault := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			img, ref := randomImage(t), parse(t, reg.Host, "/app:1")
			subject := mustPush(t, ref, img, fast())
			about, err := Subject(img)
			if err != nil {
				t.Fatal(err)
			}
			reg.SetFault(fault)
			_, err = Attach(t.Context(), subject, about, &Document{"application/vnd.example.record.v1+json", "record.json", []byte("one")}, fast())
			if err == nil || !strings.HasPrefix(err.Error(), "registry: attach ") || strings.Contains(err.Error(), "map[") {
				t.Errorf("error %v", err)
			}
			reg.SetFault(nil)
			same(t, ref, img)
		})
	}
}
