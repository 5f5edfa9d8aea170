// Package elftest makes small ELF files for tests.
package elftest

import (
	"bytes"
	"encoding/binary"
)

// kinds says what the header of a file for an architecture has.
var kinds = map[string]struct {
	machine uint16
	class   int
	order   binary.ByteOrder
}{
	"386":      {3, 32, binary.LittleEndian},
	"amd64":    {62, 64, binary.LittleEndian},
	"arm":      {40, 32, binary.LittleEndian},
	"arm64":    {183, 64, binary.LittleEndian},
	"loong64":  {258, 64, binary.LittleEndian},
	"mips":     {8, 32, binary.BigEndian},
	"mips64":   {8, 64, binary.BigEndian},
	"mips64le": {8, 64, binary.LittleEndian},
	"mipsle":   {8, 32, binary.LittleEndian},
	"ppc64":    {21, 64, binary.BigEndian},
	"ppc64le":  {21, 64, binary.LittleEndian},
	"riscv64":  {243, 64, binary.LittleEndian},
	"s390x":    {22, 64, binary.BigEndian},

	// No CPUs.
	"amdgpu": {224, 64, binary.LittleEndian},
	"cuda":   {190, 64, binary.LittleEndian},
}

// Archs are the CPU architectures that [Program] knows, by Go's names.
var Archs = []string{
	"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle",
	"ppc64", "ppc64le", "riscv64", "s390x",
}

// Program returns a program for an architecture of [Archs], or for "cuda" or "amdgpu".
// It has nothing but headers and, unless interp is empty, the path of its loader.
func Program(arch, interp string) []byte {
	k, ok := kinds[arch]
	if !ok {
		panic("elftest: unknown architecture " + arch)
	}
	var b bytes.Buffer
	put := func(values ...any) {
		for _, v := range values {
			binary.Write(&b, k.order, v)
		}
	}
	// word puts an address or an offset.
	word := func(v int) {
		if k.class == 32 {
			put(uint32(v))
		} else {
			put(uint64(v))
		}
	}
	header, entry := 64, 56
	if k.class == 32 {
		header, entry = 52, 32
	}
	order := byte(1)
	if k.order == binary.BigEndian {
		order = 2
	}
	count := 0
	if interp != "" {
		count = 1
	}

	b.WriteString("\x7fELF")
	put(byte(k.class/32), order, byte(1), [9]byte{})
	put(uint16(2), k.machine, uint32(1))
	word(0)      // entry point
	word(header) // program headers
	word(0)      // section headers
	put(uint32(0), uint16(header), uint16(entry), uint16(count), uint16(0), uint16(0), uint16(0))
	if count == 0 {
		return b.Bytes()
	}
	const typeInterp, readable = 3, 4
	size := len(interp) + 1
	put(uint32(typeInterp))
	if k.class == 64 {
		put(uint32(readable))
	}
	word(header + entry) // offset
	word(0)              // virtual address
	word(0)              // physical address
	word(size)           // in the file
	word(size)           // in memory
	if k.class == 32 {
		put(uint32(readable))
	}
	word(1) // alignment
	b.WriteString(interp + "\x00")
	return b.Bytes()
}
