package nar_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/nix2img/nix2img/closure/nar"
)

// tree has every kind of node.
var tree = []nar.Header{
	{Path: ".", Mode: fs.ModeDir | 0o755},
	{Path: "README", Mode: 0o644, Size: 5},
	{Path: "abs", Mode: fs.ModeSymlink, LinkTarget: "/nix/store/x"},
	{Path: "bin", Mode: fs.ModeDir},
	{Path: "bin/hello", Mode: 0o755, Size: 21},
	{Path: "b\xff\n", Mode: 0o600, Size: 1},
	{Path: "empty", Mode: fs.ModeDir},
	{Path: "nothing", Mode: 0o444},
	{Path: "run", Mode: fs.ModeSymlink, LinkTarget: "bin/hello"},
}

var contents = map[string]string{
	"README":    "hello",
	"b\xff\n":   "x",
	"bin/hello": "#!/bin/sh\necho hello\n",
}

// treeSum is the SHA-256 of tree's archive as nix-store --dump writes it.
const treeSum = "80f2f562fc977862d59e938f85d671d62e17d183e3eba79c9d9f1e2340fa57ae"

func write(t testing.TB, headers []nar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := nar.NewWriter(&buf)
	for _, h := range headers {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, contents[h.Path]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestSameBytesAsNix(t *testing.T) {
	if got := sum(write(t, tree)); got != treeSum {
		t.Errorf("SHA-256 is %s, want %s", got, treeSum)
	}
}

func TestReaderReadsWhatWriterWrites(t *testing.T) {
	b := write(t, tree)
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"whole":    func(r io.Reader) io.Reader { return r },
		"one byte": iotest.OneByteReader,
		"data err": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			in := bytes.NewReader(append(bytes.Clone(b), "more"...))
			r := nar.NewReader(wrap(in))
			for _, want := range tree {
				h, err := r.Next()
				if err != nil {
					t.Fatal(err)
				}
				if h.Path != want.Path || h.Mode.Type() != want.Mode.Type() ||
					h.Mode.IsRegular() && h.Mode&0o100 != want.Mode&0o100 ||
					h.Size != want.Size || h.LinkTarget != want.LinkTarget {
					t.Errorf("read %+v, want %+v", h, want)
				}
				if h.Mode.IsRegular() {
					if at := b[h.Offset:][:h.Size]; string(at) != contents[h.Path] {
						t.Errorf("%q: at the offset is %q", h.Path, at)
					}
				}
				got, err := io.ReadAll(r)
				if err != nil || string(got) != contents[h.Path] {
					t.Errorf("%q: read %q, %v", h.Path, got, err)
				}
			}
			for range 2 {
				if _, err := r.Next(); err != io.EOF {
					t.Errorf("after the end: %v", err)
				}
			}
			if r.Offset() != int64(len(b)) {
				t.Errorf("read %d bytes of %d", r.Offset(), len(b))
			}
			if name == "whole" && in.Len() != len("more") {
				t.Errorf("%d bytes left behind the archive", in.Len())
			}
		})
	}
}

func TestContentsMayBeSkipped(t *testing.T) {
	r := nar.NewReader(bytes.NewReader(write(t, tree)))
	for n := 0; ; n++ {
		h, err := r.Next()
		if err == io.EOF {
			if n != len(tree) {
				t.Errorf("%d nodes, want %d", n, len(tree))
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Path == "bin/hello" {
			io.ReadFull(r, make([]byte, 3))
		}
	}
}

// raw builds an archive by hand: strings, and numbers of bytes to be written as they are.
func raw(tokens ...any) []byte {
	var b []byte
	for _, token := range tokens {
		switch token := token.(type) {
		case string:
			b = binary.LittleEndian.AppendUint64(b, uint64(len(token)))
			b = append(b, token...)
			b = append(b, make([]byte, -len(token)&7)...)
		case []byte:
			b = append(b, token...)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, token)
		}
	}
	return b
}

func entry(name string) []byte {
	return raw("entry", "(", "name", name, "node", "(", "type", "symlink", "target", "x", ")", ")")
}

func readAll(r io.Reader) error {
	nr := nar.NewReader(r)
	for {
		if _, err := nr.Next(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, nr); err != nil {
			return err
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	dir := func(entries ...any) []byte {
		return append(raw("nix-archive-1", "(", "type", "directory"), append(raw(entries...), raw(")")...)...)
	}
	deep := raw("nix-archive-1", "(", "type", "directory")
	for range 3000 {
		deep = append(deep, raw("entry", "(", "name", "d", "node", "(", "type", "directory")...)
	}
	for name, b := range map[string][]byte{
		"other magic":             raw("nix-archive-2", "(", "type", "directory", ")"),
		"unknown type":            raw("nix-archive-1", "(", "type", "fifo", ")"),
		"no parenthesis":          raw("nix-archive-1", "type", "directory", ")"),
		"unsorted names":          dir(entry("b"), entry("a")),
		"duplicate names":         dir(entry("a"), entry("a")),
		"empty name":              dir(entry("")),
		"name .":                  dir(entry(".")),
		"name ..":                 dir(entry("..")),
		"slash in name":           dir(entry("a/b")),
		"zero byte in name":       dir(entry("a\x00b")),
		"long name":               dir(entry(strings.Repeat("x", 256))),
		"deep nesting":            deep,
		"empty target":            raw("nix-archive-1", "(", "type", "symlink", "target", "", ")"),
		"long target":             raw("nix-archive-1", "(", "type", "symlink", "target", strings.Repeat("x", 4096), ")"),
		"zero byte in target":     raw("nix-archive-1", "(", "type", "symlink", "target", "a\x00", ")"),
		"executable with text":    raw("nix-archive-1", "(", "type", "regular", "executable", "x", "contents", "", ")"),
		"no contents":             raw("nix-archive-1", "(", "type", "regular", ")"),
		"huge string":             raw(uint64(math.MaxUint64)),
		"huge contents":           raw("nix-archive-1", "(", "type", "regular", "contents", uint64(math.MaxInt64)),
		"negative contents":       raw("nix-archive-1", "(", "type", "regular", "contents", uint64(math.MaxUint64)),
		"padding of a string":     raw("nix-archive-1", uint64(1), []byte("(1234567")),
		"padding of contents":     raw("nix-archive-1", "(", "type", "regular", "contents", uint64(1), []byte("x1234567"), ")"),
		"entry without its end":   dir(entry("a")[:len(entry("a"))-16], raw("entry")),
		"node without its end":    raw("nix-archive-1", "(", "type", "symlink", "target", "x", "entry"),
		"contents without an end": raw("nix-archive-1", "(", "type", "regular", "contents", "x", "("),
	} {
		t.Run(name, func(t *testing.T) {
			err := readAll(bytes.NewReader(b))
			if _, ok := errors.AsType[*nar.FormatError](err); !ok {
				t.Errorf("error is %v, want a FormatError", err)
			}
		})
	}
}

func TestReaderNoticesEveryEarlyEnd(t *testing.T) {
	b := write(t, tree)
	for n := range b {
		if err := readAll(bytes.NewReader(b[:n])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes of %d: %v", n, len(b), err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	root := nar.Header{Path: ".", Mode: fs.ModeDir}
	link := func(path string) nar.Header { return nar.Header{Path: path, Mode: fs.ModeSymlink, LinkTarget: "x"} }
	for name, headers := range map[string][]nar.Header{
		"nothing":                 {},
		"no root":                 {link("a")},
		"two roots":               {root, root},
		"entry of a file":         {link("."), link("a")},
		"unsorted":                {root, link("b"), link("a")},
		"duplicate":               {root, link("a"), link("a")},
		"directory left":          {root, {Path: "a", Mode: fs.ModeDir}, link("b"), link("a/x")},
		"directory without entry": {root, link("a/x")},
		"bad name":                {root, link("a//x")},
		"dot name":                {root, link("..")},
		"long name":               {root, link(strings.Repeat("x", 256))},
		"no target":               {root, {Path: "a", Mode: fs.ModeSymlink}},
		"pipe":                    {root, {Path: "a", Mode: fs.ModeNamedPipe}},
		"negative size":           {root, {Path: "a", Size: -1}},
		"contents missing":        {root, {Path: "a", Size: 1}},
		"contents missing, next":  {root, {Path: "a", Size: 1}, link("b")},
		"too many contents":       {root, {Path: "README", Size: 4}},
		"contents of a directory": {root, {Path: "README", Mode: fs.ModeDir}},
	} {
		t.Run(name, func(t *testing.T) {
			w := nar.NewWriter(io.Discard)
			var err error
			for _, h := range headers {
				if err = w.WriteHeader(&h); err != nil {
					break
				}
				if text := contents[h.Path]; text != "" {
					if _, err = io.WriteString(w, text); err != nil {
						break
					}
				}
			}
			closeErr := w.Close()
			if closeErr == nil {
				t.Error("no error")
			}
			if err != nil && closeErr != err {
				t.Errorf("Close returns %v, want the first error, %v", closeErr, err)
			}
		})
	}
}

func TestWriterReportsErrorsOfItsWriter(t *testing.T) {
	size := int64(len(dump(t, mapFS, ".")))
	for limit := range size {
		err := nar.Dump(&limitWriter{limit}, mapFS, ".")
		if !errors.Is(err, errFull) {
			t.Fatalf("with room for %d bytes: %v", limit, err)
		}
	}
}

var errFull = errors.New("full")

type limitWriter struct{ left int64 }

func (w *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > w.left {
		return int(w.left), errFull
	}
	w.left -= int64(len(p))
	return len(p), nil
}

// mapFS is tree without the name that is not UTF-8.
var mapFS = fstest.MapFS{
	"README":    {Data: []byte("hello"), Mode: 0o644},
	"abs":       {Data: []byte("/nix/store/x"), Mode: fs.ModeSymlink},
	"bin/hello": {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
	"empty":     {Mode: fs.ModeDir},
	"nothing":   {},
	"run":       {Data: []byte("bin/hello"), Mode: fs.ModeSymlink},
}

func dump(t testing.TB, fsys fs.FS, root string) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := nar.Dump(&buf, fsys, root); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDumpWritesWhatTheFileSystemHas(t *testing.T) {
	var headers []nar.Header
	for _, h := range tree {
		if h.Path != "b\xff\n" {
			headers = append(headers, h)
		}
	}
	if !bytes.Equal(dump(t, mapFS, "."), write(t, headers)) {
		t.Error("Dump differs from Writer")
	}
	file := dump(t, mapFS, "bin/hello")
	want := raw("nix-archive-1", "(", "type", "regular", "executable", "", "contents", contents["bin/hello"], ")")
	if !bytes.Equal(file, want) {
		t.Errorf("Dump of a file: %q", file)
	}
	link := dump(t, mapFS, "run")
	want = raw("nix-archive-1", "(", "type", "symlink", "target", "bin/hello", ")")
	if !bytes.Equal(link, want) {
		t.Errorf("Dump of a link: %q", link)
	}
}

func TestDumpNoticesFilesOfAnotherLength(t *testing.T) {
	for _, size := range []int64{4, 6} {
		err := nar.Dump(io.Discard, lyingFS{mapFS, size}, "README")
		if err == nil {
			t.Errorf("a file of 5 bytes that should have %d: no error", size)
		}
	}
}

// lyingFS tells a wrong size of its files.
type lyingFS struct {
	fstest.MapFS
	size int64
}

func (f lyingFS) Lstat(name string) (fs.FileInfo, error) {
	info, err := f.MapFS.Lstat(name)
	return lyingInfo{info, f.size}, err
}

type lyingInfo struct {
	fs.FileInfo
	size int64
}

func (i lyingInfo) Size() int64 { return i.size }
