package squashfs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nix2img/nix2img/internal/codec"
)

// allCodecs are those of this binary: libzstd needs cgo.
var allCodecs = slices.DeleteFunc(
	[]string{"gzip", "zstd", "zstd-go", "lz4", "lz4:3", "xz", "none"},
	func(s string) bool {
		c, _ := ParseCompression(s)
		_, err := Options{Compression: c}.Complete()
		return err != nil
	})

func options(t testing.TB, compression string, blockSize int) *Options {
	t.Helper()
	c, err := ParseCompression(compression)
	if err != nil {
		t.Fatal(err)
	}
	return &Options{Compression: c, BlockSize: blockSize}
}

// testTrees are two trees at places of their own and one that is merged with the root.
func testTrees(blockSize int) []Tree {
	odd := nastyTree(blockSize)
	lone := treeFS{}
	lone.file("script", []byte("#!/bin/sh\n"))
	base := treeFS{}
	base.dir(".", 0o755)
	base.dir("nix", 0o755)
	base.dir("nix/store", 0o755)
	base.dir("tmp", fs.ModeSticky|0o777)
	base.file("etc/passwd", []byte("root:x:0:0::/:\n"))
	return []Tree{
		FileTree("nix/store/odd", odd, "."),
		FileTree("nix/store/script", lone, "script"),
		FileTree("nix/store/odd again", odd, "."),
		FileTree(".", base, "."),
	}
}

func TestSameBytesAnyWorkers(t *testing.T) {
	for _, compression := range allCodecs {
		for _, blockSize := range []int{4 << 10, 128 << 10} {
			if blockSize > 4<<10 && compression != "gzip" {
				continue
			}
			t.Run(fmt.Sprint(compression, " ", blockSize), func(t *testing.T) {
				t.Parallel()
				opts := options(t, compression, blockSize)
				trees := testTrees(blockSize)
				want := write(t, trees, opts, 1)
				for _, workers := range []int{2, 7, 64, 0} {
					if !bytes.Equal(write(t, trees, opts, workers), want) {
						t.Errorf("%d workers give other bytes than one", workers)
					}
				}
			})
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, compression := range allCodecs {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			const blockSize = 4 << 10
			data := write(t, testTrees(blockSize), options(t, compression, blockSize), 0)
			fsys, err := Open(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			sameAsTree(t, fsys, "nix/store/odd", nastyTree(blockSize))
			sameAsTree(t, fsys, "nix/store/odd again", nastyTree(blockSize))
			for _, name := range []string{"nix/store/script", "etc/passwd", "tmp"} {
				if _, err := fsys.Stat(name); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What our reader reads, our writer must be able to write again.
func TestCopyOfImage(t *testing.T) {
	const blockSize = 4 << 10
	opts := options(t, "gzip", blockSize)
	first := write(t, []Tree{FileTree(".", nastyTree(blockSize), ".")}, opts, 0)
	fsys, err := Open(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	second := write(t, []Tree{FileTree(".", fsys, ".")}, opts, 0)
	if !bytes.Equal(first, second) {
		t.Error("the image of an image differs from it")
	}
}

// The digests of images change only with an entry under "Output" in the changelog.
func TestGolden(t *testing.T) {
	golden := map[string]string{
		"gzip":    "a001b993d27541aad8ef920924ef522cfd9d406352bfdd807c55430155dda086",
		"zstd":    "e829e65d1915c584f4c978467f7e7e0a9cd6f2f5ce0ccd99a21ed3b1d5330147",
		"zstd-go": "722a384c3d32b3aaf26967d184577235ff82a5af38dbf953cc5bcf1f7c9079f8",
		"lz4":     "5d38c862b33770903a9d09823af7fea2996b2b3dac89f7a1e2abbb0d9e66065b",
		"lz4:3":   "b71b1407118113088e4fde3d0454dcfc1671334e1bf28b2d97fa41cfd1b62e99",
		"xz":      "511a03beb5592ea686c3ff9a5f1b3ef4baa42bcfadd51a3ea1f720f930423389",
		"none":    "5cdb503c038268e5ff74a24fe75442a1a747e0b727b287d5e0a047535f999843",
	}
	for _, compression := range allCodecs {
		data := write(t, testTrees(4<<10), options(t, compression, 4<<10), 0)
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != golden[compression] {
			t.Errorf("%s: digest %s, want %s", compression, got, golden[compression])
		}
	}
}

func TestIdenticalFilesShareBlocks(t *testing.T) {
	one, two := treeFS{}, treeFS{}
	one.file("a", noise(1<<20, 1))
	two.file("before", words(300<<10, 2))
	two.file("b", noise(1<<20, 1))
	two.file("c", append(noise(1<<20, 1), 1)) // the same blocks, and a tail
	opts := options(t, "gzip", 128<<10)
	var f memFile
	img, err := Write(t.Context(), &f, []Tree{FileTree("1", one, "."), FileTree("2", two, ".")}, opts, nil)
	if err != nil {
		t.Fatal(err)
	}
	if img.Parts[1].Size > 300<<10 {
		t.Errorf("the second segment takes %d bytes, though most of it is in the first", img.Parts[1].Size)
	}
	fsys, err := Open(bytes.NewReader(f.data))
	if err != nil {
		t.Fatal(err)
	}
	sameAsTree(t, fsys, "2", two)
}

// Blocks whose checksums agree are compared by their bytes.
func TestCollidingChecksumsAreNoDuplicates(t *testing.T) {
	l := &layout{known: make(map[extentKey][]knownExtent)}
	w := &writer{layout: l, f: &memFile{data: []byte("aaaabbbb")}}
	s := &Segment{}
	l.begin("x", s)
	for range 2 {
		s.begin(false)
		s.add(block{size: 4 | blockStored, sum: 1})
		if err := w.extent(); err != nil {
			t.Fatal(err)
		}
	}
	if at := l.parts[0].extents; !slices.Equal(at, []int64{0, 4}) {
		t.Errorf("the extents are placed at %d", at)
	}
}

func TestDigestsOfSegmentsDependOnTheirTreesAlone(t *testing.T) {
	opts := options(t, "gzip", 4<<10)
	trees := testTrees(4 << 10)
	digests := func(trees ...Tree) map[string][32]byte {
		img, err := Write(t.Context(), &memFile{}, trees, opts, nil)
		if err != nil {
			t.Fatal(err)
		}
		m := make(map[string][32]byte)
		for _, s := range img.Parts {
			m[s.Name] = s.Digest
		}
		return m
	}
	all, some := digests(trees...), digests(trees[3], trees[1], trees[0])
	for name, d := range some {
		if all[name] != d {
			t.Errorf("segment %s has another digest in another image", name)
		}
	}
	if all["nix/store/odd"] != all["nix/store/odd again"] {
		t.Error("equal trees have other digests")
	}
	if all["nix/store/odd"] == all["nix/store/script"] {
		t.Error("other trees have the same digest")
	}
}

func TestConflicts(t *testing.T) {
	dir := func(mode fs.FileMode, files ...string) treeFS {
		tree := treeFS{}
		tree.dir(".", mode)
		for _, f := range files {
			tree.file(f, nil)
		}
		return tree
	}
	for name, test := range map[string]struct {
		trees []Tree
		path  string
	}{
		"two files": {[]Tree{FileTree(".", dir(0o755, "a/b"), "."), FileTree(".", dir(0o755, "a/b"), ".")}, "a/b"},
		"file and directory": {[]Tree{
			FileTree("x", dir(0o755, "a"), "."), FileTree("x/a/b", dir(0o755, "c"), ".")}, "x/a"},
		"modes":     {[]Tree{FileTree("x", dir(0o755), "."), FileTree("x", dir(0o700), ".")}, "x"},
		"same tree": {[]Tree{FileTree("x", dir(0o755, "f"), "."), FileTree("x", dir(0o755, "f"), ".")}, "x/f"},
		"file as place": {[]Tree{
			FileTree("x", dir(0o755, "f"), "f"), FileTree("x/y", dir(0o755), ".")}, "x"},
	} {
		var conflict *ConflictError
		_, err := Write(t.Context(), &memFile{}, test.trees, nil, nil)
		if !errors.As(err, &conflict) || conflict.Path != test.path {
			t.Errorf("%s: got %v, want a conflict at %q", name, err, test.path)
		}
	}
	for _, place := range []string{"", "/x", "x/", "a//b", "../x", "a/./b"} {
		if _, err := Write(t.Context(), &memFile{}, []Tree{FileTree(place, dir(0o755), ".")}, nil, nil); err == nil {
			t.Errorf("a tree may lie at %q", place)
		}
	}
}

func TestImpliedDirectories(t *testing.T) {
	tree := treeFS{}
	tree.file("f", []byte("x"))
	data := write(t, []Tree{FileTree("a/b/f", tree, "f")}, &Options{ModTime: time.Unix(1e9, 0)}, 0)
	fsys, err := Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".", "a", "a/b"} {
		info, err := fsys.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != fs.ModeDir|0o755 || info.ModTime().Unix() != 1e9 {
			t.Errorf("%s: %v %v", name, info.Mode(), info.ModTime())
		}
	}
}

func TestIllegalOptions(t *testing.T) {
	for _, o := range []Options{
		{BlockSize: 2048}, {BlockSize: 2 << 20}, {BlockSize: 100_000},
		{Compression: Compression{Codec: "bzip2"}}, {Compression: Compression{Codec: "gzip", Level: 12}},
		{Compression: Compression{Codec: "none", Level: 1}},
		{ModTime: time.Unix(-1, 0)}, {ModTime: time.Unix(1<<32, 0)},
	} {
		if _, err := Write(t.Context(), &memFile{}, nil, &o, nil); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// A recorder is an Observer that notes what it sees, and may fail.
type recorder struct {
	log    strings.Builder
	size   int64
	failAt string
	delay  time.Duration
	err    error
	closed bool
}

func (r *recorder) Node(name string, info fs.FileInfo, target string) error {
	time.Sleep(r.delay)
	fmt.Fprintf(&r.log, "%s %v %s\n", name, info.Mode(), target)
	if name == r.failAt {
		return r.err
	}
	return nil
}

func (r *recorder) Write(p []byte) (int, error) {
	r.size += int64(len(p))
	return len(p), nil
}

func (r *recorder) Close() error {
	r.closed = true
	if r.failAt == "" {
		return r.err
	}
	return nil
}

func TestObserverSeesTheTreeInOrder(t *testing.T) {
	tree := treeFS{}
	tree.file("b", words(10_000, 1))
	tree.link("a", "b")
	tree.file("c/x", nil)
	tree.file("c!", words(9000, 2))
	r := &recorder{}
	write(t, []Tree{observed(FileTree("t", tree, "."), r)}, options(t, "gzip", 4096), 4)
	want := ". dr-xr-xr-x \na Lrwxrwxrwx b\nb -r--r--r-- \nc dr-xr-xr-x \nc/x -r--r--r-- \nc! -r--r--r-- \n"
	if r.log.String() != want || r.size != 19_000 || !r.closed {
		t.Errorf("saw %d bytes and\n%swant\n%s", r.size, r.log.String(), want)
	}
}

func TestFirstErrorByPosition(t *testing.T) {
	bad, other := errors.New("bad"), errors.New("other")
	healthy := treeFS{}
	for i := range 200 {
		healthy.file(fmt.Sprint(i), words(20_000, uint64(i)))
	}
	broken := treeFS{}
	broken.file("x", words(100_000, 1))
	broken["x"].fail = other
	for name, trees := range map[string][]Tree{
		// It is slow to find out, but its tree comes first.
		"observer": {
			observed(FileTree("1", healthy, "."), &recorder{delay: time.Millisecond, err: bad}),
			FileTree("2", broken, "."),
		},
		"observer of two": {
			observed(FileTree("1", healthy, "."), &recorder{delay: time.Millisecond, failAt: "7", err: bad}),
			observed(FileTree("2", healthy, "."), &recorder{err: other}),
			FileTree("3", broken, "."),
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := Write(t.Context(), &memFile{}, trees, options(t, "none", 4096), &Runtime{Workers: 3})
			if !errors.Is(err, bad) {
				t.Errorf("%s: got %v, want the first error", name, err)
			}
		})
	}
}

// After any failure, no goroutine may be left: synctest.Test would not return.
func TestFailures(t *testing.T) {
	big := func() treeFS {
		tree := treeFS{}
		for i := range 100 {
			tree.file(fmt.Sprintf("%03d", i), words(30_000, uint64(i)))
		}
		return tree
	}
	for name, test := range map[string]struct {
		change func(treeFS)
		limit  int
		want   string
	}{
		"unreadable":   {func(t treeFS) { t["050"].fail = fs.ErrPermission }, 0, `read "050": permission denied`},
		"shrunk":       {func(t treeFS) { t["050"].fail = io.EOF }, 0, `read "050": the file changed while it was read`},
		"bad name":     {func(t treeFS) { t.file(strings.Repeat("n", 256), nil) }, 0, "longer than 255 bytes"},
		"device":       {func(t treeFS) { t.add("null", &treeFile{mode: fs.ModeDevice}) }, 0, "device without a number"},
		"empty link":   {func(t treeFS) { t.link("l", "") }, 0, "target"},
		"long link":    {func(t treeFS) { t.link("l", strings.Repeat("x", 5000)) }, 0, "target"},
		"disk full":    {func(treeFS) {}, 500_000, "no space left"},
		"no such root": {func(t treeFS) { delete(t, ".") }, 0, "file does not exist"},
	} {
		synctest.Test(t, func(t *testing.T) {
			tree := big()
			test.change(tree)
			_, err := Write(t.Context(), &memFile{limit: test.limit},
				[]Tree{observed(FileTree("x", tree, "."), &recorder{})}, options(t, "none", 4096), &Runtime{Workers: 4})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want something about %s", name, err, test.want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Write(ctx, &memFile{}, []Tree{FileTree("x", big(), ".")}, nil, &Runtime{
			Workers: 4,
			Progress: func(p Progress) {
				if p.Read > 1_000_000 {
					cancel()
				}
			},
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: got %v", err)
		}
	})
}

// A sleeper compresses by sleeping, and counts.
type sleeper struct{ busy, most *atomic.Int64 }

func (s sleeper) Compress(dst, src []byte) ([]byte, error) {
	s.most.Store(max(s.most.Load(), s.busy.Add(1)))
	// Blocks take different times, as they do.
	time.Sleep(time.Duration(5+src[0]%10) * time.Millisecond)
	s.busy.Add(-1)
	return dst[:1], nil
}

// discard is an image of which nothing is kept.
type discard struct{}

func (d *discard) ReadAt(p []byte, off int64) (int, error)  { clear(p); return len(p), nil }
func (d *discard) WriteAt(p []byte, off int64) (int, error) { return len(p), nil }
func (d *discard) Truncate(int64) error                     { return nil }

// Sixty-four workers must have something to do, be it one huge file or many small ones,
// and the memory that this takes must follow from their number.
func TestManyWorkersStayBusy(t *testing.T) {
	const workers, blockSize, blocks = 64, 4096, 6400
	huge := treeFS{}
	huge.file("f", noise(blocks*blockSize, 1))
	small := treeFS{}
	for i := range 4 * blocks {
		small.file(fmt.Sprintf("%d/%d", i%100, i), noise(blockSize/4, uint64(i)))
	}
	// treeFS lists a directory by looking at all files, which is too slow here.
	for name, tree := range map[string]fs.FS{"one file": huge, "small files": listed(small)} {
		synctest.Test(t, func(t *testing.T) {
			var busy, most atomic.Int64
			l, err := newLayout(options(t, "none", blockSize))
			if err != nil {
				t.Fatal(err)
			}
			e := newEncoder(l, &Runtime{Workers: workers})
			e.newCompressor = func() (codec.Compressor, error) { return sleeper{&busy, &most}, nil }
			start := time.Now()
			total := time.Duration(0)
			if err := e.encode(t.Context(), []Tree{FileTree("x", tree, ".")}, nowhere{}); err != nil {
				t.Fatal(err)
			}
			// Fragment blocks begin with the first byte of a file, full blocks with any:
			// the mean is that of noise.
			for i := range 256 {
				total += time.Duration(5+byte(i)%10) * time.Millisecond
			}
			ideal := total / 256 * blocks / workers
			if took := time.Since(start); float64(ideal) < 0.9*float64(took) {
				t.Errorf("%s: took %v, and would take %v if all workers were always busy", name, took, ideal)
			}
			if most.Load() > workers {
				t.Errorf("%s: %d blocks at once, with %d workers", name, most.Load(), workers)
			}
			buffers := 0
			for range cap(e.buffers.free) {
				if b := <-e.buffers.free; b != nil {
					buffers++
				}
			}
			if limit := 10 * workers; cap(e.buffers.free) > limit || buffers > limit {
				t.Errorf("%s: %d buffers, want at most %d", name, buffers, limit)
			}
		})
	}
}

// listed makes a treeFS fast to list.
func listed(t treeFS) fs.FS {
	l := listedFS{t, make(map[string][]fs.DirEntry)}
	for name, f := range t {
		if name != "." {
			dir := name[:max(strings.LastIndexByte(name, '/'), 0)]
			l.dirs[dir] = append(l.dirs[dir], fs.FileInfoToDirEntry(treeInfo{name[strings.LastIndexByte(name, '/')+1:], f}))
		}
	}
	for _, list := range l.dirs {
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	l.dirs["."] = l.dirs[""]
	return l
}

type listedFS struct {
	treeFS
	dirs map[string][]fs.DirEntry
}

func (l listedFS) ReadDir(name string) ([]fs.DirEntry, error) { return l.dirs[name], nil }

// An image of a hundred thousand small files must not take memory by their contents.
func BenchmarkWrite(b *testing.B) {
	tree := treeFS{}
	var total int64
	for i := range 20_000 {
		data := words(200+i%5000, uint64(i))
		total += int64(len(data))
		tree.file(fmt.Sprintf("%d/%d", i%500, i), data)
	}
	big := words(8<<20, 1)
	for i := range 8 {
		tree.file(fmt.Sprintf("big/%d", i), append(big, byte(i)))
		total += int64(len(big)) + 1
	}
	fsys := listed(tree)
	for _, compression := range []string{"none", "lz4", "zstd", "zstd-go", "gzip"} {
		b.Run(compression, func(b *testing.B) {
			opts := options(b, compression, 128<<10)
			b.SetBytes(total)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Write(b.Context(), &discard{}, []Tree{FileTree("x", fsys, ".")}, opts, nil); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
		})
	}
}
