package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/nix2img/nix2img/internal/codec"
)

// A forger makes images that no honest program would.
// Nothing is compressed, and the tables follow the superblock.
type forger struct {
	inodes, dirs []byte
	root         uint64
}

// stored cuts records into stored metadata blocks.
func stored(b []byte) (out []byte) {
	for len(b) > 0 {
		n := min(len(b), metaBlockSize)
		out = binary.LittleEndian.AppendUint16(out, uint16(n)|metaStored)
		out = append(out, b[:n]...)
		b = b[n:]
	}
	return out
}

// ref is the place of byte n of a table, as stored puts it.
func ref(n int) uint64 {
	return uint64(n/metaBlockSize*(metaBlockSize+2))<<16 | uint64(n%metaBlockSize)
}

// inode adds an inode of a type, whose body is the concatenation of integers.
func (f *forger) inode(kind uint16, body ...any) uint64 {
	at := ref(len(f.inodes))
	f.inodes, _ = binary.Append(f.inodes, binary.LittleEndian, []uint16{kind, 0o777, 0, 0, 0, 0, 1, 0})
	for _, v := range body {
		f.inodes, _ = binary.Append(f.inodes, binary.LittleEndian, v)
	}
	return at
}

// list adds a listing, and returns its place and size.
func (f *forger) list(entries ...any) (at uint64, size int) {
	at, size = ref(len(f.dirs)), len(f.dirs)
	for i := 0; i < len(entries); i += 3 {
		kind, name, inode := entries[i].(int), entries[i+1].(string), entries[i+2].(uint64)
		f.dirs, _ = binary.Append(f.dirs, binary.LittleEndian, []uint32{0, uint32(inode >> 16), 0})
		f.dirs, _ = binary.Append(f.dirs, binary.LittleEndian, []uint16{uint16(inode), 0, uint16(kind), uint16(len(name) - 1)})
		f.dirs = append(f.dirs, name...)
	}
	return at, len(f.dirs) - size
}

// dir adds a directory with entries: a type, a name and an inode each.
func (f *forger) dir(entries ...any) uint64 {
	at, size := f.list(entries...)
	return f.inode(typeDir, uint32(at>>16), uint32(2), uint16(size+dirListingBias), uint16(at), uint32(0))
}

func (f *forger) image() []byte {
	inodes, dirs, ids := stored(f.inodes), stored(append(f.dirs, 0)), stored(make([]byte, 4))
	s := Super{
		Inodes: 100_000, ModTime: time.Unix(1, 0), BlockSize: MinBlockSize,
		Compression: codec.GZIP, IDs: 1,
		rootRef:    f.root,
		inodeTable: superSize, dirTable: uint64(superSize + len(inodes)),
		xattrTable: noTable, fragTable: noTable, exportTable: noTable,
	}
	idBlock := s.dirTable + uint64(len(dirs))
	s.idTable = idBlock + uint64(len(ids))
	s.BytesUsed = int64(s.idTable) + 8
	b := append(s.encode(), inodes...)
	b = append(b, dirs...)
	b = append(b, ids...)
	return binary.LittleEndian.AppendUint64(b, idBlock)
}

func TestForgerIsHonestByItself(t *testing.T) {
	var f forger
	file := f.inode(typeFile, []uint32{0, noFragment, 0, 0})
	sub := f.dir()
	f.root = f.dir(typeDir, "dir", sub, typeFile, "file", file)
	if err := readEverything(bytes.NewReader(f.image()), 1<<20); err != nil {
		t.Error(err)
	}
}

func TestHostileImages(t *testing.T) {
	for _, tt := range []struct {
		name  string
		forge func(f *forger)
		want  string
	}{
		{"root below itself", func(f *forger) {
			f.root = f.dir(typeDir, "x", ref(0))
		}, "two places"},
		{"directory below itself", func(f *forger) {
			a := f.dir(typeDir, "b", ref(32))
			f.dir(typeDir, "a", a)
			f.root = f.dir(typeDir, "a", a)
		}, "two places"},
		{"directory twice", func(f *forger) {
			a := f.dir()
			f.root = f.dir(typeDir, "a", a, typeDir, "b", a)
		}, "two places"},
		{"maze", func(f *forger) {
			next := f.dir()
			for range 100 {
				next = f.dir(typeDir, "a", next, typeDir, "b", next)
			}
			f.root = next
		}, "two places"},
		{"deep", func(f *forger) {
			next := f.dir()
			for range maxDepth + 1 {
				next = f.dir(typeDir, "a", next)
			}
			f.root = next
		}, "nested deeper"},
		{"root is a file", func(f *forger) {
			f.root = f.inode(typeFile, []uint32{0, noFragment, 0, 0})
		}, "not a directory"},
		{"root outside", func(f *forger) {
			f.dir()
			f.root = 1 << 40
		}, "no metadata block"},
		{"root far outside", func(f *forger) {
			f.dir()
			f.root = math.MaxUint64
		}, "no metadata block"},
		{"offset beyond a block", func(f *forger) {
			f.dir()
			f.root = 8000
		}, "beyond the block"},
		{"type unknown", func(f *forger) { f.root = f.inode(15, make([]byte, 100)) }, "type 15"},
		{"owner unknown", func(f *forger) {
			f.root = f.dir()
			f.inodes[4] = 1
		}, "owners 1:0"},
		{"entry of another type", func(f *forger) {
			f.root = f.dir(typeFile, "file", f.dir())
		}, "its entry"},
		{"listing of 4 GiB", func(f *forger) {
			f.root = f.inode(typeExtDir, []uint32{2, math.MaxUint32, 0, 0, 0, noXattr})
		}, "listing of 4294967292 bytes"},
		{"listing longer than the table", func(f *forger) {
			f.root = f.inode(typeExtDir, []uint32{2, 1 << 20, 0, 0, 0, noXattr})
		}, "listing of 1048573 bytes"},
		{"listing cut off", func(f *forger) {
			at, size := f.list(typeFile, "file", uint64(0))
			f.root = f.inode(typeDir, uint32(at>>16), uint32(2), uint16(size+dirListingBias+5), uint16(at), uint32(0))
		}, "5 bytes at the end"},
		{"name .", func(f *forger) { f.root = f.dir(typeFile, ".", ref(0)) }, `name "."`},
		{"name ..", func(f *forger) { f.root = f.dir(typeFile, "..", ref(0)) }, `name ".."`},
		{"name with slash", func(f *forger) { f.root = f.dir(typeFile, "../x", ref(0)) }, `name "../x"`},
		{"name with NUL", func(f *forger) { f.root = f.dir(typeFile, "x\x00", ref(0)) }, `name "x\x00"`},
		{"long name", func(f *forger) { f.root = f.dir(typeFile, strings.Repeat("x", 257), ref(0)) }, "name of 257 bytes"},
		{"same name twice", func(f *forger) {
			f.root = f.dir(typeFile, "x", ref(0), typeFile, "x", ref(0))
		}, `name "x" is behind "x"`},
		{"names not in order", func(f *forger) {
			f.root = f.dir(typeFile, "y", ref(0), typeFile, "x", ref(0))
		}, `name "x" is behind "y"`},
		{"target of 4 GiB", func(f *forger) {
			link := f.inode(typeSymlink, []uint32{1, math.MaxUint32})
			f.root = f.dir(typeSymlink, "link", link)
		}, "target of 4294967295 bytes"},
		{"target of nothing", func(f *forger) {
			link := f.inode(typeSymlink, []uint32{1, 0})
			f.root = f.dir(typeSymlink, "link", link)
		}, "target of 0 bytes"},
		{"file of 2^64-1 bytes", func(f *forger) {
			file := f.inode(typeExtFile, []uint64{0, math.MaxUint64, 0}, []uint32{1, noFragment, 0, noXattr})
			f.root = f.dir(typeFile, "file", file)
		}, "has 18446744073709551615 bytes"},
		{"file of 2^62 bytes", func(f *forger) {
			file := f.inode(typeExtFile, []uint64{0, 1 << 62, 0}, []uint32{1, noFragment, 0, noXattr})
			f.root = f.dir(typeFile, "file", file)
		}, "has 4611686018427387904 bytes"},
		{"file of more blocks than there are", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, noFragment, 0, 100 * MinBlockSize})
			f.root = f.dir(typeFile, "file", file)
		}, "no metadata block"},
		{"block too long", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, noFragment, 0, MinBlockSize, MinBlockSize + 1}, make([]byte, MinBlockSize))
			f.root = f.dir(typeFile, "file", file)
		}, "has 4097 bytes"},
		{"stored block longer than the file", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, noFragment, 0, 1, blockStored | 2})
			f.root = f.dir(typeFile, "file", file)
		}, "has 2 bytes, want 1"},
		{"block outside", func(f *forger) {
			file := f.inode(typeExtFile, []uint64{math.MaxUint64 - 5, 100, 0}, []uint32{1, noFragment, 0, noXattr, 100})
			f.root = f.dir(typeFile, "file", file)
		}, "100 bytes at -6 lie outside"},
		{"blocks outside", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, noFragment, 0, 2 * MinBlockSize, 100, MinBlockSize})
			f.root = f.dir(typeFile, "file", file)
		}, "data block 1 lies outside"},
		{"block that is none", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, noFragment, 0, 100, 96})
			f.root = f.dir(typeFile, "file", file)
		}, "data block at 0: codec: expand gzip"},
		{"fragment unknown", func(f *forger) {
			file := f.inode(typeFile, []uint32{0, 0, 0, 100})
			f.root = f.dir(typeFile, "file", file)
		}, "no record 0"},
		{"xattr unknown", func(f *forger) {
			fifo := f.inode(typeExtFIFO, []uint32{1, 0})
			f.root = f.dir(typeFIFO, "fifo", fifo)
		}, "no record 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var f forger
			tt.forge(&f)
			err := readEverything(bytes.NewReader(f.image()), 1<<40)
			var bad *CorruptError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestHostileSuperblocks(t *testing.T) {
	var f forger
	f.root = f.dir()
	good := f.image()
	for _, tt := range []struct {
		name string
		at   int // offset of the field
		v    any
	}{
		{"magic", 0, uint32(0)},
		{"block size 0", 12, uint32(0)},
		{"block size odd", 12, uint32(4095)},
		{"block size huge", 12, uint32(1 << 31)},
		{"logarithm", 22, uint16(13)},
		{"compressor", 20, uint16(99)},
		{"version", 28, uint16(3)},
		{"no IDs", 26, uint16(0)},
		{"many IDs", 26, uint16(65535)},
		{"bytes used", 40, uint64(95)},
		{"bytes used negative", 40, uint64(math.MaxUint64)},
		{"ID table outside", 48, uint64(1 << 40)},
		{"ID table at the end of numbers", 48, uint64(math.MaxUint64 - 7)},
		{"xattr table outside", 56, uint64(1 << 40)},
		{"inode table in the superblock", 64, uint64(95)},
		{"inode table behind directories", 64, uint64(1 << 20)},
		{"directory table outside", 72, uint64(1 << 40)},
		{"directory table is none", 72, uint64(math.MaxUint64)},
	} {
		b := bytes.Clone(good)
		binary.Encode(b[tt.at:], binary.LittleEndian, tt.v)
		if tt.name == "compressor" { // of what is not stored
			b[superSize+1] &^= 0x80
		}
		if _, err := Open(bytes.NewReader(b)); err == nil {
			t.Errorf("%s: no error", tt.name)
		}
	}
}

// An image that says it has 2^32-1 fragments, and is endless, makes nobody wait.
func TestHostileFragmentCount(t *testing.T) {
	var f forger
	f.root = f.dir()
	b := f.image()
	binary.LittleEndian.PutUint32(b[16:], math.MaxUint32)
	binary.LittleEndian.PutUint64(b[80:], uint64(len(b)))
	if _, err := Open(bytes.NewReader(b)); err == nil {
		t.Error("no error")
	}
	binary.LittleEndian.PutUint64(b[40:], math.MaxInt64)
	if _, err := Open(bytes.NewReader(b)); err == nil {
		t.Error("no error when the image is long by its own account")
	}
}

// Open says what it is given: a name, an operation and a reason.
func TestErrorsHaveThreeParts(t *testing.T) {
	var f forger
	file := f.inode(typeFile, []uint32{0, noFragment, 0, 100, 96})
	f.root = f.dir(typeFile, "file", file)
	fsys, err := Open(bytes.NewReader(f.image()))
	if err != nil {
		t.Fatal(err)
	}
	_, err = fs.ReadFile(fsys, "file")
	if err == nil || !strings.HasPrefix(err.Error(), "read file: corrupt image: data block at 0: ") {
		t.Errorf("got %v", err)
	}
	if _, err = fsys.ReadDir("file"); err == nil || err.Error() != "readdir file: not a directory" {
		t.Errorf("got %v", err)
	}
	if _, err = Open(strings.NewReader("hello")); err == nil || err.Error() != "squashfs: open: not a squashfs image" {
		t.Errorf("got %v", err)
	}
	if _, err := Open(&failing{err: io.ErrClosedPipe}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := cache[int, string]{limit: 100}
	loads := 0
	get := func(key int, cost int64) {
		t.Helper()
		v, err := c.get(key, func() (string, int64, error) {
			loads++
			return fmt.Sprint(key), cost, nil
		})
		if v != fmt.Sprint(key) || err != nil {
			t.Errorf("key %d: got %q, %v", key, v, err)
		}
		if c.cost > 100 && len(c.slots) > 1 {
			t.Errorf("cost is %d with %d values", c.cost, len(c.slots))
		}
	}
	for i := range 10 {
		get(i, 10)
	}
	for i := range 10 {
		get(i, 10)
	}
	if loads != 10 {
		t.Errorf("%d loads of 10 values that fit", loads)
	}
	get(10, 10) // drives out 0
	get(1, 10)
	if loads != 11 {
		t.Errorf("%d loads, want 11", loads)
	}
	get(0, 10)
	if loads != 12 {
		t.Errorf("%d loads, want 12", loads)
	}
	get(99, 1000)
	if len(c.slots) != 1 {
		t.Errorf("%d values beside one that is larger than the limit", len(c.slots)-1)
	}
	for range 2 {
		if _, err := c.get(5, func() (string, int64, error) { return "", 0, io.EOF }); err != io.EOF {
			t.Errorf("got error %v", err)
		}
	}
	if _, ok := c.peek(5); ok {
		t.Error("a failure was kept")
	}
}
