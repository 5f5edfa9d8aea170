package image

import (
	"encoding/binary"
	"slices"
	"testing"
)

// note makes a note of the CUDA compatibility package.
func note(description string) []byte {
	const name = "NVIDIA Corporation\x00"
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(name)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(description)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return append(append(b, name+"\x00"...), description...)
}

func TestParseCompatNote(t *testing.T) {
	real := note(`{"format":1,"CUDA version":"12.9","driver":[535,550,560,565,570,575],"device":[1,2,7,8]}` + "\x00")
	for _, test := range []struct {
		name string
		note []byte
		want []int
	}{
		{"data centre", real, []int{535, 550, 560, 565, 570, 575}},
		{"unsorted", note(`{"driver":[550,535,550]}`), []int{535, 550}},
		{"Jetson", note(`{"format":1,"CUDA version":"13.2"}`), nil},
		{"cut", real[:40], nil},
		{"short", real[:8], nil},
		{"not JSON", note("driver: 535"), nil},
		{"no branches", note(`{"driver":["535"]}`), nil},
	} {
		if got := parseCompatNote(test.note, binary.LittleEndian); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzParseCompatNote(f *testing.F) {
	f.Add(note(`{"format":1,"CUDA version":"12.9","driver":[535,550]}`))
	f.Add(note(""))
	f.Add([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			drivers := parseCompatNote(b, order)
			if !slices.IsSorted(drivers) {
				t.Errorf("not sorted: %v", drivers)
			}
		}
	})
}
