package net

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf"
)

const (
	windowSize = 256 << 10
	maxText    = 512 // bytes of a text that is looked at
	maxNames   = 256 // of libraries, that are kept of a file
)

// scanner looks for texts in the data of one file after the other, from the first byte to the last.
type scanner struct {
	buf   []byte
	names map[string]bool
	texts *texts // nil if nothing but names is of interest
}

var scanners = sync.Pool{New: func() any { return &scanner{buf: make([]byte, windowSize)} }}

// extent is a part of a file.
type extent struct{ from, to int64 }

// scan reads the data of a file, and puts what it finds into f.
func (s *scanner) scan(ctx context.Context, in *inspect.File, o *elf.Object, f *File) error {
	s.names, s.texts = make(map[string]bool), nil
	if f.Software.readsText() {
		s.texts = &texts{software: f.Software}
	}
	at := int64(0)
	for _, e := range dataOf(o, in.Size) {
		if err := in.Skip(e.from - at); err != nil {
			return err
		}
		if err := s.section(ctx, in, e.to-e.from); err != nil {
			return err
		}
		at = e.to
	}
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		if name != f.Soname && !slices.Contains(f.Needed, name) {
			f.Names = append(f.Names, name)
		}
	}
	if s.texts != nil {
		s.texts.report(f)
	}
	return nil
}

// dataOf returns where a file has data that its program reads, without GPU code. The extents are ascending and apart.
func dataOf(o *elf.Object, size int64) []extent {
	if len(o.Sections) == 0 {
		return []extent{{0, size}}
	}
	var list []extent
	for _, sec := range o.Sections {
		if sec.Type != elf.SectionData || sec.Flags&elf.SectionAlloc == 0 || sec.Flags&elf.SectionExec != 0 ||
			sec.Offset > uint64(size) || sec.Size > uint64(size)-sec.Offset {
			continue
		}
		switch sec.Name {
		case ".eh_frame", ".eh_frame_hdr", ".gcc_except_table", ".nv_fatbin", "__nv_relfatbin", ".hip_fatbin":
			continue
		}
		list = append(list, extent{int64(sec.Offset), int64(sec.Offset + sec.Size)})
	}
	slices.SortFunc(list, func(a, b extent) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	apart := list[:0]
	for _, e := range list {
		if n := len(apart); n > 0 && e.from < apart[n-1].to {
			apart[n-1].to = max(apart[n-1].to, e.to)
		} else {
			apart = append(apart, e)
		}
	}
	return apart
}

// section reads n bytes. Texts that go beyond a window are moved to the begin of the next.
func (s *scanner) section(ctx context.Context, in io.Reader, n int64) error {
	kept := 0
	for n > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := io.ReadFull(in, s.buf[kept:min(int64(windowSize), int64(kept)+n)])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			n, err = int64(k), nil // it has become shorter
		}
		if err != nil {
			return err
		}
		n -= int64(k)
		window := s.buf[:kept+k]
		end := len(window)
		if n > 0 {
			end = max(bytes.LastIndexByte(window, 0)+1, len(window)-maxText)
		}
		s.look(window[:end])
		kept = copy(s.buf, window[end:])
	}
	return nil
}

// look looks at whole texts, and at others as far as they are there.
func (s *scanner) look(b []byte) {
	s.libraries(b)
	if s.texts == nil {
		return
	}
	for len(b) > 0 {
		line, rest, ended := bytes.Cut(b, []byte{0})
		if b = rest; !ended {
			return
		}
		line = line[max(0, len(line)-maxText):]
		// What is before a text may be anything.
		if i := bytes.LastIndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' && c != '\n' || c > '~' }); i >= 0 {
			line = line[i+1:]
			for len(line) > 0 && line[0]&0xc0 == 0x80 {
				line = line[1:]
			}
		}
		if len(line) > 2 {
			s.texts.text(string(line))
		}
	}
}

// libraries looks for names of libraries.
func (s *scanner) libraries(b []byte) {
	for {
		dot := bytes.Index(b, []byte(".so"))
		if dot < 0 {
			return
		}
		start, stop := dot, dot+3
		for start > 0 && dot-start < 64 && isNameByte(b[start-1]) {
			start--
		}
		for stop < len(b) && stop-dot < 64 && isNameByte(b[stop]) {
			stop++
		}
		if name := b[start:stop]; stop < len(b) && b[stop] == 0 && bytes.HasPrefix(name, []byte("lib")) && len(s.names) < maxNames && library(string(name)) {
			s.names[string(name)] = true
		}
		b = b[dot+3:]
	}
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-' || c == '_' || c == '+'
}
