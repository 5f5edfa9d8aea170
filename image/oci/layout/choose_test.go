package layout_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ggcrlayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci/layout"
)

// storeIndex has another library write a layout with an index of images.
func storeIndex(t testing.TB, adds ...mutate.IndexAddendum) string {
	t.Helper()
	dir := t.TempDir()
	must(ggcrlayout.Write(dir, mutate.AppendManifests(empty.Index, adds...)))
	return dir
}

// tagged is an image in an index, under a tag and for a platform, each of which may be missing.
func tagged(tag, platform string, img mutate.Appendable) mutate.IndexAddendum {
	add := mutate.IndexAddendum{Add: img}
	if tag != "" {
		add.Annotations = map[string]string{layout.TagAnnotation: tag}
	}
	if platform != "" {
		add.Platform = must(v1.ParsePlatform(platform))
	}
	return add
}

// marked is an image that has a file of the given name.
func marked(t testing.TB, arch, mark string) v1.Image {
	return imageFor(t, arch, tarLayer(t, entry{tar.TypeReg, mark, ""}))
}

// found returns the file of the image that is found, or what the error says.
func found(t testing.TB, name string, choice *layout.Choice) string {
	t.Helper()
	s, err := layout.Open(name, choice)
	if err != nil {
		if _, ok := errors.AsType[*layout.FormatError](err); !ok {
			t.Errorf("no FormatError: %v", err)
		}
		return err.Error()
	}
	defer s.Close()
	files, err := s.Files(t.Context())
	if err != nil {
		return err.Error()
	}
	defer files.Close()
	return must(files.ReadDir("."))[0].Name()
}

// matches reports whether a file was found, or an error that says what it should: words.
func matches(got, want string) bool {
	return got == want || strings.Contains(want, " ") && strings.Contains(got, want)
}

// Of several images, the name and the architecture decide. What is about images is none.
func TestChoice(t *testing.T) {
	amd, arm := marked(t, "amd64", "amd"), marked(t, "arm64", "arm")
	digest := strings.Replace(must(amd.Digest()).String(), ":", "-", 1)
	signature := must(mutate.AppendLayers(empty.Image, static.NewLayer([]byte("{}"), "application/vnd.dev.cosign.simplesigning.v1+json")))
	attestation := must(mutate.AppendLayers(empty.Image, static.NewLayer([]byte("{}"), "application/vnd.in-toto+json")))
	artifact := mutate.ConfigMediaType(empty.Image, "application/vnd.example.config+json")
	nested := mutate.AppendManifests(empty.Index, tagged("", "linux/amd64", amd), tagged("", "linux/arm64", arm), tagged("", "unknown/unknown", attestation))
	both := []mutate.IndexAddendum{tagged("a", "linux/amd64", amd), tagged("a", "linux/arm64", arm)}
	tags := []mutate.IndexAddendum{tagged("a", "linux/amd64", amd), tagged("b:1", "linux/arm64", arm)}
	for name, c := range map[string]struct {
		index  []mutate.IndexAddendum
		tag    string
		choice *layout.Choice
		want   string
	}{
		"the host's":               {both, "", &layout.Choice{Host: "arm64"}, "arm"},
		"the host's, the other":    {both, "a", &layout.Choice{Host: "amd64"}, "amd"},
		"what is asked for":        {both, "a", &layout.Choice{Host: "amd64", Arch: "arm64"}, "arm"},
		"none for the host":        {both, "", &layout.Choice{Host: "riscv64"}, "it has no image for riscv64, but for amd64, arm64"},
		"none that is asked for":   {both, "", &layout.Choice{Arch: "riscv64", Host: "amd64"}, "it has no image for riscv64"},
		"the only one":             {both[1:], "", &layout.Choice{Host: "amd64"}, "arm"},
		"not the only one":         {both[1:], "", &layout.Choice{Arch: "amd64"}, "it has no image for amd64, but for arm64"},
		"one tag":                  {tags, "b:1", nil, "arm"},
		"the end of a tag":         {tags, "1", nil, "arm"},
		"several tags":             {tags, "", nil, `several tags: name one of them`},
		"another tag":              {tags, "c", nil, `it has no image "c", but ["a" "b:1"]`},
		"the latest":               {tags, "", &layout.Choice{Latest: true, Arch: "amd64"}, "amd"},
		"several tags of one":      {[]mutate.IndexAddendum{tagged("a", "", amd), tagged("b", "", amd)}, "", nil, "amd"},
		"no platforms":             {[]mutate.IndexAddendum{tagged("a", "", amd), tagged("a", "", arm)}, "", &layout.Choice{Arch: "arm64"}, "arm"},
		"an index in the index":    {[]mutate.IndexAddendum{tagged("a", "", nested)}, "a", &layout.Choice{Host: "arm64"}, "arm"},
		"another system":           {[]mutate.IndexAddendum{tagged("a", "linux/amd64", amd), tagged("a", "windows/amd64", arm)}, "", nil, "amd"},
		"variants":                 {[]mutate.IndexAddendum{tagged("", "linux/amd64", amd), tagged("", "linux/amd64/v3", arm)}, "", nil, "amd"},
		"signatures by tag":        {[]mutate.IndexAddendum{tagged("a", "", amd), tagged(digest+".sig", "", signature), tagged(digest+".att", "", arm)}, "", nil, "amd"},
		"signatures by layers":     {[]mutate.IndexAddendum{tagged("a", "", amd), tagged("a", "", signature), tagged("a", "", artifact)}, "", nil, "amd"},
		"an attestation":           {[]mutate.IndexAddendum{tagged("", "linux/amd64", amd), tagged("", "unknown/unknown", arm)}, "", nil, "amd"},
		"nothing but a signature":  {[]mutate.IndexAddendum{tagged("", "", signature)}, "", nil, "it has no image"},
		"nothing but an artifact":  {[]mutate.IndexAddendum{tagged("", "", artifact)}, "", nil, "it has no image"},
		"an index of nothing else": {nil, "", nil, "it has no image"},
	} {
		t.Run(name, func(t *testing.T) {
			file := storeIndex(t, c.index...)
			if c.tag != "" {
				file += ":" + c.tag
			}
			if got := found(t, file, c.choice); !matches(got, c.want) {
				t.Errorf("found %s, want %s", got, c.want)
			}
			if !layout.Detect(file) {
				t.Error("not taken for a layout")
			}
		})
	}
}

// Indexes that contain each other many times end.
func TestIndexesAreBounded(t *testing.T) {
	var index v1.ImageIndex = mutate.AppendManifests(empty.Index, tagged("", "linux/amd64", marked(t, "amd64", "amd")))
	for range 6 {
		index = mutate.AppendManifests(empty.Index, tagged("", "", index))
	}
	if got := found(t, storeIndex(t, tagged("a", "", index)), nil); !strings.Contains(got, "in each other") {
		t.Errorf("found %s", got)
	}
	var adds []mutate.IndexAddendum
	one := mutate.AppendManifests(empty.Index, tagged("", "linux/amd64", marked(t, "amd64", "amd")))
	for i := range 1001 {
		adds = append(adds, tagged(fmt.Sprint(i), "", one))
	}
	if got := found(t, storeIndex(t, adds...), nil); !strings.Contains(got, "more than 1000 indexes") {
		t.Errorf("found %.200s", got)
	}
}

// A manifest or a configuration with other bytes than its digest says is refused.
func TestMetadataHaveTheirDigests(t *testing.T) {
	img := marked(t, "amd64", "amd")
	for _, blob := range []v1.Hash{must(img.Digest()), must(img.ConfigName())} {
		dir := storeIndex(t, tagged("", "", img))
		name := filepath.Join(layout.BlobDir(dir), blob.Hex)
		data := must(os.ReadFile(name))
		os.Chmod(name, 0o644)
		if err := os.WriteFile(name, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := found(t, dir, nil); !strings.Contains(got, "its digest is sha256:") {
			t.Errorf("found %s", got)
		}
	}
}

// A member is a file of an archive: its contents, or where it links to.
type member struct{ name, data, link string }

func archive(t testing.TB, members ...member) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: m.name, Mode: 0o644, Size: int64(len(m.data))}
		if m.link != "" {
			h = &tar.Header{Typeflag: tar.TypeSymlink, Name: m.name, Linkname: m.link}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(m.data))
	}
	w.Close()
	name := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// Docker has written its archives in several forms.
func TestDockerArchives(t *testing.T) {
	layerOf := func(mark string) string { return string(tarBytes(t, entry{tar.TypeReg, mark, ""})) }
	config := func(img v1.Image) string { return string(must(img.RawConfigFile())) }
	amd, arm := marked(t, "amd64", "amd"), marked(t, "arm64", "arm")
	manifest := func(entries ...string) string { return "[" + strings.Join(entries, ",") + "]" }
	one := manifest(`{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}`)
	untagged := manifest(`{"Config":"c.json","RepoTags":null,"Layers":["l/layer.tar"]}`)
	two := manifest(`{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}`, `{"Config":"d.json","RepoTags":["docker.io/library/app:2"],"Layers":["m/layer.tar"]}`)
	files := []member{{"c.json", config(amd), ""}, {"l/layer.tar", layerOf("amd"), ""}}
	more := append(slices.Clone(files), member{"d.json", config(arm), ""}, member{"m/layer.tar", layerOf("arm"), ""})
	legacy := []member{
		{"top/json", `{"id":"top","parent":"base","architecture":"amd64","os":"linux"}`, ""}, {"top/layer.tar", layerOf("b"), ""},
		{"base/json", `{"id":"base"}`, ""}, {"base/layer.tar", layerOf("a"), ""},
		{"repositories", `{"app":{"1":"top"}}`, ""},
	}
	for name, c := range map[string]struct {
		members []member
		tag     string
		want    string
	}{
		"since 1.10":                   {append(files, member{"manifest.json", one, ""}), "", "amd"},
		"by tag":                       {append(files, member{"manifest.json", one, ""}), ":app:1", "amd"},
		"without a tag":                {append(files, member{"manifest.json", untagged, ""}), "", "amd"},
		"of two images":                {append(more, member{"manifest.json", two, ""}), ":app:2", "arm"},
		"of two images, which":         {append(more, member{"manifest.json", two, ""}), "", "several tags"},
		"a layer that is a link":       {append([]member{{"x/layer.tar", layerOf("amd"), ""}, {"c.json", config(amd), ""}}, member{"l/layer.tar", "", "../x/layer.tar"}, member{"manifest.json", one, ""}), "", "amd"},
		"a layer that links to itself": {append(files[:1:1], member{"l/layer.tar", "", "../l/layer.tar"}, member{"manifest.json", one, ""}), "", "file does not exist"},
		"25, with an empty index": {append(files, member{"manifest.json", untagged, ""}, member{"oci-layout", `{"imageLayoutVersion":"1.0.0"}`, ""},
			member{"index.json", `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":null}`, ""}), "", "amd"},
		"before 1.10":       {legacy, ":app:1", "a"},
		"before 1.10, loop": {[]member{{"a/json", `{"parent":"a"}`, ""}, {"a/layer.tar", layerOf("a"), ""}, {"repositories", `{"app":{"1":"a"}}`, ""}}, "", "more than 1000 layers"},
		"no image":          {[]member{{"manifest.json", "[]", ""}}, "", "it has no image"},
		"other layers":      {append(files[:1:1], member{"l/layer.tar", layerOf("x"), ""}, member{"manifest.json", one, ""}), "", "its diffID is"},
	} {
		t.Run(name, func(t *testing.T) {
			file := archive(t, c.members...)
			if !layout.Detect(file) {
				t.Error("not taken for an archive")
			}
			if got := found(t, file+c.tag, nil); !matches(got, c.want) {
				t.Errorf("found %s, want %s", got, c.want)
			}
		})
	}
}

// Names with a tag are taken apart where a file is.
func TestSplit(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b:1"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string][2]string{
		"a": {"a", ""}, "a:1": {"a", "1"}, "a:app:1": {"a", "app:1"}, "b:1": {"b:1", ""}, "b:1:2": {"b:1", "2"},
		"none": {"none", ""}, "none:1:2": {"none", "1:2"},
	} {
		file, tag := layout.Split(filepath.Join(dir, name))
		if file != filepath.Join(dir, want[0]) || tag != want[1] {
			t.Errorf("%s: %s and %q", name, file, tag)
		}
	}
}

func FuzzIndex(f *testing.F) {
	amd := marked(f, "amd64", "amd")
	nested := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, tagged("", "linux/amd64", amd)), types.DockerManifestList)
	for _, dir := range []string{storeIndex(f, tagged("a", "", amd)), storeIndex(f, tagged("a", "", nested))} {
		f.Add(must(os.ReadFile(filepath.Join(dir, "index.json"))))
	}
	f.Add([]byte(`{"manifests":null}`))
	dir := storeIndex(f, tagged("", "", amd), tagged("", "", nested))
	f.Fuzz(func(t *testing.T, index []byte) {
		if err := os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, choice := range []*layout.Choice{nil, {Arch: "amd64"}, {Host: "arm64", Latest: true}} {
			if s, err := layout.Open(dir, choice); err == nil {
				s.Close()
			}
		}
	})
}
