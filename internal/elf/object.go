package elf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Object is what a file says to the loader, and to whoever looks into it.
type Object struct {
	File
	ABI      byte      // version of what Flags mean
	Flags    uint32    // of the header; what they mean depends on the machine
	Sections []Section // nil if there are none, or damaged ones: a loader needs none
	Dynamic  bool      // there is a dynamic section, which the following fields are from
	Soname   string
	Needed   []string // libraries, in the order in which they are to be loaded
	RPath    string   // directories separated by colons: DT_RPATH
	RunPath  string   // likewise: DT_RUNPATH
	Versions []string // of symbols that are needed, such as "GLIBC_2.34"; sorted
	Defines  []string // versions of symbols that it has itself; sorted
}

// Section is a part of a file that has a name.
type Section struct {
	Name   string // cut to 63 bytes
	Type   uint32
	Flags  uint64
	Offset uint64 // in the file
	Size   uint64 // bytes
}

// Types and flags of sections.
const (
	SectionData   = 1 // SHT_PROGBITS: has contents that the program defines
	SectionNoBits = 8 // SHT_NOBITS: has no contents in the file
	SectionAlloc  = 2 // SHF_ALLOC: is there when the program runs
	SectionExec   = 4 // SHF_EXECINSTR: has instructions
)

// Types of program headers, and tags of the dynamic section.
const (
	typeLoad    = 1
	typeDynamic = 2

	tagNeeded     = 1
	tagStrings    = 5 // address
	tagSoname     = 14
	tagRPath      = 15
	tagRunPath    = 29
	tagVerdef     = 0x6ffffffc // address
	tagVerdefNum  = 0x6ffffffd
	tagVerneed    = 0x6ffffffe // address
	tagVerneedNum = 0x6fffffff
)

// Bounds of what is read, far above what there is in any file that runs.
const (
	maxSections    = 8192
	maxDynamic     = 4096 // entries of the dynamic section
	maxName        = 4096
	maxVersions    = 4096
	maxStrings     = 256 << 10 // bytes of strings of the dynamic section
	maxSectionName = 63
)

// ReadObject reads what [Read] does, the section headers and the dynamic section.
// If it fails behind the header, it returns what it has got, beside the error.
func ReadObject(r io.ReaderAt) (*Object, error) {
	f, t, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	o := &Object{File: *f}
	if err := o.readFlags(r); err != nil {
		return nil, err
	}
	if err := o.readSections(r); err != nil {
		return nil, err
	}
	segments, err := o.readSegments(r, t)
	if err != nil {
		return o, err
	}
	if o.Interp, err = readInterp(r, segments); err != nil {
		return o, err
	}
	for _, s := range segments {
		if s.kind == typeDynamic {
			o.Dynamic = true
			return o, o.readDynamic(r, s, segments)
		}
	}
	return o, nil
}

func (o *Object) readFlags(r io.ReaderAt) error {
	offset := uint64(48)
	if o.Class == 32 {
		offset = 36
	}
	var b [52]byte
	if err := readFull(r, b[:], 0); err != nil {
		return fmt.Errorf("elf: read header: %w", err)
	}
	o.ABI, o.Flags = b[8], o.Order.Uint32(b[offset:])
	return nil
}

// readSections fails only if reading does.
func (o *Object) readSections(r io.ReaderAt) error {
	err := o.sections(r)
	if err != nil {
		o.Sections = nil
	}
	return notFormat(err)
}

func (o *Object) sections(r io.ReaderAt) error {
	// Where the table is, and the section with the names: offsets of the header.
	at, counts, entry := uint64(40), uint64(58), 64
	if o.Class == 32 {
		at, counts, entry = 32, 46, 40
	}
	var b [8]byte
	if err := readFull(r, b[:o.Class/8], at); err != nil {
		return err
	}
	offset := o.word(b[:])
	if err := readFull(r, b[:6], counts); err != nil {
		return err
	}
	size, count, names := int(o.Order.Uint16(b[:])), int(o.Order.Uint16(b[2:])), int(o.Order.Uint16(b[4:]))
	if offset == 0 || count == 0 {
		return nil
	}
	if size != entry || count > maxSections || names >= count {
		return formatError("%d section headers of %d bytes", count, size)
	}
	buf := make([]byte, count*entry)
	if err := readFull(r, buf, offset); err != nil {
		return err
	}
	header := func(i int) (name uint32, s Section) {
		e := buf[i*entry:]
		name, s.Type = o.Order.Uint32(e), o.Order.Uint32(e[4:])
		w := o.Class / 8
		e = e[8:]
		s.Flags, s.Offset, s.Size = o.word(e), o.word(e[2*w:]), o.word(e[3*w:])
		return name, s
	}
	_, table := header(names)
	for i := range count {
		name, s := header(i)
		if uint64(name) < table.Size && table.Offset <= math.MaxInt64 {
			b, err := stringAt(r, table.Offset+uint64(name), maxSectionName)
			if err != nil {
				return err
			}
			s.Name = b
		}
		o.Sections = append(o.Sections, s)
	}
	return nil
}

// fileOffset returns where in the file an address is.
func fileOffset(segments []segment, addr uint64) (uint64, bool) {
	for _, s := range segments {
		if s.kind == typeLoad && addr >= s.addr && addr-s.addr < s.size {
			return s.offset + (addr - s.addr), true
		}
	}
	return 0, false
}

func (o *Object) readDynamic(r io.ReaderAt, dynamic segment, segments []segment) error {
	w := o.Class / 8
	buf := make([]byte, min(dynamic.size, uint64(maxDynamic*2*w)))
	if err := readFull(r, buf, dynamic.offset); err != nil {
		return fmt.Errorf("elf: read dynamic section: %w", err)
	}
	values := make(map[uint64]uint64) // of tags that come once
	var needed []uint64
	for ; len(buf) >= 2*w; buf = buf[2*w:] {
		tag, v := o.word(buf), o.word(buf[w:])
		if tag == 0 {
			break
		}
		switch tag {
		case tagNeeded:
			needed = append(needed, v)
		case tagStrings, tagSoname, tagRPath, tagRunPath, tagVerdef, tagVerdefNum, tagVerneed, tagVerneedNum:
			values[tag] = v
		}
	}
	strings, ok := fileOffset(segments, values[tagStrings])
	if !ok {
		if len(needed) == 0 {
			return nil
		}
		return formatError("the strings of the dynamic section are not in the file")
	}
	left := maxStrings
	str := func(index uint64) (string, error) {
		if index > math.MaxUint32 || left < 0 {
			return "", formatError("dynamic section: impossible strings")
		}
		s, err := stringAt(r, strings+index, maxName)
		if err != nil {
			return "", fmt.Errorf("elf: read dynamic section: %w", err)
		}
		left -= len(s)
		return s, nil
	}
	for _, v := range needed {
		s, err := str(v)
		if err != nil {
			return err
		}
		o.Needed = append(o.Needed, s)
	}
	for tag, field := range []*string{tagSoname: &o.Soname, tagRPath: &o.RPath, tagRunPath: &o.RunPath} {
		if v, ok := values[uint64(tag)]; ok && field != nil {
			s, err := str(v)
			if err != nil {
				return err
			}
			*field = s
		}
	}
	if at, ok := fileOffset(segments, values[tagVerneed]); ok {
		if err := o.readVersions(r, at, values[tagVerneedNum], str); err != nil {
			return err
		}
	}
	if at, ok := fileOffset(segments, values[tagVerdef]); ok {
		return o.readDefinitions(r, at, values[tagVerdefNum], str)
	}
	return nil
}

// readVersions reads a list of libraries, each with a list of versions.
// The layout is that of the Linux Standard Base, "Symbol Versioning".
func (o *Object) readVersions(r io.ReaderAt, at, count uint64, str func(uint64) (string, error)) error {
	var b [16]byte
	left := maxVersions
	for ; count > 0 && left > 0; count-- {
		if err := readFull(r, b[:], at); err != nil {
			return fmt.Errorf("elf: read versions: %w", err)
		}
		versions := int(o.Order.Uint16(b[2:]))
		aux, next := uint64(o.Order.Uint32(b[8:])), uint64(o.Order.Uint32(b[12:]))
		for pos := at + aux; versions > 0 && left > 0; versions-- {
			left--
			if err := readFull(r, b[:], pos); err != nil {
				return fmt.Errorf("elf: read versions: %w", err)
			}
			s, err := str(uint64(o.Order.Uint32(b[8:])))
			if err != nil {
				return err
			}
			o.Versions = append(o.Versions, s)
			step := uint64(o.Order.Uint32(b[12:]))
			if step == 0 {
				break
			}
			pos += step
		}
		if next == 0 {
			break
		}
		left--
		at += next
	}
	slices.Sort(o.Versions)
	o.Versions = slices.Compact(o.Versions)
	return nil
}

// readDefinitions reads a list of versions, each with a list of names, of which the first is its own.
// The first version, with the flag 1, has the name of the file. The layout is from the same place.
func (o *Object) readDefinitions(r io.ReaderAt, at, count uint64, str func(uint64) (string, error)) error {
	var b [20]byte
	for count = min(count, maxVersions); count > 0; count-- {
		if err := readFull(r, b[:], at); err != nil {
			return fmt.Errorf("elf: read versions: %w", err)
		}
		base := o.Order.Uint16(b[2:])&1 != 0
		aux, next := uint64(o.Order.Uint32(b[12:])), uint64(o.Order.Uint32(b[16:]))
		if !base {
			if err := readFull(r, b[:4], at+aux); err != nil {
				return fmt.Errorf("elf: read versions: %w", err)
			}
			s, err := str(uint64(o.Order.Uint32(b[:])))
			if err != nil {
				return err
			}
			o.Defines = append(o.Defines, s)
		}
		if next == 0 {
			break
		}
		at += next
	}
	slices.Sort(o.Defines)
	o.Defines = slices.Compact(o.Defines)
	return nil
}

// stringAt reads a string that ends with a zero byte, cut to limit bytes.
func stringAt(r io.ReaderAt, offset uint64, limit int) (string, error) {
	if offset > math.MaxInt64-maxName {
		return "", formatError("offset %d", offset)
	}
	for size := 64; ; size *= 8 {
		buf := make([]byte, min(size, limit+1))
		n, err := r.ReadAt(buf, int64(offset))
		if i := bytes.IndexByte(buf[:n], 0); i >= 0 {
			return string(buf[:i]), nil
		}
		switch {
		case n < len(buf) && err != io.EOF:
			return "", err
		case n < len(buf):
			return "", formatError("a string is not terminated")
		case n > limit:
			return string(buf[:limit]), nil
		}
	}
}

// notFormat returns an error unless it is about the format.
func notFormat(err error) error {
	if errors.Is(err, ErrFormat) {
		return nil
	}
	return err
}
