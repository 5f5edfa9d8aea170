package export_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"testing/iotest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/export"
	"github.com/nix2img/nix2img/closure/nar"
)

// object is what goes into a stream.
type object struct {
	path  closure.Path
	refs  []closure.Path
	files fs.FS
	root  string
}

func path(name string) closure.Path {
	return closure.Path("/nix/store/" + strings.Repeat(name[:1], 32) + "-" + name)
}

var files = fstest.MapFS{
	"a/bin/hello": {Data: []byte("#!/bin/sh\necho hello\n"), Mode: 0o755},
	"a/lib":       {Data: []byte(path("b")), Mode: fs.ModeSymlink},
	"a/near":      {Data: []byte("../" + path("b").Base() + "/text"), Mode: fs.ModeSymlink},
	"a/empty":     {Mode: fs.ModeDir},
	"b/text":      {Data: bytes.Repeat([]byte("x"), 300_000)},
	"c":           {Data: []byte("only a file"), Mode: 0o755},
}

var sample = []object{
	{path("c"), nil, files, "c"},
	{path("b"), []closure.Path{path("b"), path("c")}, files, "b"},
	{path("a"), []closure.Path{path("b")}, files, "a"},
}

func number(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func str(s string) []byte {
	return append(append(number(uint64(len(s))), s...), make([]byte, -len(s)&7)...)
}

// stream writes objects as nix-store --export does.
func stream(objects ...object) []byte {
	var b bytes.Buffer
	for _, o := range objects {
		b.Write(number(1))
		if err := nar.Dump(&b, o.files, o.root); err != nil {
			panic(err)
		}
		b.Write(trailer(o))
	}
	b.Write(number(0))
	return b.Bytes()
}

func trailer(o object) []byte {
	b := append(number(0x4558494e), str(string(o.path))...)
	b = append(b, number(uint64(len(o.refs)))...)
	for _, ref := range o.refs {
		b = append(b, str(string(ref))...)
	}
	b = append(b, str(string(o.path)+".drv")...)
	return append(b, number(0)...)
}

func open(b []byte, roots ...closure.Path) (*closure.Closure, error) {
	return export.Open(context.Background(), bytes.NewReader(b), int64(len(b)), roots...)
}

func TestClosureHasWhatTheStreamHas(t *testing.T) {
	b := stream(sample...)
	opened, err := open(b)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "spool"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	spooled, err := export.Spool(t.Context(), iotest.HalfReader(bytes.NewReader(b)), file)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*closure.Closure{"opened": opened, "spooled": spooled} {
		t.Run(name, func(t *testing.T) {
			if roots := c.Roots(); !reflect.DeepEqual(roots, []closure.Path{path("a")}) {
				t.Errorf("roots are %v", roots)
			}
			if n := len(c.Objects()); n != len(sample) {
				t.Errorf("%d objects", n)
			}
			for i, o := range c.Objects() {
				want := sample[i]
				if o.Path != want.path || !reflect.DeepEqual(o.References, want.refs) {
					t.Errorf("object %d is %+v, want %+v", i, o, want)
				}
				var fromMap, fromStream bytes.Buffer
				if err := errors.Join(
					nar.Dump(&fromMap, want.files, want.root),
					nar.Dump(&fromStream, c.Files, o.Path.Base()),
				); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(fromMap.Bytes(), fromStream.Bytes()) {
					t.Errorf("%s: other files", o.Path)
				}
				if o.NARHash != sha256.Sum256(fromMap.Bytes()) || o.NARSize != int64(fromMap.Len()) {
					t.Errorf("%s: hash %v, size %d", o.Path, o.NARHash, o.NARSize)
				}
			}
			if err := c.CheckFiles(); err != nil {
				t.Error(err)
			}
			text, err := fs.ReadFile(c.Files, path("a").Base()+"/near")
			if err != nil || len(text) != 300_000 {
				t.Errorf("through a link to another object: %d bytes, %v", len(text), err)
			}
		})
	}
	if kept, err := os.ReadFile(file.Name()); !bytes.Equal(kept, b) || err != nil {
		t.Errorf("the spool differs from the stream: %v", err)
	}
}

func TestRoots(t *testing.T) {
	c, err := open(stream(sample...), path("b"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(c.Objects()); n != 2 {
		t.Errorf("%d objects", n)
	}
	_, err = open(stream(sample...), path("x"))
	if e, ok := errors.AsType[*closure.MissingError](err); !ok || e.Path != path("x") {
		t.Errorf("a root that is not there: %v", err)
	}
}

func TestOldSignaturesAreIgnored(t *testing.T) {
	b := stream(sample[0])
	signed := append(bytes.Clone(b[:len(b)-16]), number(1)...)
	signed = append(append(signed, str("signature")...), number(0)...)
	if _, err := open(signed); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	whole := stream(sample...)
	oneNAR := number(1)
	{
		var b bytes.Buffer
		nar.Dump(&b, files, "c")
		oneNAR = append(oneNAR, b.Bytes()...)
	}
	concat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	exe := number(0x4558494e)
	for name, b := range map[string][]byte{
		"two streams":           concat(whole, whole),
		"no object":             number(0),
		"no stream":             []byte("PK\x03\x04 something else"),
		"no NAR":                concat(number(1), str("nix-archive-2")),
		"other magic":           concat(oneNAR, number(1)),
		"path too long":         concat(oneNAR, exe, number(1<<40)),
		"malformed path":        concat(oneNAR, exe, str("/nix/store/x"), number(0), str(""), number(0), number(0)),
		"malformed reference":   concat(oneNAR, exe, str(string(path("c"))), number(1), str("x"), str(""), number(0), number(0)),
		"huge number":           concat(oneNAR, exe, str(string(path("c"))), number(1<<60)),
		"padding":               concat(oneNAR, exe, number(1), []byte("/abcdefg")),
		"end of an object":      concat(oneNAR, exe, str(string(path("c"))), number(0), str(""), number(2), number(0)),
		"not closed":            stream(sample[2]),
		"twice, with two trees": stream(sample[0], object{path("c"), nil, files, "b"}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := open(b); err == nil {
				t.Error("no error")
			} else {
				t.Log(err)
			}
		})
	}
}

func TestEveryEarlyEndIsNoticed(t *testing.T) {
	b := stream(sample[0], object{path("a"), []closure.Path{path("c")}, files, "a"})
	for n := range b {
		if _, err := open(b[:n]); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("after %d bytes of %d: %v", n, len(b), err)
		}
	}
}

func TestMissingReferenceNamesItsReferrer(t *testing.T) {
	_, err := open(stream(sample[1:]...))
	e, ok := errors.AsType[*closure.MissingError](err)
	if !ok || e.Path != path("c") || e.Referrer != path("b") {
		t.Errorf("error is %v", err)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b := stream(sample...)
	if _, err := export.Open(ctx, bytes.NewReader(b), int64(len(b))); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// FuzzOpen checks that a closure that can be opened can be written and opened again.
func FuzzOpen(f *testing.F) {
	small := fstest.MapFS{
		"a/x": {Data: []byte("x")},
		"b":   {Data: []byte("a/x"), Mode: fs.ModeSymlink},
	}
	f.Add(stream(object{path("a"), []closure.Path{path("a")}, small, "a"}))
	f.Add(stream(object{path("b"), nil, small, "b"}, object{path("a"), []closure.Path{path("b")}, small, "a"}))
	f.Add(number(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := open(b)
		if err != nil {
			return
		}
		var objects []object
		for _, o := range c.Objects() {
			objects = append(objects, object{o.Path, o.References, c.Files, o.Path.Base()})
		}
		again, err := open(stream(objects...), c.Roots()...)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(again.Objects(), c.Objects()) {
			t.Fatalf("opened %+v, then %+v", c.Objects(), again.Objects())
		}
	})
}
