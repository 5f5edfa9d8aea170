package gpu

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// The searches find what a simple search does, in data full of what is nearly it.
func TestSearches(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	magic := []byte("\x50\xed\x55\xba\x01\x00\x10\x00")
	for range 3000 {
		data := make([]byte, r.IntN(400))
		for i := range data {
			data[i] = ".so\xed"[r.IntN(4)]
		}
		if len(data) > 8 && r.IntN(2) == 0 {
			copy(data[r.IntN(len(data)-8):], magic)
			copy(data[r.IntN(len(data)-8)&^7:], magic)
		}
		from := r.IntN(len(data)+1) &^ 7
		want := bytes.Index(data[from:], []byte(".so"))
		if want >= 0 {
			want += from
		}
		if got := nextSO(data, from); got != want {
			t.Fatalf("%q from %d: got .so at %d, want %d", data, from, got, want)
		}
		want = -1
		for i := from; i+8 <= len(data); i += 8 {
			if bytes.HasPrefix(data[i:], magic) {
				want = i
				break
			}
		}
		if got := nextFatbin(data, from); got != want {
			t.Fatalf("%q from %d: got a container at %d, want %d", data, from, got, want)
		}
	}
}

// Sections of a damaged file may overlap, and be very many.
func TestMerged(t *testing.T) {
	var many []extent
	for i := range int64(5000) {
		many = append(many, extent{10 * i, 10*i + 5})
	}
	for _, test := range []struct{ list, want []extent }{
		{nil, nil},
		{[]extent{{5, 9}, {0, 3}}, []extent{{0, 3}, {5, 9}}},
		{[]extent{{0, 100}, {0, 100}, {20, 30}, {100, 110}}, []extent{{0, 110}}},
		{many, append(slices.Clone(many[:maxExtents-1]), extent{10 * (maxExtents - 1), 49995})},
	} {
		if got := merged(slices.Clone(test.list)); !slices.Equal(got, test.want) {
			t.Errorf("%d extents: got %v, want %v", len(test.list), got, test.want)
		}
	}
}
