package gpu

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf"
)

const (
	windowSize = 256 << 10
	// overlap of windows, so that no name is cut
	overlap = 256
)

// scanner looks for GPU code and the names of libraries in one file after the other.
//
// It goes through a file in windows.
// What it takes for a container, it walks through by the headers, and steps over:
// a library of half a gigabyte that is mostly GPU code is mostly not read.
type scanner struct {
	ctx  context.Context
	r    *inspect.File
	size int64

	// the window: buf[:n] is what lies at base
	buf   []byte
	base  int64
	n     int
	small [maxEntryID]byte // what is read outside of it

	// Up to these offsets, containers and names have been looked for.
	found, named int64

	fatSections, hipSections []extent
	data                     []extent // where names of libraries may be

	rows    map[entry]*count
	shapes  map[string]*shape
	names   map[string]bool
	marks   map[Mark]bool
	entries []entry       // of the container at hand, those alike as one
	index   map[entry]int // into entries, by kind and target
	steps   int64         // entries that have been read of it
	waste   int64         // entries of what turned out to be no container
	heads   headReader
}

// extent is a part of a file.
type extent struct{ from, to int64 }

// entry is a piece of code in a container.
type entry struct {
	kind   Kind
	target string
	// These are not part of its identity.
	n     int
	isa   Version // newest
	zstd  int     // compressed with it
	empty bool    // no code in any of them
}

type count struct {
	isa                  Version
	sections, file, zstd int
}

// shape is a set of targets that containers have entries for.
type shape struct {
	entries []entry // sorted
	empty   bool    // all of them are
	count   int
}

// Bounds of what is kept of a file, far above what there is in any.
const (
	maxRows    = 4096
	maxNames   = 1024
	maxExtents = 64
)

var scanners = sync.Pool{New: func() any { return &scanner{buf: make([]byte, windowSize)} }}

// reset begins with another file.
func (s *scanner) reset(ctx context.Context, r *inspect.File) {
	*s = scanner{
		ctx: ctx, r: r, size: r.Size, buf: s.buf, entries: s.entries, index: s.index, heads: s.heads,
		rows: make(map[entry]*count), shapes: make(map[string]*shape),
		names: make(map[string]bool), marks: make(map[Mark]bool),
	}
}

// sections notes what is where in an ELF file.
func (s *scanner) sections(f *File, o *elf.Object) {
	for _, sec := range o.Sections {
		if sec.Type == elf.SectionNoBits || sec.Offset > uint64(s.size) || sec.Size > uint64(s.size)-sec.Offset {
			continue
		}
		e := extent{int64(sec.Offset), int64(sec.Offset + sec.Size)}
		switch sec.Name {
		case ".nv_fatbin":
			s.fatSections = append(s.fatSections, e)
		case ".hip_fatbin":
			s.hipSections = append(s.hipSections, e)
		case ".nvFatBinSegment":
			s.marks[MarkWrapper] = true
		case ".note.cuda.fwd_compatibility":
			s.marks[MarkCompat] = true
		case ".llvm.offloading":
			s.marks[MarkOffloading] = true
		case ".eh_frame", ".eh_frame_hdr", ".gcc_except_table", "__nv_relfatbin":
		default:
			if sec.Type == elf.SectionData && sec.Flags&elf.SectionAlloc != 0 && sec.Flags&elf.SectionExec == 0 {
				s.data = append(s.data, e)
			}
		}
	}
	if len(o.Sections) == 0 {
		s.data = []extent{{0, s.size}}
	}
	s.data, s.fatSections, s.hipSections = merged(s.data), merged(s.fatSections), merged(s.hipSections)
}

// merged makes extents ascending and apart. If they are too many to be true, they become one.
func merged(list []extent) []extent {
	slices.SortFunc(list, func(a, b extent) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	var out []extent
	for _, e := range list {
		if n := len(out); n > 0 && (e.from <= out[n-1].to || n == maxExtents) {
			out[n-1].to = max(out[n-1].to, e.to)
		} else {
			out = append(out, e)
		}
	}
	return out
}

func within(extents []extent, off int64) bool {
	return slices.ContainsFunc(extents, func(e extent) bool { return e.from <= off && off < e.to })
}

// slide moves the window on, so that it begins at base. What is not in it yet is read, and what lies between is not.
func (s *scanner) slide(base int64) error {
	end := s.base + int64(s.n)
	kept := max(0, end-base)
	copy(s.buf, s.buf[int64(s.n)-kept:s.n])
	if err := s.r.Skip(base - end); err != nil {
		return err
	}
	n, err := io.ReadFull(s.r, s.buf[kept:min(windowSize, s.size-base)])
	s.base, s.n = base, int(kept)+n
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		s.size, err = base+int64(s.n), nil // it has become shorter
	}
	return err
}

// view returns n bytes at an offset, or what there is of them.
// They are valid until the next call.
func (s *scanner) view(off int64, n int) ([]byte, error) {
	if s.base <= off && off+int64(n) <= s.base+int64(s.n) {
		return s.buf[off-s.base:][:n], nil
	}
	k, err := s.r.ReadAt(s.small[:min(n, len(s.small))], off)
	if err == io.EOF {
		err = nil
	}
	return s.small[:k], err
}

// scan goes through the whole file.
func (s *scanner) scan() (err error) {
	for next := int64(0); next < s.size; {
		if err := s.slide(next); err != nil {
			return err
		}
		if next, err = s.look(); err != nil {
			return err
		}
	}
	return nil
}

// look looks into the window, and returns where the next one is to begin.
func (s *scanner) look() (next int64, err error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	end := s.base + int64(s.n)
	for {
		at := s.candidate(max(s.found, s.base))
		if at < 0 {
			s.found = max(s.found, end&^7)
			break
		}
		stop, err := s.container(at)
		if err != nil {
			return 0, err
		}
		if stop == 0 {
			s.found = at + 8
			continue
		}
		s.findNames(max(s.named, s.base), at)
		s.found, s.named = (stop+7)&^7, stop
	}
	s.findNames(max(s.named, s.base), end)
	if end >= s.size {
		return s.size, nil
	}
	next = (end - overlap) &^ 7
	s.named = max(s.named, next)
	return max(next, min(s.found, s.named)&^7), nil
}

// candidate returns the first offset in the window, not before from,
// where a container or a bundle may begin, or -1.
func (s *scanner) candidate(from int64) int64 {
	b := s.buf[:s.n]
	i := int(from - s.base)
	if i >= len(b) || s.marks[MarkConfusing] {
		return -1
	}
	fat := nextFatbin(b, i)
	stop := len(b)
	if fat >= 0 {
		stop = fat
	}
	for page := i + int(-(s.base+int64(i))&(bundleAlign-1)); page+8 <= stop; page += bundleAlign {
		if isBundle(b[page:]) {
			return s.base + int64(page)
		}
	}
	if fat < 0 {
		return -1
	}
	return s.base + int64(fat)
}

// nextFatbin returns the first index in b that is i plus a multiple of 8
// and where the header of a CUDA container may begin, or -1.
func nextFatbin(b []byte, i int) int {
	const rare = fatbinMagic >> 8 & 0xff // the second byte, which programs and texts hardly have
	word := binary.LittleEndian.Uint64
	for i+8 <= len(b) {
		k := bytes.IndexByte(b[i+1:], rare)
		if k < 0 {
			break
		}
		i += k &^ 7
		// Data may be full of that byte: look at some words before the next search.
		for end := min(i+64, len(b)-7); i < end; i += 8 {
			if word(b[i:]) == fatbinMagic {
				return i
			}
		}
	}
	return -1
}

// container reads the headers of a container, and counts what it holds.
// It returns where it ends, or 0 if it is none.
func (s *scanner) container(at int64) (stop int64, err error) {
	head, err := s.view(at, 8)
	if err != nil || len(head) < 8 {
		return 0, err
	}
	sections := s.hipSections
	if binary.LittleEndian.Uint64(head) == fatbinMagic {
		sections = s.fatSections
		stop, err = s.fatbin(at)
	} else {
		stop, err = s.bundle(at)
	}
	if err != nil {
		return 0, err
	}
	if stop == 0 {
		// Whoever wants to can make a file in which everything looks like the header of a container.
		if s.waste += s.steps + 1; s.waste > s.size/64+4096 {
			s.marks[MarkConfusing] = true
		}
		return 0, nil
	}
	s.count(within(sections, at))
	return stop, nil
}

// begin forgets the entries of the last container.
func (s *scanner) begin() {
	s.entries, s.steps = s.entries[:0], 0
	if len(s.index) > 64 || s.index == nil {
		s.index = make(map[entry]int) // to clear a large one takes long
	}
	clear(s.index)
}

// add adds an entry to the container at hand.
func (s *scanner) add(e entry) {
	key := entry{kind: e.kind, target: e.target}
	i, ok := s.index[key]
	if !ok {
		i = len(s.entries)
		s.index[key] = i
		s.entries = append(s.entries, entry{kind: e.kind, target: e.target, empty: true})
	}
	old := &s.entries[i]
	old.n++
	old.zstd += e.zstd
	old.isa = later(old.isa, e.isa)
	old.empty = old.empty && e.empty
}

// count counts the container at hand.
func (s *scanner) count(inSection bool) {
	empty := true
	for i, e := range s.entries {
		key := entry{kind: e.kind, target: e.target}
		c := s.rows[key]
		if c == nil {
			if len(s.rows) == maxRows {
				s.marks[MarkConfusing] = true
				return
			}
			c = new(count)
			s.rows[key] = c
		}
		c.isa = later(c.isa, e.isa)
		c.file += e.n
		c.zstd += e.zstd
		if inSection {
			c.sections += e.n
		}
		empty = empty && e.empty
		s.entries[i] = key
	}
	slices.SortFunc(s.entries, entry.compare)
	var key []byte
	for _, e := range s.entries {
		key = append(append(append(append(key, e.kind...), ' '), e.target...), ' ')
	}
	if empty {
		key = append(key, "empty"...)
	}
	if sh := s.shapes[string(key)]; sh != nil {
		sh.count++
	} else {
		s.shapes[string(key)] = &shape{slices.Clone(s.entries), empty, 1}
	}
}

// report puts what has been found into f.
func (s *scanner) report(f *File) {
	rows := make(map[entry]int)
	for i, e := range slices.SortedFunc(maps.Keys(s.rows), entry.compare) {
		c := s.rows[e]
		rows[e] = i
		f.Code = append(f.Code, Code{Kind: e.kind, Target: e.target, ISA: c.isa, Sections: c.sections, File: c.file, Zstd: c.zstd})
	}
	for _, key := range slices.Sorted(maps.Keys(s.shapes)) {
		c := Container{Count: s.shapes[key].count, Empty: s.shapes[key].empty}
		for _, e := range s.shapes[key].entries {
			c.Code = append(c.Code, rows[e])
		}
		f.Containers = append(f.Containers, c)
	}
	for name := range s.names {
		if name != f.Soname && !slices.Contains(f.Needed, name) {
			f.Names = append(f.Names, name)
		}
	}
	slices.Sort(f.Names)
	f.Marks = slices.Sorted(maps.Keys(s.marks))
}

// compare orders entries by kind, then number, then the rest of the target.
func (e entry) compare(o entry) int {
	if e.kind != o.kind {
		return slices.Index(kinds, e.kind) - slices.Index(kinds, o.kind)
	}
	return compareTargets(e.target, o.target)
}
