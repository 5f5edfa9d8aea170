//go:build foreign

package foreign

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
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

// ociLayout has another library write a layout of an image with the tag "app".
func ociLayout(t testing.TB, layers ...v1.Layer) string {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.ConfigFile(img, &v1.ConfigFile{OS: "linux", Architecture: "amd64", RootFS: v1.RootFS{Type: "layers"}})
	if err == nil {
		img, err = mutate.AppendLayers(img, layers...)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(newDir(t), "layout")
	add := mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Annotations: map[string]string{layout.TagAnnotation: "app"}}}
	if _, err := ggcrlayout.Write(dir, mutate.AppendManifests(empty.Index, add)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A layerMaker makes random layers. Directories are a, b and c, and what must not have anything below it is x, y or z,
// so that most entries can be applied.
type layerMaker struct {
	r     *rand.Rand
	files []string // that there have been
	said  []string
}

func (m *layerMaker) dir() string {
	dir := "."
	for range m.r.IntN(4) {
		dir = path.Join(dir, string("abc"[m.r.IntN(3)]))
	}
	return dir
}

func (m *layerMaker) file() string { return path.Join(m.dir(), string("xyz"[m.r.IntN(3)])) }

// known returns the name of a file that there has been.
func (m *layerMaker) known() string {
	if len(m.files) == 0 {
		return m.file()
	}
	return m.files[m.r.IntN(len(m.files))]
}

func (m *layerMaker) entry(i int) (h *tar.Header, data string) {
	h = &tar.Header{Name: m.file(), Mode: 0o755, Typeflag: tar.TypeReg}
	switch m.r.IntN(12) {
	case 0, 1, 2:
		data = fmt.Sprint(i, m.r.IntN(1000))
		m.files = append(m.files, h.Name)
	case 3, 4:
		h.Typeflag, h.Name = tar.TypeDir, m.dir()+"/"
	case 5:
		h.Typeflag, h.Linkname = tar.TypeSymlink, m.known()
	case 6:
		h.Typeflag, h.Name = tar.TypeSymlink, path.Join(m.dir(), string("abc"[m.r.IntN(3)]))
		h.Linkname = []string{m.dir(), "/" + m.dir(), "../" + m.dir()}[m.r.IntN(3)]
	case 7, 8:
		h.Typeflag, h.Linkname = tar.TypeLink, m.known()
		m.files = append(m.files, h.Name)
	case 9:
		known := m.known()
		h.Name = path.Join(path.Dir(known), ".wh."+path.Base(known))
	case 10:
		h.Name = path.Join(m.dir(), ".wh."+string("abc"[m.r.IntN(3)]))
	case 11:
		h.Name = path.Join(m.dir(), ".wh..wh..opq")
	}
	h.Size = int64(len(data))
	return h, data
}

func (m *layerMaker) layer(t testing.TB) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	m.said = append(m.said, "layer")
	for i := range 1 + m.r.IntN(8) {
		h, data := m.entry(i)
		m.said = append(m.said, strings.TrimSpace(fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, data)))
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(data))
	}
	w.Close()
	return static.NewLayer(b.Bytes(), types.OCIUncompressedLayer)
}

// names describes what is in a file system: types, contents and targets, by names.
func names(t testing.TB, fsys fs.FS) []string {
	t.Helper()
	var lines []string
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		line := name + " " + d.Type().String()
		switch {
		case err != nil:
			return err
		case d.Type() == fs.ModeSymlink:
			target, err := fs.ReadLink(fsys, name)
			lines = append(lines, line+" "+target)
			return err
		case d.Type().IsRegular():
			data, err := fs.ReadFile(fsys, name)
			lines = append(lines, line+" "+string(data))
			return err
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return lines
}

// Whatever layers say, umoci unpacks the files that we see.
func TestLayersAsUmociAppliesThem(t *testing.T) {
	compared, refused := 0, 0
	for seed := range uint64(400) {
		m := &layerMaker{r: rand.New(rand.NewPCG(seed, 1))}
		layers := []v1.Layer{m.layer(t), m.layer(t), m.layer(t)}
		dir := ociLayout(t, layers...)
		stored, err := layout.Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		files, err := stored.Files(t.Context())
		bundle := filepath.Join(newDir(t), "bundle")
		out, judged := exec.Command("umoci", "unpack", "--image", dir+":app", bundle).CombinedOutput()
		if err != nil || judged != nil {
			refused++
			if (err == nil) != (judged == nil) {
				t.Logf("seed %d: we say %v, umoci %v\n%s\n%s", seed, err, judged, strings.Join(m.said, "\n"), out)
			}
		} else {
			compared++
			want, got := names(t, os.DirFS(filepath.Join(bundle, "rootfs"))), names(t, files)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: of\n%s\nwe see\n%s\nand umoci\n%s", seed, strings.Join(m.said, "\n"), strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
		if err == nil {
			files.Close()
		}
		stored.Close()
	}
	if compared < 100 {
		t.Errorf("only %d of %d images could be compared", compared, compared+refused)
	}
}
