package squashfs

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"
)

// A keeper keeps a segment in memory.
type keeper struct {
	bytes.Buffer
	segment *Segment
	done    func() error
}

func (k *keeper) Done(s *Segment) error {
	k.segment = s
	return k.done()
}

// encodeAll encodes trees, each with its data in memory.
func encodeAll(t testing.TB, trees []Tree, opts *Options, workers int) []Tree {
	t.Helper()
	trees = slices.Clone(trees)
	keepers := make([]keeper, len(trees))
	next := 0
	for i := range trees {
		keepers[i].done = func() error {
			if i != next {
				t.Errorf("tree %d is done, want %d", i, next)
			}
			next++
			return nil
		}
		trees[i].Keep = &keepers[i]
	}
	if err := Encode(t.Context(), trees, opts, &Runtime{Workers: workers}); err != nil {
		t.Fatal(err)
	}
	if next != len(trees) {
		t.Fatalf("%d of %d trees are done", next, len(trees))
	}
	return encoded(t, trees, keepers)
}

// encoded returns the trees as they have been kept.
func encoded(t testing.TB, trees []Tree, keepers []keeper) []Tree {
	t.Helper()
	var list []Tree
	for i := range keepers {
		s, data := keepers[i].segment, keepers[i].Bytes()
		if s.Size() != int64(len(data)) {
			t.Errorf("segment %d has %d bytes, its data %d", i, s.Size(), len(data))
		}
		if err := s.Check(bytes.NewReader(data)); err != nil {
			t.Error(err)
		}
		list = append(list, SegmentTree(trees[i].Name, s, bytes.NewReader(data)))
	}
	return list
}

// The image of segments must be the image of their trees, even when the segments
// come from different builds and have been on disk.
func TestAssemblyEqualsImage(t *testing.T) {
	for _, compression := range allCodecs {
		t.Run(compression, func(t *testing.T) {
			t.Parallel()
			const blockSize = 4 << 10
			opts := options(t, compression, blockSize)
			trees := testTrees(blockSize)
			want := write(t, trees, opts, 3)

			encoded := append(encodeAll(t, trees[:2], opts, 7), encodeAll(t, trees[2:], opts, 1)...)
			for i := range encoded {
				b, err := encoded[i].segment.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				var s Segment
				if err := s.UnmarshalBinary(b); err != nil {
					t.Fatal(err)
				}
				if s.Digest() != encoded[i].segment.Digest() {
					t.Errorf("segment %d has another digest when it is read again", i)
				}
				encoded[i].segment = &s
			}
			a, err := Assemble(t.Context(), encoded, opts)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if n, err := a.WriteTo(&got); err != nil || n != a.Size || n != int64(got.Len()) {
				t.Fatalf("wrote %d of %d bytes: %v", n, a.Size, err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Error("the assembled image has other bytes")
			}
			if err := iotest.TestReader(io.NewSectionReader(a, 0, a.Size), want); err != nil && len(want) < 1<<20 {
				t.Error(err)
			}
		})
	}
}

// Some trees may have been encoded before, and those that have not may be kept on the way.
func TestWriteOfEncodedTrees(t *testing.T) {
	const blockSize = 4 << 10
	opts := options(t, "gzip", blockSize)
	trees := testTrees(blockSize)
	want := write(t, trees, opts, 0)
	all := encodeAll(t, trees, opts, 0)
	for mask := range 1 << len(trees) {
		mixed := slices.Clone(trees)
		keepers := make([]keeper, len(trees))
		for i := range trees {
			if mask>>i&1 != 0 {
				mixed[i] = all[i]
			} else {
				keepers[i].done = func() error { return nil }
				mixed[i].Keep = &keepers[i]
			}
		}
		if !bytes.Equal(write(t, mixed, opts, 3), want) {
			t.Errorf("with trees %04b encoded: other bytes", mask)
		}
		for i := range trees {
			if mask>>i&1 == 0 && keepers[i].segment.Digest() != all[i].segment.Digest() {
				t.Errorf("with trees %04b encoded: another segment of tree %d", mask, i)
			}
		}
	}
}

func TestAssemblyIsAFileSystem(t *testing.T) {
	const blockSize = 4 << 10
	opts := options(t, "gzip", blockSize)
	a, err := Assemble(t.Context(), encodeAll(t, []Tree{FileTree("x", nastyTree(blockSize), ".")}, opts, 0), opts)
	if err != nil {
		t.Fatal(err)
	}
	fsys, err := Open(a)
	if err != nil {
		t.Fatal(err)
	}
	sameAsTree(t, fsys, "x", nastyTree(blockSize))
}

func TestDamagedDataAreFound(t *testing.T) {
	opts := options(t, "gzip", 4<<10)
	tree := treeFS{}
	tree.file("a", words(5000, 1))
	tree.file("b", noise(700, 2))
	encoded := encodeAll(t, []Tree{FileTree("x", tree, ".")}, opts, 0)
	good, err := io.ReadAll(io.NewSectionReader(encoded[0].data, 0, encoded[0].segment.Size()))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 1 << (i % 8)
		encoded[0].data = bytes.NewReader(bad)
		a, err := Assemble(t.Context(), encoded, opts)
		if err != nil {
			t.Fatal(err)
		}
		var damaged *ChecksumError
		if _, err := a.WriteTo(io.Discard); !errors.As(err, &damaged) || damaged.Tree != "x" {
			t.Fatalf("byte %d is changed: %v", i, err)
		}
		if err := encoded[0].segment.Check(bytes.NewReader(bad)); !errors.As(err, &damaged) {
			t.Fatalf("byte %d is changed: %v", i, err)
		}
		if _, err := Write(t.Context(), &memFile{}, encoded, opts, nil); !errors.As(err, &damaged) {
			t.Fatalf("byte %d is changed: %v", i, err)
		}
	}
	if err := encoded[0].segment.Check(bytes.NewReader(good[:100])); err == nil {
		t.Error("truncated data pass")
	}
}

func TestOtherOptionsCannotBeAssembled(t *testing.T) {
	encoded := encodeAll(t, []Tree{FileTree("x", nastyTree(4096), ".")}, options(t, "gzip", 4096), 0)
	for _, opts := range []*Options{options(t, "gzip", 8192), options(t, "lz4", 4096)} {
		if _, err := Assemble(t.Context(), encoded, opts); err == nil {
			t.Errorf("%+v: assembled", opts)
		}
	}
}

// No segment that was accepted may make an image that cannot be written, or read again.
func FuzzSegment(f *testing.F) {
	small := treeFS{}
	small.file("a/b", words(10_000, 1))
	small.file("a/c", []byte("c"))
	small.link("l", "a/b")
	opts := options(f, "none", 4096)
	for _, tree := range []treeFS{small, nastyTree(4096)} {
		b, err := encodeAll(f, []Tree{FileTree(".", tree, ".")}, opts, 1)[0].segment.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s Segment
		if s.UnmarshalBinary(b) != nil {
			return
		}
		again, err := s.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		var twice Segment
		if err := twice.UnmarshalBinary(again); err != nil {
			t.Fatalf("what was read once cannot be read again: %v", err)
		}
		if s.Size() > 1<<30 {
			return
		}
		o := Options{Compression: Compression{Codec: "none"}, BlockSize: s.blockSize}
		a, err := Assemble(t.Context(), []Tree{SegmentTree("x", &s, zeros{})}, &o)
		if err != nil {
			return // another codec
		}
		if _, err := Open(a); err != nil {
			t.Errorf("the image cannot be opened: %v", err)
		}
	})
}

type zeros struct{}

func (zeros) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	return len(p), nil
}
