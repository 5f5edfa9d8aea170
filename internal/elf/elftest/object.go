package elftest

import (
	"bytes"
	"encoding/binary"
)

// Object describes a shared object, or a program, of 64 bits.
type Object struct {
	Arch     string // one of [Archs] with 64 bits, "cuda" or "amdgpu"; little endian
	Type     uint16 // 3, a shared object, if it is 0
	ABI      byte
	Flags    uint32
	Interp   string
	Soname   string
	Needed   []string
	RPath    string
	RunPath  string
	Versions []string // needed of libc.so.6
	Defines  []string // versions of its own symbols
	Sections []Section
	// NoSections leaves out the section headers, as sstrip does.
	NoSections bool
}

// Section is a section of an [Object].
type Section struct {
	Name  string
	Flags uint64 // 2: there when the program runs, 4: instructions
	Align int    // 8 if it is 0
	Data  []byte
}

// Bytes returns the file. Addresses are offsets, so that one segment loads all of it.
func (o *Object) Bytes() []byte {
	le := binary.LittleEndian
	strtab := []byte{0}
	str := func(s string) uint64 {
		at := len(strtab)
		strtab = append(append(strtab, s...), 0)
		return uint64(at)
	}
	var dynamic []byte
	tag := func(tag, value uint64) { dynamic = le.AppendUint64(le.AppendUint64(dynamic, tag), value) }
	for _, s := range o.Needed {
		tag(1, str(s))
	}
	for t, s := range []string{14: o.Soname, 15: o.RPath, 29: o.RunPath} {
		if s != "" {
			tag(uint64(t), str(s))
		}
	}
	var verneed []byte
	if len(o.Versions) > 0 {
		verneed = le.AppendUint16(le.AppendUint16(nil, 1), uint16(len(o.Versions)))
		verneed = le.AppendUint32(verneed, uint32(str("libc.so.6")))
		verneed = le.AppendUint32(le.AppendUint32(verneed, 16), 0)
		for i, s := range o.Versions {
			next := uint32(16)
			if i == len(o.Versions)-1 {
				next = 0
			}
			verneed = le.AppendUint32(verneed, 0)                     // hash
			verneed = le.AppendUint16(le.AppendUint16(verneed, 0), 2) // flags, index
			verneed = le.AppendUint32(le.AppendUint32(verneed, uint32(str(s))), next)
		}
	}
	var verdef []byte
	for i, s := range append([]string{o.Soname}, o.Defines...) {
		if len(o.Defines) == 0 {
			break
		}
		base, next := uint16(0), uint32(28)
		if i == 0 {
			base = 1
		}
		if i == len(o.Defines) {
			next = 0
		}
		for _, v := range []uint16{1, base, uint16(i + 1), 1} { // version, flags, index, names
			verdef = le.AppendUint16(verdef, v)
		}
		for _, v := range []uint32{0, 20, next, uint32(str(s)), 0} { // hash, where the names are, the next; name, the next
			verdef = le.AppendUint32(verdef, v)
		}
	}

	const header, entry = 64, 56
	segments := 2
	if o.Interp != "" {
		segments++
	}
	file := make([]byte, header+segments*entry)
	put := func(data []byte, align int) (at int) {
		file = append(file, make([]byte, -len(file)&(align-1))...)
		at = len(file)
		file = append(file, data...)
		return at
	}
	interp := put([]byte(o.Interp+"\x00"), 1)
	tag(5, uint64(put(strtab, 8)))
	if verneed != nil {
		tag(0x6ffffffe, uint64(put(verneed, 8)))
		tag(0x6fffffff, 1)
	}
	if verdef != nil {
		tag(0x6ffffffc, uint64(put(verdef, 8)))
		tag(0x6ffffffd, uint64(len(o.Defines)+1))
	}
	tag(0, 0)
	dynamicAt := put(dynamic, 8)

	names := []byte("\x00.shstrtab\x00")
	headers := make([]byte, 64) // the first is empty
	section := func(name uint32, kind uint32, flags uint64, at, size int) {
		var b bytes.Buffer
		for _, v := range []any{name, kind, flags, uint64(at), uint64(at), uint64(size), uint64(0), uint64(1), uint64(0)} {
			binary.Write(&b, le, v)
		}
		headers = append(headers, b.Bytes()...)
	}
	for _, s := range o.Sections {
		align := s.Align
		if align == 0 {
			align = 8
		}
		at := put(s.Data, align)
		section(uint32(len(names)), 1, s.Flags, at, len(s.Data))
		names = append(append(names, s.Name...), 0)
	}
	loaded := len(file)
	section(1, 3, 0, put(names, 1), len(names))
	sectionsAt := put(headers, 8)

	machine := kinds[o.Arch].machine
	kind := o.Type
	if kind == 0 {
		kind = 3
	}
	copy(file, "\x7fELF\x02\x01\x01")
	file[8] = o.ABI
	le.PutUint16(file[16:], kind)
	le.PutUint16(file[18:], machine)
	le.PutUint32(file[20:], 1)
	le.PutUint64(file[32:], header)
	le.PutUint32(file[48:], o.Flags)
	le.PutUint16(file[52:], header)
	le.PutUint16(file[54:], entry)
	le.PutUint16(file[56:], uint16(segments))
	if !o.NoSections {
		le.PutUint64(file[40:], uint64(sectionsAt))
		le.PutUint16(file[58:], 64)
		le.PutUint16(file[60:], uint16(len(headers)/64))
		le.PutUint16(file[62:], uint16(len(headers)/64-1))
	}
	segment := func(i int, kind uint32, at, size int) {
		e := file[header+i*entry:]
		le.PutUint32(e, kind)
		le.PutUint32(e[4:], 4)
		for _, field := range []int{8, 16, 24} {
			le.PutUint64(e[field:], uint64(at))
		}
		le.PutUint64(e[32:], uint64(size))
		le.PutUint64(e[40:], uint64(size))
	}
	segment(0, 1, 0, loaded)
	segment(1, 2, dynamicAt, len(dynamic))
	if o.Interp != "" {
		segment(2, 3, interp, len(o.Interp)+1)
	}
	return file
}
