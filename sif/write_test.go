package sif

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/image"
)

// hello returns an image of the closure that ships with the project.
func hello(t testing.TB) *image.Image {
	t.Helper()
	data, err := os.ReadFile("../testdata/hello.export")
	if err != nil {
		t.Fatal(err)
	}
	c, err := export.Open(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return &image.Image{Closure: c, Config: image.Config{
		Env:    []string{"A=b"},
		Labels: map[string]string{"org.example.x": "<y>"},
	}}
}

func TestSameBytesAnyWorkers(t *testing.T) {
	var want []byte
	for _, workers := range []int{1, 2, 7, 0} {
		m := new(memory)
		if _, err := Write(t.Context(), m, hello(t), nil, &image.Runtime{Workers: workers}); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = m.data
		}
		if !bytes.Equal(m.data, want) {
			t.Errorf("other bytes with %d workers", workers)
		}
	}
}

// TestSameBytesOverAnother writes to a file that is not empty.
func TestSameBytesOverAnother(t *testing.T) {
	want, got := new(memory), new(memory)
	if _, err := Write(t.Context(), want, hello(t), nil, nil); err != nil {
		t.Fatal(err)
	}
	got.data = bytes.Repeat([]byte{0xff}, 2*len(want.data))
	if _, err := Write(t.Context(), got, hello(t), nil, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.data, want.data) {
		t.Error("what was in the file before shows")
	}
}

func TestRoundTrip(t *testing.T) {
	m, img := new(memory), hello(t)
	img.Files = fstest.MapFS{".singularity.d/env/folder/no-script.sh": &fstest.MapFile{}}
	var opts Options
	opts.Squashfs.BlockSize = 4096
	res, err := Write(t.Context(), m, img, &opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != int64(len(m.data)) {
		t.Errorf("size %d, wrote %d", res.Size, len(m.data))
	}
	info, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	if info.Partition != res.Partition || info.Record == nil || info.Record.ImageID != res.ID ||
		info.Arch != res.Record.Architecture {
		t.Errorf("read %+v, wrote %+v", info, res)
	}
	var got, want bytes.Buffer
	info.Record.WriteTo(&got)
	res.Record.WriteTo(&want)
	if got.String() != want.String() {
		t.Errorf("record %s, want %s", &got, &want)
	}
	fsys, err := info.FS()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range img.Closure.Roots() {
		if _, err := fsys.Lstat(string(p)[1:]); err != nil {
			t.Error(err)
		}
	}

	// What the runtimes show without starting a container.
	var inspect struct {
		Type string
		Data struct {
			Attributes struct {
				Labels, Environment map[string]string
				Runscript, Deffile  string
			}
		}
	}
	meta := info.Objects[2]
	if meta.Name != "inspect-metadata.json" {
		t.Fatalf("object 3 is %q", meta.Name)
	}
	if err := json.Unmarshal(m.data[meta.Offset:][:meta.Size], &inspect); err != nil {
		t.Fatal(err)
	}
	attrs := inspect.Data.Attributes
	if inspect.Type != "container" || attrs.Labels["org.example.x"] != "<y>" ||
		attrs.Environment["/.singularity.d/env/10-nix2img.sh"] == "" || attrs.Runscript == "" {
		t.Errorf("inspect metadata: %+v", inspect)
	}
	// The runtimes look whether there is a definition file among the objects, and show what the metadata have.
	def := info.Objects[3]
	if text := string(m.data[def.Offset:][:def.Size]); def.Type != "Def.FILE" || strings.TrimSpace(text) != attrs.Deffile || text[0] != '#' {
		t.Errorf("object 4 is %s %q, and the metadata have %q", def.Type, text, attrs.Deffile)
	}
}

// full is a disk with little space.
type full struct {
	*memory
	limit int64
}

var errFull = errors.New("disk full")

func (f *full) WriteAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.limit {
		return 0, errFull
	}
	return f.memory.WriteAt(p, off)
}

func TestFullDisk(t *testing.T) {
	m := new(memory)
	res, err := Write(t.Context(), m, hello(t), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []int64{0, 1000, PartitionOffset, PartitionOffset + 5000, res.Partition.Offset + res.Partition.Size, res.Size - 1} {
		_, err := Write(t.Context(), &full{new(memory), limit}, hello(t), nil, nil)
		if !errors.Is(err, errFull) {
			t.Errorf("limit %d: err = %v", limit, err)
		}
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Write(ctx, new(memory), hello(t), nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestUnknownArchitectureIsFoundOutFirst(t *testing.T) {
	img := hello(t)
	img.Config.Arch = "wasm"
	m := new(memory)
	_, err := Write(t.Context(), m, img, nil, nil)
	var ae *ArchError
	if !errors.As(err, &ae) || len(m.data) > 0 {
		t.Errorf("err = %v after %d bytes", err, len(m.data))
	}
}

func TestWindow(t *testing.T) {
	w := window{new(memory), 100}
	if _, err := w.WriteAt([]byte("x"), -1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("write at -1: %v", err)
	}
	if _, err := w.ReadAt(make([]byte, 1), -100); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("read at -100: %v", err)
	}
	if err := w.Truncate(-1); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("truncate to -1: %v", err)
	}
}
