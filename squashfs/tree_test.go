package squashfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"
)

// A treeFS is a file system in memory that takes any name. Directories are implied.
type treeFS map[string]*treeFile

type treeFile struct {
	mode   fs.FileMode
	data   []byte
	size   int64 // if more than data: that many bytes, the rest of which are zeros
	target string
	mtime  int64
	sys    any
	fail   error // of reading
	stream bool  // the file can only be read from beginning to end
}

func (t treeFS) add(name string, f *treeFile) {
	t[name] = f
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if t[dir] == nil {
			t[dir] = &treeFile{mode: fs.ModeDir | 0o555, mtime: 1}
		}
		if dir == "." {
			break
		}
	}
}

func (t treeFS) file(name string, data []byte) {
	t.add(name, &treeFile{mode: 0o444, data: data, mtime: 1})
}
func (t treeFS) link(name string, target string) {
	t.add(name, &treeFile{mode: fs.ModeSymlink | 0o777, target: target, mtime: 1})
}

func (t treeFS) dir(name string, mode fs.FileMode) {
	t.add(name, &treeFile{mode: fs.ModeDir | mode, mtime: 1})
}

func (t treeFS) Lstat(name string) (fs.FileInfo, error) {
	f := t[name]
	if f == nil {
		return nil, &fs.PathError{Op: "lstat", Path: name, Err: fs.ErrNotExist}
	}
	return treeInfo{path.Base(name), f}, nil
}

func (t treeFS) Stat(name string) (fs.FileInfo, error) { return t.Lstat(name) }

func (t treeFS) ReadLink(name string) (string, error) {
	if f := t[name]; f != nil {
		return f.target, nil
	}
	return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrNotExist}
}

func (t treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	for p, f := range t {
		if p != "." && path.Dir(p) == name {
			list = append(list, fs.FileInfoToDirEntry(treeInfo{path.Base(p), f}))
		}
	}
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, nil
}

func (t treeFS) Open(name string) (fs.File, error) {
	f := t[name]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	open := &openTreeFile{info: treeInfo{path.Base(name), f}}
	open.SectionReader = io.NewSectionReader(f, 0, open.info.Size())
	if f.stream {
		return struct{ fs.File }{open}, nil
	}
	return open, nil
}

func (f *treeFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fail != nil {
		return 0, f.fail
	}
	n := 0
	if off < int64(len(f.data)) {
		n = copy(p, f.data[off:])
	}
	clear(p[n:])
	return len(p), nil
}

type treeInfo struct {
	name string
	*treeFile
}

func (i treeInfo) Name() string       { return i.name }
func (i treeInfo) Size() int64        { return max(i.size, int64(len(i.data))) }
func (i treeInfo) Mode() fs.FileMode  { return i.mode }
func (i treeInfo) ModTime() time.Time { return time.Unix(i.mtime, 0) }
func (i treeInfo) IsDir() bool        { return i.mode.IsDir() }
func (i treeInfo) Sys() any           { return i.sys }

type openTreeFile struct {
	*io.SectionReader
	info treeInfo
}

func (f *openTreeFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openTreeFile) Close() error               { return nil }

// words returns n bytes that compress well.
func words(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	var b []byte
	for len(b) < n {
		b = fmt.Appendf(b, "%x ", r.IntN(1<<(4+r.IntN(12))))
	}
	return b[:n]
}

// noise returns n bytes that do not compress.
func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// nastyTree has what writers have got wrong.
func nastyTree(blockSize int) treeFS {
	t := treeFS{}
	t.dir(".", 0o755)
	for _, k := range []int{0, 1, 2, 5} {
		for d := -1; d <= 1; d++ {
			if n := k*blockSize + d; n >= 0 {
				t.file(fmt.Sprintf("sizes/words %d%+d", k, d), words(n, uint64(n)))
				t.file(fmt.Sprintf("sizes/noise %d%+d", k, d), noise(n, uint64(n)))
			}
		}
	}
	zeros := make([]byte, 3*blockSize)
	t.file("sparse/all", zeros)
	t.file("sparse/begin", append(slices.Clone(zeros), "end"...))
	t.file("sparse/middle", slices.Concat(words(blockSize, 1), zeros, words(blockSize+7, 2)))
	t.file("sparse/short", zeros[:blockSize/2])
	for i := range 700 {
		t.file(fmt.Sprintf("many/%03d", i), fmt.Appendf(nil, "file %d", i))
	}
	long := strings.Repeat("n", 251)
	for i := range 300 {
		t.link(fmt.Sprintf("long/%s%04d", long, i), "x")
	}
	for _, name := range []string{
		"new\nline", "\xff\xfe bytes", "tab\there", " leading", "trailing ", "back\\slash", "qu\"ote", "ü", "u\u0308",
		"Case", "case", "\x01", "-rf", "*", ".hidden", ".wh.x", strings.Repeat("z", 255),
	} {
		t.file("names/"+name, []byte(name))
	}
	t.link("links/relative", "../many/001")
	t.link("links/absolute", "/nix/store/x")
	t.link("links/loop", "loop")
	t.link("links/long", strings.Repeat("0123456789", 400))
	t.link("links/401", strings.Repeat("t", 401))
	t.dir("empty", 0o700)
	t.add("modes/setuid", &treeFile{mode: fs.ModeSetuid | 0o755, data: []byte("s"), mtime: 1e9})
	t.add("modes/tmp", &treeFile{mode: fs.ModeDir | fs.ModeSticky | 0o777, mtime: 1 << 40})
	t.add("modes/old", &treeFile{mode: 0o600, mtime: -5})
	t.add("modes/owned", &treeFile{mode: fs.ModeSetgid | 0o640, sys: &Inode{UID: 1000, GID: 100}, mtime: 1})
	t.add("special/null", &treeFile{mode: fs.ModeDevice | fs.ModeCharDevice | 0o666, sys: &Inode{Rdev: 1<<8 | 3}})
	t.add("special/sda", &treeFile{mode: fs.ModeDevice | 0o660, sys: &Inode{Rdev: 8 << 8, GID: 6}})
	t.add("special/pipe", &treeFile{mode: fs.ModeNamedPipe | 0o644})
	t.add("special/socket", &treeFile{mode: fs.ModeSocket | 0o644})
	t.file("stream/words", words(3*blockSize+9, 77))
	t["stream/words"].stream = true
	t.file("stream/short", words(99, 78))
	t["stream/short"].stream = true
	deep := "deep"
	for range 40 {
		deep += "/directory"
	}
	t.file(deep, []byte("deep"))
	for i := range 6 {
		t.file(fmt.Sprintf("same/%d", i), words(blockSize*2+50, 5))
	}
	return t
}

// A memFile is an image in memory.
type memFile struct {
	data  []byte
	limit int // bytes that fit; 0: any number
}

func (m *memFile) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.data).ReadAt(p, off)
}

func (m *memFile) WriteAt(p []byte, off int64) (int, error) {
	end := int(off) + len(p)
	if m.limit > 0 && end > m.limit {
		return 0, errNoSpace
	}
	if end > len(m.data) {
		m.data = append(m.data, make([]byte, end-len(m.data))...)
	}
	return copy(m.data[off:], p), nil
}

func (m *memFile) Truncate(size int64) error {
	m.data = append(m.data, make([]byte, max(0, int(size)-len(m.data)))...)[:size]
	return nil
}

var errNoSpace = fmt.Errorf("no space left")

func observed(t Tree, o Observer) Tree {
	t.Observer = o
	return t
}

// write returns an image of trees.
func write(t testing.TB, trees []Tree, opts *Options, workers int) []byte {
	t.Helper()
	var f memFile
	img, err := Write(t.Context(), &f, trees, opts, &Runtime{Workers: workers})
	if err != nil {
		t.Fatal(err)
	}
	if img.Size != int64(len(f.data)) || img.Size%imagePadding != 0 {
		t.Fatalf("the image has %d bytes, the file %d", img.Size, len(f.data))
	}
	return f.data
}

// sameAsTree compares what fsys has below root with want.
func sameAsTree(t *testing.T, fsys *FS, root string, want treeFS) {
	t.Helper()
	seen := make(map[string]bool)
	err := fs.WalkDir(fsys, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := name
		if root != "." {
			rel = strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		}
		if name == root {
			rel = "."
		}
		f := want[rel]
		if f == nil {
			t.Errorf("%q is in the image only", name)
			return nil
		}
		seen[rel] = true
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode() != f.mode {
			t.Errorf("%q has mode %v, want %v", name, info.Mode(), f.mode)
		}
		if got, w := info.ModTime().Unix(), int64(clampTime(f.mtime)); got != w {
			t.Errorf("%q has time %d, want %d", name, got, w)
		}
		inode := info.Sys().(*Inode)
		from, _ := f.sys.(*Inode)
		if from == nil {
			from = &Inode{}
		}
		if inode.UID != from.UID || inode.GID != from.GID || inode.Rdev != from.Rdev {
			t.Errorf("%q has inode %+v, want %+v", name, inode, from)
		}
		switch f.mode.Type() {
		case 0:
			data, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			if !bytes.Equal(data, f.data) {
				t.Errorf("%q has other contents: %d bytes, want %d", name, len(data), len(f.data))
			}
		case fs.ModeSymlink:
			target, err := fsys.ReadLink(name)
			if err != nil || target != f.target {
				t.Errorf("%q leads to %q, want %q: %v", name, target, f.target, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !seen[name] {
			t.Errorf("%q is not in the image", name)
		}
	}
}
