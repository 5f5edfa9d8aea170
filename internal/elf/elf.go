package elf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// ErrFormat is wrapped by the errors about files that are not ELF files, or damaged ones.
var ErrFormat = errors.New("not a valid ELF file")

// Magic is what an ELF file begins with.
const Magic = "\x7fELF"

// Machine is the machine that a file is for, by the number that ELF gives it.
type Machine uint16

// Machines that GPU code is for. [File.Arch] is empty for them, as they run no programs of their own.
const (
	MachineCUDA   Machine = 190
	MachineAMDGPU Machine = 224
)

// Type is the kind of a file.
type Type uint16

// Types of files that a kernel or a loader can load.
const (
	TypeExec   Type = 2 // a program at a fixed address
	TypeShared Type = 3 // a shared object, or a program that can lie anywhere
)

// File is what the beginning of an ELF file says.
type File struct {
	Machine Machine
	// Arch is Go's name of the CPU architecture, such as "amd64" or "arm64".
	// It is empty for machines that are no CPU, and for those that Go has no name for.
	Arch  string
	Class int // bits of an address: 32 or 64
	Order binary.ByteOrder
	Type  Type
	// Interp is the path of the loader that the kernel starts the program with.
	// It is empty in static programs, in shared objects,
	// and in what [ReadHeader] returns.
	Interp string
}

// Static reports whether f, if it is a program, needs no loader.
func (f *File) Static() bool { return f.Interp == "" }

const (
	header32, header64 = 52, 64
	entry32, entry64   = 32, 56
	typeInterp         = 3    // PT_INTERP
	maxEntries         = 1024 // program headers; a file has about a dozen
	maxInterp          = 4096 // bytes, the kernel's PATH_MAX
)

// ReadHeader reads the header alone.
// That is enough to know the machine, but not the loader.
func ReadHeader(r io.ReaderAt) (*File, error) {
	f, _, err := readHeader(r)
	return f, err
}

// Read reads the header and looks for the loader's path.
func Read(r io.ReaderAt) (*File, error) {
	f, table, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	segments, err := f.readSegments(r, table)
	if err != nil {
		return nil, err
	}
	if f.Interp, err = readInterp(r, segments); err != nil {
		return nil, err
	}
	return f, nil
}

// table is where the program headers are.
type table struct {
	offset uint64
	size   uint16 // bytes of each
	count  uint16
}

func readHeader(r io.ReaderAt) (*File, table, error) {
	var buf [header64]byte
	n, err := r.ReadAt(buf[:], 0)
	if n < len(buf) && err != io.EOF {
		return nil, table{}, fmt.Errorf("elf: read header: %w", err)
	}
	h := buf[:n]
	if !bytes.HasPrefix(h, []byte(Magic)) {
		return nil, table{}, formatError("header: no magic number")
	}
	if len(h) < header32 {
		return nil, table{}, formatError("header: %d bytes, want at least %d", len(h), header32)
	}
	f := new(File)
	switch h[5] {
	case 1:
		f.Order = binary.LittleEndian
	case 2:
		f.Order = binary.BigEndian
	default:
		return nil, table{}, formatError("header: byte order %d", h[5])
	}
	f.Type = Type(f.Order.Uint16(h[16:]))
	f.Machine = Machine(f.Order.Uint16(h[18:]))
	var t table
	switch h[4] {
	case 1:
		f.Class = 32
		t = table{uint64(f.Order.Uint32(h[28:])), f.Order.Uint16(h[42:]), f.Order.Uint16(h[44:])}
	case 2:
		if len(h) < header64 {
			return nil, table{}, formatError("header: %d bytes, want %d", len(h), header64)
		}
		f.Class = 64
		t = table{f.Order.Uint64(h[32:]), f.Order.Uint16(h[54:]), f.Order.Uint16(h[56:])}
	default:
		return nil, table{}, formatError("header: class %d", h[4])
	}
	f.Arch = arch(f.Machine, f.Class, f.Order == binary.BigEndian)
	return f, t, nil
}

// segment is a program header.
type segment struct {
	kind               uint32
	offset, addr, size uint64 // where it is in the file and in memory, and bytes in the file
}

// word reads an address, or a number of that size.
func (f *File) word(b []byte) uint64 {
	if f.Class == 32 {
		return uint64(f.Order.Uint32(b))
	}
	return f.Order.Uint64(b)
}

func (f *File) readSegments(r io.ReaderAt, t table) ([]segment, error) {
	if t.count == 0 {
		return nil, nil // an object file
	}
	if t.count > maxEntries {
		return nil, formatError("%d program headers, want at most %d", t.count, maxEntries)
	}
	want := uint16(entry64)
	if f.Class == 32 {
		want = entry32
	}
	if t.size != want {
		return nil, formatError("program headers have %d bytes, want %d", t.size, want)
	}
	buf := make([]byte, int(t.count)*int(t.size))
	if err := readFull(r, buf, t.offset); err != nil {
		return nil, fmt.Errorf("elf: read program headers: %w", err)
	}
	var segments []segment
	for e := buf; len(e) > 0; e = e[t.size:] {
		s := segment{kind: f.Order.Uint32(e)}
		if f.Class == 32 {
			s.offset, s.addr, s.size = f.word(e[4:]), f.word(e[8:]), f.word(e[16:])
		} else {
			s.offset, s.addr, s.size = f.word(e[8:]), f.word(e[16:]), f.word(e[32:])
		}
		segments = append(segments, s)
	}
	return segments, nil
}

func readInterp(r io.ReaderAt, segments []segment) (string, error) {
	for _, s := range segments {
		if s.kind != typeInterp {
			continue
		}
		if s.size > maxInterp {
			return "", formatError("path of the loader has %d bytes, want at most %d", s.size, maxInterp)
		}
		name := make([]byte, s.size)
		if err := readFull(r, name, s.offset); err != nil {
			return "", fmt.Errorf("elf: read path of the loader: %w", err)
		}
		text, _, terminated := bytes.Cut(name, []byte{0})
		if !terminated || len(text) == 0 {
			return "", formatError("path of the loader is empty or not terminated")
		}
		return string(text), nil
	}
	return "", nil
}

func readFull(r io.ReaderAt, p []byte, offset uint64) error {
	if offset > math.MaxInt64-uint64(len(p)) {
		return fmt.Errorf("%w: offset %d", ErrFormat, offset)
	}
	n, err := r.ReadAt(p, int64(offset))
	switch {
	case n == len(p):
		return nil
	case err == io.EOF:
		return fmt.Errorf("%w: file ends before offset %d", ErrFormat, offset+uint64(len(p)))
	}
	return err
}

func formatError(format string, args ...any) error {
	return fmt.Errorf("elf: %w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// arch returns Go's name of a machine.
// The numbers are those of the registry that the System V ABI refers to.
func arch(m Machine, class int, bigEndian bool) string {
	type variant struct {
		machine   Machine
		class     int
		bigEndian bool
	}
	switch (variant{m, class, bigEndian}) {
	case variant{3, 32, false}:
		return "386"
	case variant{8, 32, true}:
		return "mips"
	case variant{8, 32, false}:
		return "mipsle"
	case variant{8, 64, true}:
		return "mips64"
	case variant{8, 64, false}:
		return "mips64le"
	case variant{21, 64, true}:
		return "ppc64"
	case variant{21, 64, false}:
		return "ppc64le"
	case variant{22, 64, true}:
		return "s390x"
	case variant{40, 32, false}:
		return "arm"
	case variant{62, 64, false}, variant{62, 32, false}: // the latter with short addresses, x32
		return "amd64"
	case variant{183, 64, false}:
		return "arm64"
	case variant{243, 64, false}:
		return "riscv64"
	case variant{258, 64, false}:
		return "loong64"
	}
	return ""
}
