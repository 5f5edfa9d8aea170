package codec

import (
	"bytes"
	stdgzip "compress/gzip"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Pieces one after another are a stream for other readers, and come back one by one.
func TestStream(t *testing.T) {
	const size = 1 << 20
	inputs := [][]byte{{}, {1}, text(1000, 1), text(size, 2), make([]byte, size), noise(size), noise(300)}
	for _, name := range []string{"gzip", "zstd", "zstd-go", "none"} {
		t.Run(name, func(t *testing.T) {
			c, err := Lookup(name)
			if err != nil {
				t.Fatal(err)
			}
			s, err := c.NewStream(0, size)
			if err != nil {
				t.Skip(err) // there is no libzstd in a build without cgo
			}
			var all, want []byte
			for i, src := range inputs {
				begin := len(all)
				if all, err = s.Append(all, src); err != nil {
					t.Fatal(err)
				}
				if grown := len(all) - begin - len(src); grown > 1000 {
					t.Errorf("input %d grows by %d bytes", i, grown)
				}
				want = append(want, src...)
				fresh, _ := c.NewStream(0, size)
				alone, err := fresh.Append(nil, src)
				if err != nil || !bytes.Equal(alone, all[begin:]) {
					t.Errorf("input %d: other bytes of a fresh stream: %v", i, err)
				}
				got, err := s.Expand(make([]byte, 0, len(src)), all[begin:])
				if err != nil || !bytes.Equal(got, src) {
					t.Errorf("input %d: %d of %d bytes come back: %v", i, len(got), len(src), err)
				}
				if len(src) > 0 {
					if _, err := s.Expand(make([]byte, 0, len(src)-1), all[begin:]); err == nil {
						t.Errorf("input %d fits where it does not", i)
					}
				}
			}
			r := io.Reader(bytes.NewReader(all))
			switch name {
			case "gzip":
				r, err = stdgzip.NewReader(r)
			case "zstd", "zstd-go":
				r, err = zstd.NewReader(r)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("a reader of streams gets %d of %d bytes: %v", len(got), len(want), err)
			}
		})
	}
}

func TestStreamsOfOtherCodecs(t *testing.T) {
	for _, name := range []string{"lz4", "xz"} {
		c, _ := Lookup(name)
		if _, err := c.NewStream(0, 1<<20); err == nil {
			t.Errorf("there is a stream of %s", name)
		}
	}
}
