package squashfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/squashfs"
)

// sequence is a file system as Nodes.
type sequence struct {
	nodes []squashfs.Node
	data  []string
	next  int
	r     io.Reader
	end   error // instead of io.EOF
}

func newSequence(t *testing.T, fsys fstest.MapFS) *sequence {
	t.Helper()
	s := &sequence{end: io.EOF}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		n := squashfs.Node{Path: name, Info: info}
		data := ""
		if f := fsys[name]; f != nil && info.Mode().Type() == fs.ModeSymlink {
			n.Target = string(f.Data)
		} else if f != nil {
			data = string(f.Data)
		}
		s.nodes, s.data = append(s.nodes, n), append(s.data, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sequence) Next() (squashfs.Node, error) {
	if s.next == len(s.nodes) {
		return squashfs.Node{}, s.end
	}
	s.next++
	s.r = strings.NewReader(s.data[s.next-1])
	return s.nodes[s.next-1], nil
}

func (s *sequence) Read(p []byte) (int, error) { return s.r.Read(p) }
func (s *sequence) Close() error               { return nil }

var sequenceFS = fstest.MapFS{
	"a/b/c":   {Data: bytes.Repeat([]byte("0123456789abcdef"), 20000)},
	"a/b/d":   {Data: []byte("short")},
	"a/e":     {Data: []byte("b/c"), Mode: fs.ModeSymlink | 0o777},
	"a-b":     {},
	"x/y/z":   {Data: bytes.Repeat([]byte("x"), 4096)},
	"z":       {Data: []byte("last")},
	"x/empty": {Mode: fs.ModeDir | 0o755},
}

func TestNodesGiveTheBytesOfTheirFileSystem(t *testing.T) {
	write := func(trees ...squashfs.Tree) ([]byte, error) {
		t.Helper()
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		opts := &squashfs.Options{BlockSize: 4096}
		w, err := squashfs.NewWriter(f, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, tree := range trees { // one by one, and between them what is there can be read
			if err := w.Add(t.Context(), []squashfs.Tree{tree}, nil); err != nil {
				return nil, err
			}
			fsys, err := w.Open()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := fs.ReadFile(fsys, tree.Name+"/a/b/d"); string(got) != "short" {
				t.Errorf("read what has been added: %q, %v", got, err)
			}
		}
		if _, err := w.Finish(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return b, nil
	}
	want, err := write(squashfs.FileTree("one", sequenceFS, "."), squashfs.FileTree("two", sequenceFS, "."))
	if err != nil {
		t.Fatal(err)
	}
	got, err := write(squashfs.NodeTree("one", newSequence(t, sequenceFS)), squashfs.FileTree("two", sequenceFS, "."))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes")
	}

	// What is not a tree in order.
	errLost := errors.New("connection lost")
	for what, spoil := range map[string]func(*sequence){
		"no root":        func(s *sequence) { s.nodes, s.data = s.nodes[1:], s.data[1:] },
		"nothing":        func(s *sequence) { s.nodes = nil },
		"error":          func(s *sequence) { s.nodes, s.end = s.nodes[:3], errLost },
		"short contents": func(s *sequence) { s.data[len(s.data)-1] = "la" },
		"unsorted":       func(s *sequence) { s.nodes[len(s.nodes)-1].Path = "0" },
		"twice":          func(s *sequence) { s.nodes = append(s.nodes, s.nodes[len(s.nodes)-1]); s.data = append(s.data, "last") },
		"dots":           func(s *sequence) { s.nodes[len(s.nodes)-1].Path = ".." },
		"slash":          func(s *sequence) { s.nodes[len(s.nodes)-1].Path = "z/" },
		"in a file":      func(s *sequence) { s.nodes[len(s.nodes)-1].Path = "a-b/z" },
		"root again":     func(s *sequence) { s.nodes[len(s.nodes)-1].Path = "." },
	} {
		s := newSequence(t, sequenceFS)
		spoil(s)
		_, err := write(squashfs.NodeTree("one", s))
		if _, ok := errors.AsType[*squashfs.SourceError](err); !ok {
			t.Errorf("%s: got %v", what, err)
		}
		if what == "error" && !errors.Is(err, errLost) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}

func TestATreeHasFiles(t *testing.T) {
	for name, tree := range map[string]squashfs.Tree{
		"zero value": {}, "name alone": {Name: "x"}, "no file system": squashfs.FileTree("x", nil, "."),
		"no nodes": squashfs.NodeTree("x", nil), "no segment": squashfs.SegmentTree("x", nil, nil),
	} {
		f, err := os.Create(filepath.Join(t.TempDir(), "image"))
		if err != nil {
			t.Fatal(err)
		}
		_, errWrite := squashfs.Write(t.Context(), f, []squashfs.Tree{tree}, nil, nil)
		_, errAssemble := squashfs.Assemble(t.Context(), []squashfs.Tree{tree}, nil)
		for what, err := range map[string]error{"write": errWrite, "assemble": errAssemble, "encode": squashfs.Encode(t.Context(), []squashfs.Tree{tree}, nil, nil)} {
			if err == nil || !strings.Contains(err.Error(), "no files") {
				t.Errorf("%s, %s: got %v", name, what, err)
			}
		}
		f.Close()
	}
}
