package gpu_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	insp "github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// library is a file of 64 MiB without GPU code: the worst case, for what is in containers is stepped over.
func library(contents string) []byte {
	data := make([]byte, 64<<20)
	switch contents {
	case "noise":
		rand.NewChaCha8([32]byte{}).Read(data)
	case "text":
		copy(data, bytes.Repeat([]byte("What is in a file. So much text, so.many dots. "), len(data)/47))
	}
	o := elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".rodata", Flags: 2, Data: data}}}
	return o.Bytes()
}

func BenchmarkFile(b *testing.B) {
	for _, contents := range []string{"zeros", "noise", "text"} {
		dir := b.TempDir()
		data := library(contents)
		if err := os.WriteFile(filepath.Join(dir, "lib.so"), data, 0o666); err != nil {
			b.Fatal(err)
		}
		fsys := closure.DirFS(dir)
		b.Run(contents+"/read", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			buf := make([]byte, 1<<20)
			for b.Loop() {
				f, err := fsys.Open("lib.so")
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = f.Read(buf)
				}
				f.Close()
				if err != io.EOF {
					b.Fatal(err)
				}
			}
		})
		b.Run(contents+"/inspect", func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := gpu.Inspect(context.Background(), fsys, ".", nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Memory does not grow with files.
func TestMemory(t *testing.T) {
	data := library("noise")
	fsys := fstest.MapFS{"lib.so": {Data: data}}
	info, err := fsys.Stat("lib.so")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		f    func() error
	}{
		{"Inspect", func() error {
			_, err := gpu.Inspect(context.Background(), fsys, ".", nil)
			return err
		}},
		{"Observe", func() error {
			o := insp.Observe(context.Background(), []insp.Inspector{gpu.Inspector}, fsys, ".")
			if err := o.Node("lib.so", info, ""); err != nil {
				return err
			}
			_, err := o.Write(data)
			return errors.Join(err, o.Close())
		}},
	} {
		var before, after runtime.MemStats
		for range 2 { // the first time, buffers are made
			runtime.ReadMemStats(&before)
			if err := test.f(); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
			t.Errorf("%s allocated %d bytes for a file of 64 MiB", test.name, n)
		}
	}
}
