package elf_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// full has everything that ReadObject looks for.
var full = elftest.Object{
	Arch: "arm64", ABI: 3, Flags: 0x50,
	Interp:   loader,
	Soname:   "libfull.so.1",
	Needed:   []string{"libcuda.so.1", "libc.so.6"},
	RPath:    "$ORIGIN/../lib",
	RunPath:  "/run/opengl-driver/lib:/nix/store/x",
	Versions: []string{"GLIBC_2.34", "GLIBC_2.2.5"},
	Defines:  []string{"LIB_2", "LIB_1.1"},
	Sections: []elftest.Section{
		{Name: ".rodata", Flags: elf.SectionAlloc, Data: []byte("hello")},
		{Name: ".a-name-that-is-longer-than-anybody-would-want-a-name-of-a-section-to-be", Data: make([]byte, 8)},
	},
}

func TestReadObject(t *testing.T) {
	data := full.Bytes()
	o, err := elf.ReadObject(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if o.Arch != "arm64" || o.Type != elf.TypeShared || o.ABI != 3 || o.Flags != 0x50 || o.Interp != loader || !o.Dynamic {
		t.Errorf("header: %+v", o)
	}
	if o.Soname != full.Soname || !slices.Equal(o.Needed, full.Needed) || o.RPath != full.RPath || o.RunPath != full.RunPath {
		t.Errorf("dynamic section: %+v", o)
	}
	if !slices.Equal(o.Versions, []string{"GLIBC_2.2.5", "GLIBC_2.34"}) {
		t.Errorf("versions: %q", o.Versions)
	}
	if !slices.Equal(o.Defines, []string{"LIB_1.1", "LIB_2"}) {
		t.Errorf("versions of its own: %q", o.Defines)
	}
	if len(o.Sections) != 4 {
		t.Fatalf("sections: %+v", o.Sections)
	}
	s := o.Sections[1]
	if s.Name != ".rodata" || s.Type != elf.SectionData || s.Flags != elf.SectionAlloc || string(data[s.Offset:s.Offset+s.Size]) != "hello" {
		t.Errorf("section: %+v", s)
	}
	if name := o.Sections[2].Name; name != full.Sections[1].Name[:63] {
		t.Errorf("long name: %q", name)
	}
}

func TestReadObjectWithoutSections(t *testing.T) {
	stripped := full
	stripped.NoSections = true
	damaged := full.Bytes()
	damaged[60], damaged[61] = 0xff, 0xff // their number
	for name, data := range map[string][]byte{"stripped": stripped.Bytes(), "damaged": damaged} {
		o, err := elf.ReadObject(bytes.NewReader(data))
		if err != nil || o.Sections != nil || o.Soname != full.Soname {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
}

// Whatever of a file is there, the header is reported.
func TestReadObjectCut(t *testing.T) {
	data := full.Bytes()
	for n := range data {
		o, err := elf.ReadObject(bytes.NewReader(data[:n]))
		switch {
		case err != nil && !errors.Is(err, elf.ErrFormat):
			t.Fatalf("%d bytes: %v", n, err)
		case o == nil && n >= 64:
			t.Fatalf("%d bytes: no header: %v", n, err)
		}
	}
}

func FuzzReadObject(f *testing.F) {
	f.Add(full.Bytes())
	stripped := full
	stripped.NoSections = true
	f.Add(stripped.Bytes())
	for _, arch := range elftest.Archs {
		f.Add(elftest.Program(arch, loader))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &countingReader{ReaderAt: bytes.NewReader(data)}
		o, err := elf.ReadObject(r)
		if r.n > 64<<20 {
			t.Errorf("read %d bytes", r.n)
		}
		if err != nil && !errors.Is(err, elf.ErrFormat) || err == nil && o == nil {
			t.Error(o, err)
		}
		if o == nil {
			return
		}
		size := 0
		for _, s := range slices.Concat(o.Needed, o.Versions, o.Defines) {
			size += len(s)
		}
		if size > 300<<10 {
			t.Errorf("%d bytes of strings", size)
		}
	})
}
