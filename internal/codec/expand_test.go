package codec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// blocks are test vectors of other compressors, named FORMAT.block:
// see testdata/README.md. All hold the same.
func blocks(t testing.TB) map[ID][]byte {
	t.Helper()
	m := make(map[ID][]byte)
	for id := GZIP; id <= ZSTD; id++ {
		b, err := os.ReadFile(filepath.Join("testdata", id.String()+".block"))
		if err != nil {
			t.Fatal(err)
		}
		m[id] = b
	}
	return m
}

// numbers is what the test vectors hold: 1 to 1000, a line each.
func numbers() []byte {
	var b strings.Builder
	for i := 1; i <= 1000; i++ {
		fmt.Fprintln(&b, i)
	}
	return []byte(b.String())
}

func TestExpandForeignBlocks(t *testing.T) {
	want := numbers()
	for id, block := range blocks(t) {
		t.Run(id.String(), func(t *testing.T) {
			for _, room := range []int{len(want), len(want) + 1, 128 << 10} {
				got, err := Expand(id, make([]byte, 0, room), block)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("room for %d bytes: got %d bytes, error %v; want %d bytes", room, len(got), err, len(want))
				}
			}
		})
	}
}

func TestExpandKeepsToCapacity(t *testing.T) {
	want := numbers()
	for id, block := range blocks(t) {
		for _, room := range []int{0, 1, 100, len(want) - 1} {
			buf := bytes.Repeat([]byte{0xA5}, len(want)+100)
			if got, err := Expand(id, buf[:0:room], block); err == nil {
				t.Errorf("%v: room for %d bytes: got %d bytes, want an error", id, room, len(got))
			}
			if bytes.Count(buf[room:], []byte{0xA5}) != len(buf)-room {
				t.Errorf("%v: room for %d bytes: written beyond it", id, room)
			}
		}
	}
}

// A damaged block may go unnoticed, or not, but the next one is not affected.
func TestExpandRecovers(t *testing.T) {
	want := numbers()
	for id, block := range blocks(t) {
		for i := range block {
			bad := bytes.Clone(block)
			bad[i] ^= 0x41
			Expand(id, make([]byte, 0, len(want)), bad)
			Expand(id, make([]byte, 0, len(want)), block[:i])
			got, err := Expand(id, make([]byte, 0, len(want)), block)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v: after damage at byte %d: %d bytes, error %v", id, i, len(got), err)
			}
		}
	}
}

func TestExpandUnknownFormat(t *testing.T) {
	for _, id := range []ID{0, 7, 0xFFFF} {
		if _, err := Expand(id, make([]byte, 10), []byte("x")); err == nil {
			t.Errorf("%v: no error", id)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for id, block := range blocks(f) {
		f.Add(uint16(id), block, 4096)
		f.Add(uint16(id), block, 100)
		f.Add(uint16(id), []byte{}, 0)
	}
	f.Fuzz(func(t *testing.T, id uint16, block []byte, room int) {
		if room < 0 || room > 64<<10 {
			return
		}
		buf := bytes.Repeat([]byte{0xA5}, room+64)
		out, err := Expand(ID(id), buf[:0:room], block)
		if len(out) > room || err != nil && out != nil {
			t.Errorf("room for %d bytes: got %d, error %v", room, len(out), err)
		}
		if bytes.Count(buf[room:], []byte{0xA5}) != 64 {
			t.Fatalf("room for %d bytes: written beyond it", room)
		}
	})
}
