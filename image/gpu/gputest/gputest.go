// Package gputest makes GPU code for tests: containers, bundles and cubins with headers, but nothing that would run.
package gputest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// Kinds of entries.
const (
	PTX   = 1
	Cubin = 2
	LTO   = 8
)

// Entry is an entry of a CUDA container.
type Entry struct {
	Kind     uint16
	SM       uint32
	Specific bool   // the "a" of sm_90a
	Zstd     bool   // it says that its payload is compressed with zstd
	ISA      int    // of PTX: 84 is 8.4
	Header   int    // bytes; 64 if it is 0
	Payload  []byte // 4096 bytes if it is nil
}

// Fatbin returns a CUDA container.
func Fatbin(entries ...Entry) []byte {
	le := binary.LittleEndian
	var body []byte
	for _, e := range entries {
		size := max(e.Header, 64)
		payload := e.Payload
		if payload == nil {
			payload = bytes.Repeat([]byte{0xAA}, 4096)
		}
		payload = append(payload[:len(payload):len(payload)], make([]byte, -len(payload)&7)...)
		h := make([]byte, size)
		le.PutUint16(h, e.Kind)
		le.PutUint16(h[2:], 0x0101)
		le.PutUint32(h[4:], uint32(size))
		le.PutUint64(h[8:], uint64(len(payload)))
		le.PutUint16(h[24:], uint16(e.ISA%10))
		le.PutUint16(h[26:], uint16(e.ISA/10))
		le.PutUint32(h[28:], e.SM)
		flags := uint64(0x11)
		if e.Specific {
			flags |= 0x100000
		}
		if e.Zstd {
			flags |= 0x8000
		}
		le.PutUint64(h[40:], flags)
		body = append(append(body, h...), payload...)
	}
	head := le.AppendUint32(nil, 0xBA55ED50)
	head = le.AppendUint16(le.AppendUint16(head, 1), 16)
	return append(le.AppendUint64(head, uint64(len(body))), body...)
}

// SASS returns a container with one cubin for each target: "sm_80", "sm_90a".
func SASS(targets ...string) []byte {
	var entries []Entry
	for _, t := range targets {
		var sm uint32
		var suffix string
		fmt.Sscanf(t, "sm_%d%s", &sm, &suffix)
		entries = append(entries, Entry{Kind: Cubin, SM: sm, Specific: suffix == "a"})
	}
	return Fatbin(entries...)
}

// EmptyCubin returns a cubin without kernels, as nvcc leaves one in every library.
func EmptyCubin(sm uint32) []byte {
	o := elftest.Object{Arch: "cuda", Type: 2, ABI: 7, Flags: sm, Sections: []elftest.Section{{Name: ".nv.info", Data: make([]byte, 64)}}}
	return o.Bytes()
}

// SmallCubin returns a cubin with one kernel that does nothing.
func SmallCubin(sm uint32) []byte {
	o := elftest.Object{Arch: "cuda", Type: 2, ABI: 7, Flags: sm, Sections: []elftest.Section{{Name: ".text.nothing", Flags: 6, Data: make([]byte, 64)}}}
	return o.Bytes()
}

// Bundle returns a ROCm bundle for targets such as "gfx90a:xnack+", with an entry for the host before them.
func Bundle(targets ...string) []byte {
	le := binary.LittleEndian
	ids := []string{"host-x86_64-unknown-linux--"}
	for _, t := range targets {
		ids = append(ids, "hipv4-amdgcn-amd-amdhsa--"+t)
	}
	b := le.AppendUint64([]byte("__CLANG_OFFLOAD_BUNDLE__"), uint64(len(ids)))
	const size = 64
	for i, id := range ids {
		n := uint64(size)
		if i == 0 {
			n = 0
		}
		b = le.AppendUint64(le.AppendUint64(b, uint64(4096+max(0, i-1)*size)), n)
		b = append(le.AppendUint64(b, uint64(len(id))), id...)
	}
	b = append(b, make([]byte, 4096-len(b))...)
	return append(b, bytes.Repeat([]byte{0xBB}, len(targets)*size)...)
}

// Compress returns a bundle as a whole in a header of version 1, 2 or 3, compressed with zstd or zlib.
func Compress(bundle []byte, version int, withZstd bool) []byte {
	le := binary.LittleEndian
	var packed []byte
	method := uint16(0)
	if withZstd {
		method = 1
		w, err := zstd.NewWriter(nil)
		if err != nil {
			panic(err)
		}
		packed = w.EncodeAll(bundle, nil)
	} else {
		var b bytes.Buffer
		w := zlib.NewWriter(&b)
		w.Write(bundle)
		w.Close()
		packed = b.Bytes()
	}
	h := le.AppendUint16(le.AppendUint16([]byte("CCOB"), uint16(version)), method)
	switch version {
	case 1:
		h = le.AppendUint32(h, uint32(len(bundle)))
	case 2:
		h = le.AppendUint32(le.AppendUint32(h, uint32(24+len(packed))), uint32(len(bundle)))
	case 3:
		h = le.AppendUint64(le.AppendUint64(h, uint64(32+len(packed))), uint64(len(bundle)))
	default:
		panic("gputest: no such version")
	}
	return append(le.AppendUint64(h, 0x0123456789abcdef), packed...)
}

// At4096 puts bundles one after the other, each at a multiple of 4096.
func At4096(bundles ...[]byte) []byte {
	var all []byte
	for _, b := range bundles {
		all = append(append(all, make([]byte, -len(all)&4095)...), b...)
	}
	return all
}

// Library returns a shared object with containers in .nv_fatbin, and strings in .rodata.
func Library(o elftest.Object, fatbin []byte, strings ...string) []byte {
	if o.Arch == "" {
		o.Arch = "amd64"
	}
	var rodata []byte
	for _, s := range strings {
		rodata = append(append(rodata, s...), 0)
	}
	o.Sections = append(o.Sections, elftest.Section{Name: ".rodata", Flags: 2, Data: rodata})
	if fatbin != nil {
		o.Sections = append(o.Sections, elftest.Section{Name: ".nv_fatbin", Flags: 2, Data: fatbin})
	}
	return o.Bytes()
}
