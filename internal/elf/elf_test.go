package elf_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/nix2img/nix2img/internal/elf"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

const loader = "/nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36/lib/ld.so"

func TestReadKnowsEveryArchitecture(t *testing.T) {
	for _, arch := range elftest.Archs {
		for _, interp := range []string{"", loader} {
			f, err := elf.Read(bytes.NewReader(elftest.Program(arch, interp)))
			if err != nil {
				t.Errorf("%s: %v", arch, err)
				continue
			}
			if f.Arch != arch || f.Interp != interp || f.Static() != (interp == "") || f.Type != elf.TypeExec {
				t.Errorf("%s with loader %q: got %+v", arch, interp, f)
			}
		}
	}
}

func TestGPUsAreNoCPUs(t *testing.T) {
	for name, machine := range map[string]elf.Machine{
		"cuda":   elf.MachineCUDA,
		"amdgpu": elf.MachineAMDGPU,
	} {
		f, err := elf.ReadHeader(bytes.NewReader(elftest.Program(name, "")))
		if err != nil || f.Machine != machine || f.Arch != "" {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
	}
}

func TestReadRejects(t *testing.T) {
	good := elftest.Program("amd64", loader)
	edit := func(offset int, b ...byte) []byte {
		bad := bytes.Clone(good)
		copy(bad[offset:], b)
		return bad
	}
	for name, data := range map[string][]byte{
		"empty":                      {},
		"script":                     []byte("#!/bin/sh\n"),
		"magic only":                 good[:4],
		"half a header":              good[:40],
		"header of the other class":  good[:52],
		"class":                      edit(4, 3),
		"byte order":                 edit(5, 0),
		"program headers elsewhere":  edit(32, 0, 0, 0, 1),
		"program headers nowhere":    edit(32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"size of program headers":    edit(54, 32),
		"number of program headers":  edit(56, 0xff, 0xff),
		"loader elsewhere":           edit(64+8, 0, 0, 0, 1),
		"loader nowhere":             edit(64+8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f),
		"loader with a huge path":    edit(64+32, 0, 0, 0, 0, 1),
		"loader with an empty path":  edit(64+56, 0),
		"loader path not terminated": edit(len(good)-1, 'x'),
		"cut":                        good[:len(good)-1],
	} {
		if f, err := elf.Read(bytes.NewReader(data)); !errors.Is(err, elf.ErrFormat) {
			t.Errorf("%s: got %+v, %v, want %v", name, f, err, elf.ErrFormat)
		}
	}
}

type brokenAt struct{ error }

func (r brokenAt) ReadAt([]byte, int64) (int, error) { return 0, r.error }

func TestReadErrorsAreNotFormatErrors(t *testing.T) {
	_, err := elf.Read(brokenAt{iotest.ErrTimeout})
	if !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, elf.ErrFormat) {
		t.Errorf("got %v", err)
	}
}

// countingReader counts the bytes that are read.
type countingReader struct {
	io.ReaderAt
	n int
}

func (r *countingReader) ReadAt(p []byte, offset int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, offset)
	r.n += n
	return n, err
}

func FuzzRead(f *testing.F) {
	for _, arch := range elftest.Archs {
		f.Add(elftest.Program(arch, loader))
		f.Add(elftest.Program(arch, ""))
	}
	many := elftest.Program("amd64", loader)
	binary.LittleEndian.PutUint16(many[56:], 1024)
	f.Add(append(many, make([]byte, 1024*56)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &countingReader{ReaderAt: bytes.NewReader(data)}
		file, err := elf.Read(r)
		if r.n > 64<<10 {
			t.Errorf("read %d bytes", r.n)
		}
		if err != nil {
			if !errors.Is(err, elf.ErrFormat) {
				t.Error(err)
			}
			return
		}
		header, err := elf.ReadHeader(bytes.NewReader(data))
		if err != nil || header.Arch != file.Arch || header.Class != file.Class {
			t.Errorf("header alone: %+v, %v; all: %+v", header, err, file)
		}
	})
}
