package inspect_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/nix2img/nix2img/image/inspect"
)

// probe is an inspector of functions.
type probe struct {
	name    string
	version int
	wants   func(*inspect.Node) inspect.Want
	look    func(*inspect.File) (any, error)
}

func (p *probe) Name() string                       { return p.name }
func (p *probe) Version() int                       { return max(1, p.version) }
func (p *probe) Wants(n *inspect.Node) inspect.Want { return p.wants(n) }
func (p *probe) Facts(findings []any) (any, error)  { return findings, nil }
func (p *probe) Look(_ context.Context, f *inspect.File) (any, error) {
	return p.look(f)
}

func files(want inspect.Want) func(*inspect.Node) inspect.Want {
	return func(n *inspect.Node) inspect.Want {
		if n.IsFile() {
			return want
		}
		return inspect.Nothing
	}
}

// nodes finds everything that a node is told to be.
func nodes() *probe {
	return &probe{name: "nodes", wants: func(*inspect.Node) inspect.Want { return inspect.Itself }, look: func(f *inspect.File) (any, error) {
		return fmt.Sprintf("%q %v %d %q %x", f.Path, f.Mode, f.Size, f.Target, sha256.Sum256(f.Head)), nil
	}}
}

// sums finds the checksums of contents.
func sums() *probe {
	return &probe{name: "sums", wants: files(inspect.Stream), look: func(f *inspect.File) (any, error) {
		h := sha256.New()
		n, err := io.Copy(h, f)
		return fmt.Sprintf("%q %d %x", f.Path, n, h.Sum(nil)), err
	}}
}

// pieces finds some bytes of each file: the last ones, and then those at every so many bytes.
func pieces(step int64) *probe {
	return &probe{name: fmt.Sprintf("pieces-%d", step), wants: files(inspect.Anywhere), look: func(f *inspect.File) (any, error) {
		var b [5]byte
		found := []string{f.Path}
		n, err := f.ReadAt(b[:], max(0, f.Size-5))
		for err == nil || err == io.EOF {
			found = append(found, fmt.Sprintf("%x", b[:n]))
			if err = f.Skip(step); err != nil {
				break
			}
			if n, err = io.ReadFull(f, b[:]); n == 0 {
				break
			}
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = nil
		}
		return found, err
	}}
}

func all() []inspect.Inspector {
	return []inspect.Inspector{nodes(), sums(), pieces(997), pieces(70_000), pieces(300_000)}
}

const small = 256 << 10

// tree has files of all sizes that make a difference.
func tree() fstest.MapFS {
	m := fstest.MapFS{
		"bin/program": {Data: []byte("#!/bin/sh\n"), Mode: 0o755},
		"lib/link":    {Data: []byte("../bin/program"), Mode: fs.ModeSymlink},
		"empty":       {Mode: fs.ModeDir},
	}
	for _, n := range []int{0, 1, 4, 255, 256, 257, small - 1, small, small + 1, 3 * small, 9 << 20} {
		data := make([]byte, n)
		rand.NewChaCha8([32]byte{byte(n)}).Read(data)
		m[fmt.Sprintf("lib/%d", n)] = &fstest.MapFile{Data: data}
	}
	return m
}

// show shows a tree to an observer, contents in pieces of up to the given size.
func show(o *inspect.Observer, fsys fs.FS, size int) error {
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
		for n := 3; len(data) > 0 && err == nil; n = size {
			n = min(n, len(data))
			_, err = o.Write(data[:n])
			data = data[n:]
		}
		return err
	})
	if err != nil {
		return err
	}
	return o.Close()
}

// alone has inspectors look at a tree that nobody else reads.
func alone(t testing.TB, fsys fs.FS, workers int, list ...inspect.Inspector) inspect.Facts {
	t.Helper()
	found, err := inspect.Find(t.Context(), fsys, []inspect.Tree{{Root: ".", Inspectors: list}}, workers)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
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

// Facts follow from the tree: not from how it is read, by how many, or in which pieces it comes.
func TestAllWaysFindTheSame(t *testing.T) {
	m := tree()
	want := alone(t, m, 1, all()...)
	if len(want) != 5 {
		t.Fatalf("there are facts of %d inspectors", len(want))
	}
	for _, workers := range []int{0, 2, 7} {
		if got := alone(t, m, workers, all()...); !reflect.DeepEqual(got, want) {
			t.Errorf("%d workers find something else", workers)
		}
	}
	if got := alone(t, sequential{m}, 2, all()...); !reflect.DeepEqual(got, want) {
		t.Error("in files without ReadAt, something else is found")
	}
	spool := &inspect.Spool{Dir: t.TempDir()}
	for _, size := range []int{1000, 1 << 20} {
		for name, o := range map[string]*inspect.Observer{
			"of files":      inspect.Observe(t.Context(), all(), m, "."),
			"of a stream":   inspect.ObserveStream(t.Context(), all(), spool),
			"of sequential": inspect.Observe(t.Context(), all(), sequential{m}, "."),
		} {
			if err := show(o, m, size); err != nil {
				t.Errorf("an observer %s that is given %d bytes at a time: %v", name, size, err)
			} else if !reflect.DeepEqual(o.Facts(), want) {
				t.Errorf("an observer %s that is given %d bytes at a time finds something else", name, size)
			}
		}
	}
	if left, err := filepath.Glob(spool.Dir + "/*"); err != nil || len(left) > 0 {
		t.Errorf("files are left: %q, %v", left, err)
	}
	// Alone or beside others, an inspector finds the same.
	for _, i := range all() {
		if got := alone(t, m, 2, i)[i.Name()]; !reflect.DeepEqual(got, want[i.Name()]) {
			t.Errorf("alone, %s finds something else", i.Name())
		}
	}
}

func TestTreesMayBeFiles(t *testing.T) {
	found, err := inspect.Find(t.Context(), tree(), []inspect.Tree{
		{Root: "bin/program", Inspectors: []inspect.Inspector{nodes()}}, {Root: "lib/link", Inspectors: []inspect.Inspector{nodes()}},
		{Root: "empty"}, {Root: "bin", Inspectors: []inspect.Inspector{sums()}},
	}, 0)
	if err != nil || len(found) != 4 || len(found[2]) != 0 || !strings.Contains(string(found[3]["sums"].Data), `\"program\" 10`) {
		t.Fatalf("%v, %v", found, err)
	}
	for i, want := range []string{`\".\" -r-xr-xr-x`, `\".\" L--------- 0 \"../bin/program\"`} {
		if got := string(found[i]["nodes"].Data); !strings.Contains(got, want) && i == 1 {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// counting counts how often files are opened.
type counting struct {
	fstest.MapFS
	opened atomic.Int32
}

func (c *counting) Open(name string) (fs.File, error) {
	f, err := c.MapFS.Open(name)
	if info, _ := f.Stat(); err == nil && !info.IsDir() {
		c.opened.Add(1)
	}
	return f, err
}

// However many inspectors there are, and while somebody else reads a tree, they open no file that they need not go back in.
func TestInspectorsShareWhatIsRead(t *testing.T) {
	m := tree()
	files := 0
	for _, f := range m {
		if f.Mode.IsRegular() {
			files++
		}
	}
	c := &counting{MapFS: m}
	alone(t, c, 2, all()...)
	if n := int(c.opened.Load()); n != files {
		t.Errorf("%d files were opened %d times", files, n)
	}
	for _, test := range []struct {
		list []inspect.Inspector
		want int
	}{
		{[]inspect.Inspector{nodes(), sums()}, 0},
		{all(), 3}, // those that are not small
	} {
		c = &counting{MapFS: m}
		if err := show(inspect.Observe(t.Context(), test.list, c, "."), m, 1<<20); err != nil {
			t.Fatal(err)
		}
		if n := int(c.opened.Load()); n != test.want {
			t.Errorf("%d inspectors: files were opened again %d times, want %d", len(test.list), n, test.want)
		}
	}
}

// What cannot be copied is left for later by those who need the copy, and is no reason for a build to fail.
func TestGivingUp(t *testing.T) {
	m := tree()
	want := alone(t, m, 1, all()...)
	o := inspect.ObserveStream(t.Context(), all(), &inspect.Spool{Dir: filepath.Join(t.TempDir(), "missing")})
	if err := show(o, m, 1<<20); err != nil {
		t.Fatal(err)
	}
	missing := o.Facts().Missing(all())
	if len(o.Facts()) != 2 || len(missing) != 3 {
		t.Fatalf("found %v", o.Facts())
	}
	if got := o.Facts().With(alone(t, m, 1, missing...)); !reflect.DeepEqual(got, want) {
		t.Errorf("completed, facts are %v", got)
	}
}

// fileInfo is of a regular file.
type fileInfo int64

func (i fileInfo) Name() string       { return "" }
func (i fileInfo) Size() int64        { return int64(i) }
func (i fileInfo) Mode() fs.FileMode  { return 0o644 }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return false }
func (i fileInfo) Sys() any           { return nil }

// Sizes that are not those of the contents are errors.
func TestSizesThatLie(t *testing.T) {
	spool := new(inspect.Spool)
	for _, size := range []int64{-1, 0, 1, 300, 5000, 999_999, 1 << 40, 1<<63 - 1} {
		for _, n := range []int{0, 1, 299, 301, 4999, 6000, 1_000_000} {
			if int64(n) == size {
				continue
			}
			o := inspect.ObserveStream(t.Context(), all(), spool)
			err := o.Node("file", fileInfo(size), "")
			if err == nil && n > 0 {
				_, err = o.Write(make([]byte, n))
			}
			if err == nil {
				err = o.Node("next", fileInfo(0), "")
			}
			if err == nil {
				t.Errorf("%d bytes of %d are no error", n, size)
			}
			o.Stop()
		}
	}
	lying := lyingFS{fstest.MapFS{"a": {Data: make([]byte, 1000)}, "b": {Data: make([]byte, small)}, "c": {Data: make([]byte, 3*small)}}}
	found, err := inspect.Find(t.Context(), lying, []inspect.Tree{{Root: ".", Inspectors: all()}}, 1)
	if err == nil && !strings.Contains(string(found[0]["sums"].Data), `\"a\" 1000 `) {
		t.Errorf("a small file that has become shorter: %s", found[0]["sums"].Data)
	}
}

// lyingFS is of files that say to be longer than they are.
type lyingFS struct{ fstest.MapFS }

type lyingFile struct{ fs.File }

type lyingInfo struct{ fs.FileInfo }

func (i lyingInfo) Size() int64 { return i.FileInfo.Size() + 5000 }

func (f lyingFile) Stat() (fs.FileInfo, error) {
	info, err := f.File.Stat()
	return lyingInfo{info}, err
}

func (l lyingFS) Open(name string) (fs.File, error) {
	f, err := l.MapFS.Open(name)
	if info, _ := f.Stat(); err != nil || info.IsDir() {
		return f, err
	}
	return lyingFile{f}, nil
}

// Names are bytes, and may be very many.
func TestNamesThatAreNoText(t *testing.T) {
	o := inspect.ObserveStream(t.Context(), []inspect.Inspector{nodes(), sums()}, new(inspect.Spool))
	for _, name := range []string{"a\xff", "b\x00c", "\n\"\\", strings.Repeat("x", 1<<20), "../..", ""} {
		if err := o.Node(name, fileInfo(1), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := o.Facts().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := inspect.Parse(data); err != nil || !reflect.DeepEqual(got, o.Facts()) {
		t.Errorf("through a record: %v", err)
	}
}

// An error of an inspector names it, and the observer can be shown further files.
func TestInspectorsFail(t *testing.T) {
	bad := errors.New("bad")
	fail := &probe{name: "fail", wants: files(inspect.Stream), look: func(f *inspect.File) (any, error) {
		if err := f.Skip(300_000); err != nil {
			return nil, err
		}
		return nil, bad
	}}
	for _, n := range []int{0, 1000, 1_000_000} {
		data := make([]byte, n)
		if _, err := inspect.Find(t.Context(), fstest.MapFS{"x": {Data: data}}, []inspect.Tree{{Root: ".", Inspectors: []inspect.Inspector{fail}}}, 1); !errors.Is(err, bad) || !strings.Contains(err.Error(), "fail") {
			t.Errorf("%d bytes, alone: %v", n, err)
		}
		o := inspect.ObserveStream(t.Context(), []inspect.Inspector{fail, sums()}, new(inspect.Spool))
		for range 2 {
			err := o.Node("x", fileInfo(n), "")
			if n > 0 && err == nil {
				_, err = o.Write(data)
			}
			if !errors.Is(err, bad) || !strings.Contains(err.Error(), "fail") {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		o.Stop()
	}
}

// An inspector gets what it said that it wants.
func TestInspectorsReadWhatTheyWant(t *testing.T) {
	for _, n := range []int{1000, 1_000_000} {
		m := fstest.MapFS{"x": {Data: make([]byte, n)}}
		for _, test := range []struct {
			want         inspect.Want
			read, readAt bool
		}{{inspect.Itself, false, false}, {inspect.Stream, true, false}, {inspect.Anywhere, true, true}} {
			look := func(f *inspect.File) (any, error) {
				var b [1]byte
				_, at := f.ReadAt(b[:], 10)
				_, err := f.Read(b[:])
				if (err == nil) != test.read || (at == nil) != test.readAt {
					t.Errorf("want %d: Read says %v, ReadAt %v", test.want, err, at)
				}
				return nil, nil
			}
			p := &probe{name: "p", wants: files(test.want), look: look}
			alone(t, m, 1, p)
			if err := show(inspect.Observe(t.Context(), []inspect.Inspector{p}, m, "."), m, 1<<20); err != nil {
				t.Error(err)
			}
		}
	}
}

// A tree that is not shown to its end leaves nothing running.
func TestStop(t *testing.T) {
	before, spool := runtime.NumGoroutine(), new(inspect.Spool)
	for range 100 {
		o := inspect.ObserveStream(t.Context(), all(), spool)
		if err := o.Node("x", fileInfo(1_000_000), ""); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Write(make([]byte, 500_000)); err != nil {
			t.Fatal(err)
		}
		o.Stop()
		o.Stop()
	}
	if n := runtime.NumGoroutine() - before; n > 50 {
		t.Errorf("%d goroutines are left", n)
	}
}

func TestFindFails(t *testing.T) {
	if _, err := inspect.Find(t.Context(), tree(), []inspect.Tree{{Root: "nothing"}}, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := inspect.Find(ctx, tree(), []inspect.Tree{{Root: "."}}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestInspectorsAreNamed(t *testing.T) {
	for _, name := range []string{"", "Sums", "a b", "ä"} {
		p := sums()
		p.name = name
		if _, err := inspect.Find(t.Context(), tree(), []inspect.Tree{{Root: ".", Inspectors: []inspect.Inspector{p}}}, 0); err == nil {
			t.Errorf("an inspector may be named %q", name)
		}
	}
}

// Memory does not grow with files.
func TestMemory(t *testing.T) {
	const size = 32 << 20
	m := fstest.MapFS{"x": {Data: make([]byte, size)}}
	chunk := make([]byte, 1<<20)
	run := func() {
		o := inspect.Observe(t.Context(), []inspect.Inspector{sums(), pieces(300_000)}, m, ".")
		if err := o.Node("x", fileInfo(size), ""); err != nil {
			t.Fatal(err)
		}
		defer o.Stop()
		for range size >> 20 {
			if _, err := o.Write(chunk); err != nil {
				t.Fatal(err)
			}
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	run() // buffers are made
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for a file of %d", n, size)
	}
}
