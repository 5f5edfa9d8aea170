package squashfs

import (
	"bytes"
	"io"
	"testing"
)

func TestSegmentsComeBackOutOfImages(t *testing.T) {
	for _, compression := range allCodecs {
		const blockSize = 4 << 10
		opts := options(t, compression, blockSize)
		trees := testTrees(blockSize)
		want := encodeAll(t, trees, opts, 0)
		data := write(t, trees, opts, 0)
		fsys, err := Open(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		for i, w := range want[:3] { // the last is merged with the others
			seg, r, err := fsys.Segment(w.Name)
			if err != nil {
				t.Fatal(err)
			}
			if seg.Digest() != w.segment.Digest() {
				t.Errorf("%s: segment %d is another one", compression, i)
			}
			got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
			if err != nil {
				t.Fatal(err)
			}
			if all, _ := io.ReadAll(io.NewSectionReader(w.data, 0, 1<<40)); !bytes.Equal(got, all) {
				t.Errorf("%s: segment %d has other data", compression, i)
			}
		}
		if _, _, err := fsys.Segment("nix/store/none"); err == nil {
			t.Error("there is a segment of nothing")
		}
	}
}
