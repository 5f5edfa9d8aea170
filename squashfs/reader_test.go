package squashfs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
)

// oddImages are images of one tree, by several writers and codecs.
// What is in the tree is written down in testdata/odd.txt.
func oddImages(t testing.TB) []string {
	t.Helper()
	images, err := filepath.Glob("testdata/odd.*.img")
	if err != nil || len(images) < 8 {
		t.Fatalf("images in testdata: %q, error %v", images, err)
	}
	return images
}

func openImage(t testing.TB, name string) *FS {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// describe lists the files of an image, one a line:
// name, mode, owners, time, links, and what is in the file.
func describe(t testing.TB, fsys *FS) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		inode := info.Sys().(*Inode)
		fmt.Fprintf(&b, "%q %v %d:%d %d", name, info.Mode(), inode.UID, inode.GID, info.ModTime().Unix())
		switch info.Mode().Type() {
		case 0:
			sum, err := digestFile(fsys, name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d bytes, %x", info.Size(), sum[:8])
			if inode.Links != 1 {
				fmt.Fprintf(&b, ", %d links", inode.Links)
			}
		case fs.ModeSymlink:
			target, err := fsys.ReadLink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " to %q", target)
		case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
			fmt.Fprintf(&b, " device %d:%d", inode.Major(), inode.Minor())
		}
		for _, x := range inode.Xattrs {
			sum := sha256.Sum256(x.Value)
			fmt.Fprintf(&b, " %s=%x", x.Name, sum[:4])
		}
		fmt.Fprintln(&b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func digestFile(fsys fs.FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

func TestReadsImagesOfOtherWriters(t *testing.T) {
	b, err := os.ReadFile("testdata/odd.txt")
	if err != nil {
		t.Fatal(err)
	}
	// gensquashfs gives the root a time of its own, sees no hard links and drops empty attributes.
	ng := strings.NewReplacer("0:0 1000000002\n\"empty\"", "0:0 1\n\"empty\"", ", 2 links", "", " user.empty=e3b0c442", "")
	for _, name := range oddImages(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			want := string(b)
			if strings.Contains(name, ".ng-") {
				want = ng.Replace(want)
			}
			fsys := openImage(t, name)
			if got := describe(t, fsys); got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if got := fsys.Super(); got.BlockSize != MinBlockSize || got.Inodes == 0 {
				t.Errorf("superblock %+v", got)
			}
		})
	}
}

func TestFS(t *testing.T) {
	fsys := openImage(t, "testdata/plain.img")
	if err := fstest.TestFS(fsys, "a/b/c/deep", "a/link", "big", "empty", "none"); err != nil {
		t.Error(err)
	}
}

// However a file is read, its contents are the same.
func TestFileReaders(t *testing.T) {
	for _, image := range oddImages(t) {
		fsys := openImage(t, image)
		for _, name := range []string{"size/0", "size/1", "size/4095", "size/4096", "size/4097", "size/20480", "size/20481", "sparse/holes"} {
			want, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			f, err := fsys.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if err := iotest.TestReader(f, want); err != nil {
				t.Errorf("%s: %s: %v", image, name, err)
			}
			for _, from := range []int64{0, 1, 4095, 4096, int64(len(want))} {
				if from > int64(len(want)) {
					continue
				}
				if _, err := f.(io.Seeker).Seek(from, io.SeekStart); err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				n, err := f.(io.WriterTo).WriteTo(&b)
				if n != int64(b.Len()) || err != nil || !bytes.Equal(b.Bytes(), want[from:]) {
					t.Errorf("%s: %s: WriteTo from %d gives %d bytes, error %v", image, name, from, n, err)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if _, err := f.Read(make([]byte, 1)); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("%s: %s: read after close: %v", image, name, err)
			}
		}
	}
}

// A file of more blocks than one run of them can be read from anywhere.
func TestManyBlocks(t *testing.T) {
	const size = 3000*MinBlockSize + 5
	for _, image := range oddImages(t) {
		fsys := openImage(t, image)
		f, err := fsys.Open("sparse/long")
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{2500, 0, 2999, 1024, 2047, 1023, 2048} {
			got := make([]byte, 8)
			off := at * MinBlockSize
			if _, err := f.(io.ReaderAt).ReadAt(got, off); err != nil {
				t.Fatalf("%s: block %d: %v", image, at, err)
			}
			want := make([]byte, 8)
			if at%500 == 0 {
				copy(want, fmt.Sprintf("%08d", off))
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: block %d begins with %q, want %q", image, at, got, want)
			}
		}
		if info, err := f.Stat(); err != nil || info.Size() != size {
			t.Errorf("%s: stat: %v, %v", image, info, err)
		}
	}
}

// A walk begins in the deepest directory that is known, and may lead above it.
func TestLinksLeadAboveWhatIsKnown(t *testing.T) {
	data := write(t, []Tree{FileTree(".", fstest.MapFS{
		"file": {Data: []byte("top")}, "a/file": {Data: []byte("a")}, "a/b/file": {Data: []byte("a/b")}, "a/b/c/file": {Data: []byte("a/b/c")},
		"a/b/c/1": {Data: []byte("../file"), Mode: fs.ModeSymlink}, "a/b/c/2": {Data: []byte("../../file"), Mode: fs.ModeSymlink},
		"a/b/c/3": {Data: []byte("../../../file"), Mode: fs.ModeSymlink}, "a/b/c/9": {Data: []byte("../../../../../file"), Mode: fs.ModeSymlink},
		"a/b/c/down": {Data: []byte("../../../a/b/c/file"), Mode: fs.ModeSymlink},
	}, ".")}, nil, 0)
	fsys, err := Open(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for name, want := range map[string]string{"1": "a/b", "2": "a", "3": "top", "9": "top", "down": "a/b/c", "file": "a/b/c"} {
			if got, err := fs.ReadFile(fsys, "a/b/c/"+name); err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, want)
			}
		}
	}
}

func TestLinksStayInside(t *testing.T) {
	fsys := openImage(t, oddImages(t)[0])
	for _, tt := range []struct{ name, want string }{
		{"link/file", "hello\n"},
		{"link/absolute", "hello\n"},
		{"link/above", "hello\n"},
		{"link/chain", "hello\n"},
		{"link/dir/file", "hello\n"},
		{"link/here/here/here/file", "hello\n"},
		{"link/dangling", fs.ErrNotExist.Error()},
		{"link/slash", "not a directory"},
		{"link/loop", syscall.ELOOP.Error()},
		{"link/loop/x", syscall.ELOOP.Error()},
		{"link/file/x", "not a directory"},
		{"link/plain", "hello\n"},
		{"link/plain/x", "not a directory"},
		{"link/../link/plain", fs.ErrInvalid.Error()},
		{"/link", "invalid argument: in an fs.FS, this is link"},
		{"//link/", fs.ErrInvalid.Error()},
		{"link/", fs.ErrInvalid.Error()},
		{"", fs.ErrInvalid.Error()},
		{"link/none/x", fs.ErrNotExist.Error()},
		{"link\x00", fs.ErrInvalid.Error()},
	} {
		// Once with an empty cache, and again.
		for range 2 {
			b, err := fs.ReadFile(fsys, tt.name)
			got := string(b)
			if err != nil {
				got = errors.Unwrap(err).Error()
			}
			if got != tt.want {
				t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
			}
		}
	}
	if info, err := fsys.Stat("link/root"); err != nil || !info.IsDir() || info.Name() != "root" {
		t.Errorf("link/root: %v, %v", info, err)
	}
	if info, err := fsys.Lstat("link/root"); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Errorf("link/root itself: %v, %v", info, err)
	}
	if _, err := fsys.ReadLink("link/plain"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("read link of a file: %v", err)
	}
}

func TestParallelReaders(t *testing.T) {
	want, err := os.ReadFile("testdata/odd.txt")
	if err != nil {
		t.Fatal(err)
	}
	fsys := openImage(t, oddImages(t)[0])
	fsys.metaCache.limit = 2 * metaBlockSize // driven out all the time
	fsys.dataCache.limit = 2 * MinBlockSize
	fsys.dirCache.limit = 1000
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := describe(t, fsys); got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
	wg.Wait()
}

// A reader's own errors are passed on, and are not those of a corrupt image.
func TestReadErrors(t *testing.T) {
	b, err := os.ReadFile(oddImages(t)[0])
	if err != nil {
		t.Fatal(err)
	}
	errDisk := errors.New("disk on fire")
	for n := range 200 {
		r := &failing{r: bytes.NewReader(b), left: n, err: errDisk}
		err := readEverything(r, 1<<20)
		var bad *CorruptError
		if r.left >= 0 && err != nil {
			t.Fatal(err)
		} else if r.left < 0 && (!errors.Is(err, errDisk) || errors.As(err, &bad)) {
			t.Fatalf("after %d reads: %v", n, err)
		}
	}
}

// failing is a reader that fails after some reads.
type failing struct {
	r    io.ReaderAt
	left int
	err  error
}

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, f.err
	}
	return f.r.ReadAt(p, off)
}

// readEverything walks an image and reads it until budget is spent,
// each file costing its size and a bit.
func readEverything(r io.ReaderAt, budget int64) error {
	fsys, err := Open(r)
	if err != nil {
		return err
	}
	buf := make([]byte, 10_000)
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if budget -= int64(100 + len(name)); budget < 0 {
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch info.Mode().Type() {
		case fs.ModeSymlink:
			fsys.Stat(name) // may well dangle
			_, err = fsys.ReadLink(name)
			return err
		case 0:
			f, err := fsys.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			for budget > 0 {
				n, err := f.Read(buf)
				budget -= int64(n) + 100
				if err == io.EOF {
					break
				} else if err != nil {
					return err
				}
			}
			_, err = f.(io.ReaderAt).ReadAt(buf[:1], info.Size()/2)
			if err != nil && info.Size() > 0 {
				return err
			}
		}
		return nil
	})
}

func TestTruncatedImages(t *testing.T) {
	for _, name := range oddImages(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		used := openImage(t, name).super.BytesUsed
		for n := int64(0); n < used; n += 1 + used/300 {
			if err := readEverything(bytes.NewReader(b[:n]), 64<<20); err == nil {
				t.Errorf("%s: no error after cutting it to %d of %d bytes", name, n, used)
			}
		}
	}
}

// A damaged byte may go unnoticed, but does no harm, and errors tell what is wrong.
func TestDamagedImages(t *testing.T) {
	for _, name := range []string{"testdata/kinds.img", "testdata/plain.img"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		used := openImage(t, name).super.BytesUsed
		for i := superSize; i < int(used); i++ {
			for _, flip := range []byte{0x01, 0xFF} {
				b[i] ^= flip
				var bad *CorruptError
				if err := readEverything(bytes.NewReader(b), 100_000); err != nil && !errors.As(err, &bad) {
					t.Errorf("%s: byte %d: %v", name, i, err)
				}
				b[i] ^= flip
			}
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, name := range append(oddImages(f), "testdata/plain.img", "testdata/kinds.img") {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		readEverything(bytes.NewReader(image), 1<<20)
	})
}
