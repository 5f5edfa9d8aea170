package gpu_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	insp "github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

func inspect(t *testing.T, fsys fs.FS) *gpu.Facts {
	t.Helper()
	facts, err := gpu.Inspect(context.Background(), fsys, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	list := []insp.Inspector{gpu.Inspector}
	for _, size := range []int{1000, 1 << 20} {
		if observed := observe(t, insp.Observe(t.Context(), list, fsys, "."), fsys, size); !reflect.DeepEqual(observed, facts) {
			t.Errorf("an observer that is given %d bytes at a time finds %+v, want %+v", size, observed, facts)
		}
	}
	if observed := observe(t, insp.ObserveStream(t.Context(), list, new(insp.Spool)), fsys, 100_000); !reflect.DeepEqual(observed, facts) {
		t.Errorf("an observer of a stream finds %+v, want %+v", observed, facts)
	}
	return facts
}

// observe shows a tree to an Observer, contents in pieces of up to the given size.
func observe(t *testing.T, o *insp.Observer, fsys fs.FS, size int) *gpu.Facts {
	t.Helper()
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := ""
		if d.Type() == fs.ModeSymlink {
			if target, err = fs.ReadLink(fsys, name); err != nil {
				return err
			}
		}
		if err := o.Node(name, info, target); err != nil || !info.Mode().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		for n := 3; len(data) > 0 && err == nil; n = size { // the first piece is shorter than a magic number
			n = min(n, len(data))
			_, err = o.Write(data[:n])
			data = data[n:]
		}
		return err
	})
	if err == nil {
		err = o.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	facts, err := gpu.FactsOf(o.Facts())
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// inspectFile returns what is found in one file.
func inspectFile(t *testing.T, name string, data []byte) gpu.File {
	t.Helper()
	facts := inspect(t, fstest.MapFS{name: {Data: data}})
	if len(facts.Files) != 1 {
		t.Fatalf("%s: found %d files", name, len(facts.Files))
	}
	return facts.Files[0]
}

// show returns rows of code as text: kind, target, and the two counts.
func show(code []gpu.Code) string {
	var words []string
	for _, c := range code {
		word := fmt.Sprintf("%s:%s:%d/%d", c.Kind, c.Target, c.Sections, c.File)
		if !c.ISA.IsZero() {
			word += "@" + c.ISA.String()
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func containers(f gpu.File) (n int) {
	for _, c := range f.Containers {
		n += c.Count
	}
	return n
}

func TestFatbins(t *testing.T) {
	cubin := func(sm uint32) gputest.Entry { return gputest.Entry{Kind: gputest.Cubin, SM: sm} }
	ptx := func(sm uint32, isa int) gputest.Entry {
		return gputest.Entry{Kind: gputest.PTX, SM: sm, ISA: isa, Header: 88}
	}
	for _, test := range []struct {
		name       string
		fatbin     []byte
		code       string
		containers int
	}{
		{"one", gputest.Fatbin(cubin(80)), "sass:sm_80:1/1", 1},
		{"several entries", gputest.Fatbin(cubin(90), cubin(80), cubin(80), ptx(90, 78)), "sass:sm_80:2/2 sass:sm_90:1/1 ptx:sm_90:1/1@7.8", 1},
		{"several containers", slices.Concat(gputest.SASS("sm_80"), gputest.SASS("sm_80"), make([]byte, 40), gputest.SASS("sm_90")),
			"sass:sm_80:2/2 sass:sm_90:1/1", 3},
		{"specific", gputest.SASS("sm_90", "sm_90a", "sm_100a", "sm_120"), "sass:sm_90:1/1 sass:sm_90a:1/1 sass:sm_100a:1/1 sass:sm_120:1/1", 1},
		{"newest PTX", gputest.Fatbin(ptx(80, 84), ptx(80, 91), ptx(80, 70)), "ptx:sm_80:3/3@9.1", 1},
		{"LTO", gputest.Fatbin(gputest.Entry{Kind: gputest.LTO, SM: 87, Header: 112}), "lto:sm_87:1/1", 1},
		{"empty payload", gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80, Payload: []byte{}}), "sass:sm_80:1/1", 1},
		{"a container that looks into another",
			gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80, Payload: gputest.SASS("sm_90")}), "sass:sm_80:1/1", 1},

		{"no entries", gputest.Fatbin(), "", 0},
		{"cut", gputest.SASS("sm_80")[:2000], "", 0},
		{"not at a multiple of 8", append(make([]byte, 4), gputest.SASS("sm_80")...), "", 0},
		{"too long by one byte", edit(gputest.SASS("sm_80"), 8, 0xff), "", 0},
		{"huge", edit(gputest.SASS("sm_80"), 15, 0xff), "", 0},
		{"header of 0 bytes", edit(gputest.SASS("sm_80"), 16+4, 0), "", 0},
		{"header of 4 GiB", edit(gputest.SASS("sm_80"), 16+7, 0xff), "", 0},
		{"payload of 2^63 bytes", edit(gputest.SASS("sm_80"), 16+15, 0x80), "", 0},
		{"impossible target", edit(gputest.SASS("sm_80"), 16+31, 1), "", 0},
		{"damaged, with one inside", gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80, Payload: append(gputest.SASS("sm_90"), make([]byte, 4096)...)})[:4300], "sass:sm_90:1/1", 1},
	} {
		f := inspectFile(t, "lib/lib.so", gputest.Library(elftest.Object{}, test.fatbin))
		if got := show(f.Code); got != test.code || containers(f) != test.containers {
			t.Errorf("%s: got %q in %d containers, want %q in %d", test.name, got, containers(f), test.code, test.containers)
		}
	}
}

// edit sets a byte.
func edit(data []byte, offset int, b byte) []byte {
	data = bytes.Clone(data)
	data[offset] = b
	return data
}

func TestUnknownEntriesAreMarked(t *testing.T) {
	f := inspectFile(t, "lib.so", gputest.Library(elftest.Object{}, gputest.Fatbin(gputest.Entry{Kind: 0x10, SM: 80})))
	if len(f.Code) > 0 || !slices.Contains(f.Marks, gpu.MarkUnknown) {
		t.Errorf("%q, %q", show(f.Code), f.Marks)
	}
}

// What lies outside of .nv_fatbin counts in the file alone, also if there are no section headers.
func TestFatbinsOutsideOfSections(t *testing.T) {
	o := elftest.Object{Sections: []elftest.Section{
		{Name: ".data", Flags: 3, Data: slices.Concat(gputest.SASS("sm_80"), gputest.SASS("sm_80"))},
		{Name: "__nv_relfatbin", Flags: 2, Data: gputest.SASS("sm_90")},
	}}
	f := inspectFile(t, "lib.so", gputest.Library(o, gputest.SASS("sm_80")))
	if got, want := show(f.Code), "sass:sm_80:1/3 sass:sm_90:0/1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o.NoSections = true
	f = inspectFile(t, "lib.so", gputest.Library(o, gputest.SASS("sm_80"), "libcuda.so.1"))
	if got, want := show(f.Code), "sass:sm_80:0/3 sass:sm_90:0/1"; got != want || !slices.Equal(f.Names, []string{"libcuda.so.1"}) {
		t.Errorf("without sections: got %q and %q, want %q", got, f.Names, want)
	}
}

// The windows in which a file is read leave no trace.
func TestWindows(t *testing.T) {
	const window = 256 << 10
	for _, fill := range []int{window - 20000, window - 8200, window - 4200, window - 4104, window - 304, window - 256, window - 64, window - 8, window, 3*window - 16} {
		big := gputest.Entry{Kind: gputest.Cubin, SM: 90, Payload: make([]byte, 2*window)}
		o := elftest.Object{Arch: "amd64", Needed: []string{"libc.so.6"}, Sections: []elftest.Section{
			{Name: ".rodata", Flags: 2, Data: slices.Concat(make([]byte, fill), []byte("\x00libcuda.so.1\x00libnvidia-ml.so.1\x00"))},
			{Name: ".nv_fatbin", Flags: 2, Data: slices.Concat(gputest.SASS("sm_80"), gputest.Fatbin(big), gputest.SASS("sm_80"))},
			{Name: ".data", Flags: 3, Data: slices.Concat([]byte("libnvrtc.so.12\x00"), make([]byte, fill&^7), []byte("libcudart.so.12\x00"))},
		}}
		f := inspectFile(t, "lib.so", o.Bytes())
		if got, want := show(f.Code), "sass:sm_80:2/2 sass:sm_90:1/1"; got != want {
			t.Errorf("%d: got %q, want %q", fill, got, want)
		}
		if want := []string{"libcuda.so.1", "libcudart.so.12", "libnvidia-ml.so.1", "libnvrtc.so.12"}; !slices.Equal(f.Names, want) {
			t.Errorf("%d: got %q, want %q", fill, f.Names, want)
		}
	}
}

// A file in which everything looks like the begin of a container takes time in proportion to its size.
func TestConfusingFile(t *testing.T) {
	const count = 40000
	var body []byte
	head := gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80, Payload: make([]byte, 16)})
	for i := range count {
		h := bytes.Clone(head)
		binary.LittleEndian.PutUint64(h[8:], uint64((count-i)*len(head))) // to the end, where nothing fits
		body = append(body, h...)
	}
	f := inspectFile(t, "lib.so", gputest.Library(elftest.Object{}, body))
	if !slices.Contains(f.Marks, gpu.MarkConfusing) {
		t.Errorf("%q, marks %q", show(f.Code), f.Marks)
	}
}

// There are no more targets than anybody could want.
func TestTooManyTargets(t *testing.T) {
	var bundles [][]byte
	for i := range 6000 {
		bundles = append(bundles, gputest.Bundle(fmt.Sprintf("gfx%d", 10000+i)))
	}
	o := elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".hip_fatbin", Align: 4096, Data: gputest.At4096(bundles...)}}}
	if f := inspectFile(t, "lib.so", o.Bytes()); len(f.Code) != 4096 || !slices.Contains(f.Marks, gpu.MarkConfusing) {
		t.Errorf("%d targets, marks %q", len(f.Code), f.Marks)
	}
}

func TestEmptyContainers(t *testing.T) {
	empty := gputest.Fatbin(
		gputest.Entry{Kind: gputest.Cubin, SM: 52, Payload: gputest.EmptyCubin(52)},
		gputest.Entry{Kind: gputest.PTX, SM: 52, ISA: 78, Payload: []byte(".version 7.8\n.target sm_52\n.address_size 64\n")})
	half := gputest.Fatbin(
		gputest.Entry{Kind: gputest.Cubin, SM: 52, Payload: gputest.EmptyCubin(52)},
		gputest.Entry{Kind: gputest.Cubin, SM: 52, Payload: gputest.SmallCubin(52)})
	f := inspectFile(t, "lib.so", gputest.Library(elftest.Object{}, slices.Concat(empty, half, empty)))
	if got, want := show(f.Code), "sass:sm_52:4/4 ptx:sm_52:2/2@7.8"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []gpu.Container{{Code: []int{0}, Count: 1}, {Code: []int{0, 1}, Count: 2, Empty: true}}; !reflect.DeepEqual(f.Containers, want) {
		t.Errorf("got %+v, want %+v", f.Containers, want)
	}
}

func TestBundles(t *testing.T) {
	two := gputest.Bundle("gfx90a:xnack+", "gfx1100")
	const twoCode = "hip:gfx90a:xnack+:1/1 hip:gfx1100:1/1"
	rodata := elftest.Section{Name: ".hip_fatbin", Flags: 2, Align: 4096}
	type test struct {
		name, code string
		data       []byte
		mark       gpu.Mark
	}
	tests := []test{
		{"one", twoCode, two, ""},
		{"several", "hip:gfx90a:1/1 hip:gfx942:2/2 hip:amdgcnspirv:1/1 hip:gfx11-generic:1/1",
			gputest.At4096(gputest.Bundle("gfx942"), gputest.Bundle("gfx942", "gfx90a"), gputest.Bundle("gfx11-generic", "amdgcnspirv")), ""},
		{"cut", "", two[:200], ""},
		{"no entries", "", edit(two, 24, 0), ""},
		{"too many entries", "", edit(two, 27, 1), ""},
		{"entry outside", "", edit(two, 35, 1), ""},
		{"long ID", "", edit(two, 32+16+1, 0xff), ""},
		{"compressed by something else", "", edit(gputest.Compress(two, 2, true), 6, 2), ""},
		{"too long", "", edit(gputest.Compress(two, 2, true), 11, 1), ""},
		{"damaged zstd", "", edit(gputest.Compress(two, 2, true), 25, 0), gpu.MarkUnreadable},
		{"damaged zlib", "", edit(gputest.Compress(two, 3, false), 32, 0), gpu.MarkUnreadable},
	}
	for version := 1; version <= 3; version++ {
		for _, zstd := range []bool{true, false} {
			packed := gputest.Compress(two, version, zstd)
			name := fmt.Sprintf("version %d, zstd %t", version, zstd)
			tests = append(tests, test{name, twoCode, packed, ""})
			tests = append(tests, test{name + ", twice", strings.ReplaceAll(twoCode, "1/1", "2/2"), gputest.At4096(packed, packed), ""})
		}
	}
	for _, test := range tests {
		section := rodata
		section.Data = test.data
		o := elftest.Object{Arch: "amd64", Sections: []elftest.Section{section}}
		f := inspectFile(t, "lib.so", o.Bytes())
		if got := show(f.Code); got != test.code {
			t.Errorf("%s: got %q, want %q", test.name, got, test.code)
		}
		if test.mark != "" && !slices.Contains(f.Marks, test.mark) {
			t.Errorf("%s: marks %q, want %q", test.name, f.Marks, test.mark)
		}
	}
}

func TestLooseFiles(t *testing.T) {
	hsaco := elftest.Object{Arch: "amdgpu", ABI: 4, Flags: 0x33f}
	new13 := elftest.Object{Arch: "cuda", Type: 2, ABI: 8, Flags: 120<<8 | 1<<3}
	for _, test := range []struct {
		name   string
		data   []byte
		format gpu.Format
		code   string
	}{
		{"k.cubin", gputest.SmallCubin(90), gpu.Cubin, "sass:sm_90:0/1"},
		{"new", new13.Bytes(), gpu.Cubin, "sass:sm_120a:0/1"},
		{"k.fatbin", gputest.SASS("sm_80"), gpu.Fatbin, "sass:sm_80:0/1"},
		{"k.ptx", []byte("//\n.version 8.4\n.target sm_90a, debug\n.address_size 64\n"), gpu.PTX, "ptx:sm_90a:0/1@8.4"},
		{"k.hsaco", hsaco.Bytes(), gpu.HSACO, "hip:gfx90a:0/1"},
		{"k.co", gputest.Bundle("gfx942"), gpu.Bundle, "hip:gfx942:0/1"},
		{"c.co", gputest.Compress(gputest.Bundle("gfx942"), 3, true), gpu.Bundle, "hip:gfx942:0/1"},
		{"gfx90a68.kdb", []byte("SQLite format 3\x00"), gpu.KDB, ""},
		{"notes.ptx", []byte("patient transport\n"), gpu.Other, ""},
		{"k.co", nil, gpu.Other, ""},
	} {
		f := inspectFile(t, test.name, test.data)
		if f.Format != test.format || show(f.Code) != test.code {
			t.Errorf("%s: got %s with %q, want %s with %q", test.name, f.Format, show(f.Code), test.format, test.code)
		}
	}
}

// tree has some of everything.
func tree() fstest.MapFS {
	lib := gputest.Library(elftest.Object{
		Soname: "libk.so.1", Needed: []string{"libcudart.so.12", "libc.so.6"}, RPath: "$ORIGIN", RunPath: "/run/opengl-driver/lib",
		Versions: []string{"GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_PRIVATE"},
	}, gputest.SASS("sm_80", "sm_90"), "libcuda.so.1", "libcuda.so.2 and more", "/lib/libnvidia-ml.so.1", "xlibnvrtc.so.12", "libm.so.6", "libcudart.so.12")
	program := elftest.Object{Arch: "amd64", Type: 2, Interp: "/nix/store/x/lib/ld.so", Needed: []string{"libk.so.1"}}
	return fstest.MapFS{
		"lib/libk.so.1.2":  {Data: lib},
		"lib/libk.so.1":    {Data: []byte("libk.so.1.2"), Mode: fs.ModeSymlink},
		"lib/k":            {Data: []byte("libk.so.1.2"), Mode: fs.ModeSymlink},
		"lib/a.cubin":      {Data: gputest.SmallCubin(80)},
		"bin/program":      {Data: program.Bytes()},
		"bin/script":       {Data: []byte("#!/bin/sh\n")},
		"share/empty":      {},
		"share/damaged.so": {Data: []byte("\x7fELF\x09")},
		"share/object.o":   {Data: (&elftest.Object{Arch: "amd64", Type: 1}).Bytes()},
		"share/hip.so":     {Data: (&elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".hip_fatbin", Align: 4096, Data: gputest.Bundle("gfx90a")}}}).Bytes()},
		"share/.hidden/x":  {Data: elftest.Program("arm64", "")},
	}
}

func TestFacts(t *testing.T) {
	facts := inspect(t, tree())
	var paths []string
	for _, f := range facts.Files {
		paths = append(paths, f.Path)
	}
	want := []string{"bin/program", "lib/a.cubin", "lib/libk.so.1.2", "share/.hidden/x", "share/damaged.so", "share/hip.so"}
	if !slices.Equal(paths, want) {
		t.Fatalf("got %q, want %q", paths, want)
	}
	lib := gpu.File{
		Path: "lib/libk.so.1.2", Format: gpu.ELF, Arch: "amd64", Class: 64,
		Soname: "libk.so.1", Needed: []string{"libcudart.so.12", "libc.so.6"}, RPath: "$ORIGIN", RunPath: "/run/opengl-driver/lib",
		Names: []string{"libcuda.so.1", "libnvidia-ml.so.1"}, Glibc: gpu.Version{Major: 2, Minor: 34},
		Code:       []gpu.Code{{Kind: gpu.SASS, Target: "sm_80", Sections: 1, File: 1}, {Kind: gpu.SASS, Target: "sm_90", Sections: 1, File: 1}},
		Containers: []gpu.Container{{Code: []int{0, 1}, Count: 1}},
	}
	if !reflect.DeepEqual(facts.Files[2], lib) {
		t.Errorf("got %+v, want %+v", facts.Files[2], lib)
	}
	if p := facts.Files[0]; p.Interp != "/nix/store/x/lib/ld.so" || p.Format != gpu.ELF {
		t.Errorf("program: %+v", p)
	}
	if d := facts.Files[4]; d.Format != gpu.Other || d.Damaged == "" {
		t.Errorf("damaged: %+v", d)
	}
	if want := []gpu.Link{{Path: "lib/libk.so.1", Target: "libk.so.1.2"}}; !slices.Equal(facts.Links, want) {
		t.Errorf("links: %+v, want %+v", facts.Links, want)
	}
}

// sequential hides everything but Read of its files.
type sequential struct{ fstest.MapFS }

func (s sequential) Open(name string) (fs.File, error) {
	f, err := s.MapFS.Open(name)
	if info, _ := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	return struct{ fs.File }{f}, nil
}

// Facts follow from the tree: not from the workers, not from the file system, nor from whether they have been kept.
func TestFactsAreStable(t *testing.T) {
	m := tree()
	want := inspect(t, m)
	for _, workers := range []int{1, 2, 7} {
		got, err := gpu.Inspect(context.Background(), m, ".", &gpu.Runtime{Workers: workers})
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers: got %+v, %v", workers, got, err)
		}
	}
	if got := inspect(t, sequential{m}); !reflect.DeepEqual(got, want) {
		t.Errorf("without ReadAt: got %+v", got)
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got := new(gpu.Facts)
	if err := json.Unmarshal(data, got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("through JSON: got %+v, %v", got, err)
	}
}

// Names in a store may be any bytes. JSON has none but UTF-8.
func TestNamesThatAreNoText(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a\xff.cubin"), gputest.SmallCubin(80), 0o666); err != nil {
		t.Fatal(err)
	}
	facts := inspect(t, closure.DirFS(dir))
	if len(facts.Files) != 1 || facts.Files[0].Path != "a\uFFFD.cubin" {
		t.Errorf("got %+v", facts.Files)
	}
}

func TestFactsThatReferToNothing(t *testing.T) {
	const text = `{"files":[{"path":"x","containers":[{"code":[0],"count":1}]}]}`
	if err := json.Unmarshal([]byte(text), new(gpu.Facts)); err == nil {
		t.Error("a container without its row of code is taken")
	}
}

func TestInspectFails(t *testing.T) {
	if _, err := gpu.Inspect(context.Background(), tree(), "nothing", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := gpu.Inspect(ctx, tree(), ".", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A file whose headers cannot be read is an error.
func TestHeadersThatCannotBeRead(t *testing.T) {
	data := library("zeros")
	info, err := fs.Stat(fstest.MapFS{"lib.so": {Data: data}}, "lib.so")
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		fsys fs.FS
		want error
	}{{t.Context(), fstest.MapFS{}, fs.ErrNotExist}, {canceled, fstest.MapFS{"tree/lib.so": {Data: data}}, context.Canceled}} {
		o := insp.Observe(test.ctx, []insp.Inspector{gpu.Inspector}, test.fsys, "tree")
		if err := o.Node("lib.so", info, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write(data); !errors.Is(err, test.want) {
			t.Errorf("got %v, want %v", err, test.want)
		}
		o.Stop()
	}
}
