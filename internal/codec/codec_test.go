package codec

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// text returns n bytes that compress well, another text for every seed.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([][]byte, 200)
	for i := range words {
		words[i] = make([]byte, 2+r.IntN(12))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	var b []byte
	for len(b) < n {
		b = append(b, words[r.IntN(len(words))]...)
	}
	return b[:n]
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func levels(c *Codec) []int {
	if c.Name == "zstd" {
		return []int{0, 1, 3, 5, 6, 9, 15}
	}
	all := []int{0}
	for l := c.Min; l <= c.Max && l != 0; l++ {
		all = append(all, l)
	}
	return all
}

// A block's bytes must not depend on what its compressor has seen before:
// which worker compresses which block is chance.
func TestBlocksStandAlone(t *testing.T) {
	const blockSize = 128 << 10
	for _, c := range codecs {
		for _, level := range levels(c) {
			t.Run(fmt.Sprintf("%s:%d", c.Name, level), func(t *testing.T) {
				used, err := c.NewCompressor(level, blockSize)
				if err != nil {
					t.Fatal(err)
				}
				for seed := range uint64(4) {
					fresh, _ := c.NewCompressor(level, blockSize)
					src := text(blockSize-int(seed)*1000, seed/2)
					want, err := fresh.Compress(nil, src)
					if err != nil {
						t.Fatal(err)
					}
					got, err := used.Compress(make([]byte, 0, blockSize), src)
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Errorf("block %d: a used compressor gives %d bytes, a fresh one %d, or others", seed, len(got), len(want))
					}
				}
			})
		}
	}
}

func TestRoundTrip(t *testing.T) {
	const blockSize = 64 << 10
	for _, c := range codecs {
		comp, err := c.NewCompressor(0, blockSize)
		if err != nil {
			t.Fatal(err)
		}
		for _, src := range [][]byte{{1}, text(100, 1), text(blockSize-1, 2), text(blockSize, 3), make([]byte, blockSize)} {
			out, err := comp.Compress(nil, src)
			if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
			if out == nil {
				if len(src) > 1000 && c.Name != "none" {
					t.Errorf("%s: does not shrink %d bytes of text", c.Name, len(src))
				}
				continue
			}
			got, err := Expand(c.ID, make([]byte, 0, blockSize), out)
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%s: %d bytes come back as %d: %v", c.Name, len(src), len(got), err)
			}
		}
	}
}

func TestIncompressibleBlocksAreStored(t *testing.T) {
	for _, c := range codecs {
		comp, err := c.NewCompressor(0, 4096)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{0, 1, 4096} {
			out, err := comp.Compress(make([]byte, 0, 4096), noise(n))
			if out != nil || err != nil {
				t.Errorf("%s: %d bytes of noise became %d: %v", c.Name, n, len(out), err)
			}
		}
	}
}

func TestParse(t *testing.T) {
	for s, want := range map[string]string{
		"gzip": "gzip 0", "gzip:9": "gzip 9", "zstd:22": "zstd 22", "lz4": "lz4 0", "none": "none 0",
	} {
		name, level, err := Parse(s)
		if got := fmt.Sprint(name, " ", level); err != nil || got != want {
			t.Errorf("%s: got %s, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "bzip2", "gzip:", "gzip:x", "gzip:0", "gzip:10", "zstd:23", "xz:6", "none:1", "gzip:7:7"} {
		if _, _, err := Parse(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestPinnedVersionsAreThoseOfGoMod(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range codecs {
		if c.Module != "" && !strings.Contains(string(mod), c.Module+" "+pinned[c.Module]+"\n") {
			t.Errorf("go.mod does not require %s %s", c.Module, pinned[c.Module])
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	src := text(128<<10, 1)
	dst := make([]byte, 0, 2*len(src))
	for _, c := range codecs {
		b.Run(c.Name, func(b *testing.B) {
			comp, err := c.NewCompressor(0, len(src))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := comp.Compress(dst, src); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Compressors are used for block after block, and must not leave garbage behind.
func TestNoAllocationPerBlock(t *testing.T) {
	const blockSize = 128 << 10
	src, dst := text(blockSize, 3), make([]byte, 0, 2*blockSize)
	// What libraries do for every frame or stream.
	limits := map[string]float64{"zstd-go": 2, "xz": 20_000}
	for _, c := range codecs {
		t.Run(c.Name, func(t *testing.T) {
			comp, err := c.NewCompressor(c.Default, blockSize)
			if err != nil {
				t.Skip(err) // there is no such codec in a build without cgo
			}
			n := testing.AllocsPerRun(5, func() {
				if _, err := comp.Compress(dst, src); err != nil {
					t.Fatal(err)
				}
			})
			if n > limits[c.Name] {
				t.Errorf("%v allocations for a block", n)
			}
		})
	}
}
