package gpu

import (
	"encoding/binary"
	"io"
	"slices"
	"strconv"

	"github.com/nix2img/nix2img/internal/elf"
)

// fatbinMagic is what a CUDA container begins with:
// the magic number 0xBA55ED50, version 1 and a header of 16 bytes.
const fatbinMagic = 16<<48 | 1<<32 | 0xBA55ED50

const (
	fatbinHeader = 16
	minEntry     = 64
	maxEntry     = 4096 // bytes of an entry's header; up to 112 have been seen
	maxSM        = 999

	// nvcc makes a container without code for every library that it links.
	// Its cubin has 1072 bytes, more than half of them names of sections, its PTX the directives alone.
	// The smallest cubin with code that has been seen has 2408 bytes.
	emptyPTX   = 80
	emptyCubin = 1280
	smallCubin = 2048

	flagZstd         = 0x8000   // the payload is compressed with zstd
	flagArchSpecific = 0x100000 // the "a" of sm_90a
)

// fatbin walks through the container at an offset and adds its entries.
// It returns where it ends, or 0 if it is no container:
// one fits into the file, has entries, and the last of them ends where it does.
func (s *scanner) fatbin(at int64) (stop int64, err error) {
	s.begin()
	head, err := s.view(at, fatbinHeader)
	if err != nil || len(head) < fatbinHeader {
		return 0, err
	}
	size := binary.LittleEndian.Uint64(head[8:])
	if size > uint64(s.size-at-fatbinHeader) {
		return 0, nil
	}
	pos := at + fatbinHeader
	stop = pos + int64(size)
	for pos < stop {
		if stop-pos < minEntry {
			return 0, nil
		}
		e, err := s.view(pos, minEntry)
		if err != nil || len(e) < minEntry {
			return 0, err
		}
		header, payload := binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint64(e[8:])
		rest := uint64(stop - pos)
		if header < minEntry || header > maxEntry || uint64(header) > rest || payload > rest-uint64(header) {
			return 0, nil
		}
		sm := binary.LittleEndian.Uint32(e[28:])
		if sm > maxSM {
			return 0, nil
		}
		flags := binary.LittleEndian.Uint64(e[40:])
		code := entry{target: smName(sm, flags&flagArchSpecific != 0), zstd: int(flags & flagZstd / flagZstd)}
		switch binary.LittleEndian.Uint16(e) {
		case 1:
			code.kind = PTXCode
			code.isa = Version{int(binary.LittleEndian.Uint16(e[26:])), int(binary.LittleEndian.Uint16(e[24:]))}
		case 2:
			code.kind = SASS
		case 8:
			code.kind = LTO
		default:
			s.marks[MarkUnknown] = true
		}
		if code.kind != "" {
			stored := payload
			if n := binary.LittleEndian.Uint64(e[56:]); n != 0 {
				stored = 0
				code.empty = n <= emptyCubin && code.kind == SASS || n <= emptyPTX && code.kind == PTXCode
			}
			if 0 < stored && stored <= smallCubin {
				code.empty = stored <= emptyPTX && code.kind == PTXCode ||
					code.kind == SASS && !s.hasKernels(pos+int64(header), int64(payload))
			}
			s.add(code)
		}
		pos += int64(header) + int64(payload)
		if s.steps++; s.steps%4096 == 0 {
			if err := s.ctx.Err(); err != nil {
				return 0, err
			}
		}
	}
	if pos == at+fatbinHeader {
		return 0, nil
	}
	return stop, nil
}

// hasKernels reports whether a small cubin that is not compressed has a section with instructions.
func (s *scanner) hasKernels(at, size int64) bool {
	o, err := elf.ReadObject(io.NewSectionReader(s.r, at, size))
	if err != nil || o.Machine != elf.MachineCUDA {
		return true
	}
	return slices.ContainsFunc(o.Sections, func(sec elf.Section) bool { return sec.Flags&elf.SectionExec != 0 })
}

// smName returns the name of a target by the number that CUDA gives it, 90 for instance.
func smName(sm uint32, specific bool) string {
	name := "sm_" + strconv.Itoa(int(sm))
	if specific {
		name += "a"
	}
	return name
}
