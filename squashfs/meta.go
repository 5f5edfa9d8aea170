package squashfs

import (
	"encoding/binary"

	"github.com/nix2img/nix2img/internal/codec"
)

// A metaWriter builds a run of metadata blocks in memory:
// records, cut every 8 KiB, each piece compressed for itself.
type metaWriter struct {
	comp codec.Compressor
	out  []byte // finished blocks with their headers
	raw  []byte // the block that is being filled
	buf  []byte // scratch
	err  error  // the first error
}

func newMetaWriter(comp codec.Compressor) *metaWriter {
	return &metaWriter{
		comp: comp,
		raw:  make([]byte, 0, metaBlockSize),
		buf:  make([]byte, 0, 2*metaBlockSize),
	}
}

// A metaRef is the position of a record:
// where its block begins, relative to the first, and where it begins in there.
type metaRef struct {
	block  uint32
	offset uint16
}

// number is how inodes are referred to on disk.
func (r metaRef) number() uint64 { return uint64(r.block)<<16 | uint64(r.offset) }

// pos is the position of what is written next.
func (w *metaWriter) pos() metaRef {
	return metaRef{uint32(len(w.out)), uint16(len(w.raw))}
}

func (w *metaWriter) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), metaBlockSize-len(w.raw))
		w.raw = append(w.raw, p[:n]...)
		if p = p[n:]; len(w.raw) == metaBlockSize {
			w.flush()
		}
	}
}

// flush ends the block that is being filled.
func (w *metaWriter) flush() {
	if len(w.raw) == 0 {
		return
	}
	out, err := w.comp.Compress(w.buf, w.raw)
	if err != nil && w.err == nil {
		w.err = err
	}
	header := uint16(len(out))
	if out == nil {
		out = w.raw
		header = uint16(len(out)) | metaStored
	}
	w.out = binary.LittleEndian.AppendUint16(w.out, header)
	w.out = append(w.out, out...)
	w.raw = w.raw[:0]
}

// finish returns all blocks.
func (w *metaWriter) finish() ([]byte, error) {
	w.flush()
	return w.out, w.err
}

// lookupTable builds a table of records of fixed size for position pos in the image:
// metadata blocks, and behind them an index with the position of each.
// index is the position of that.
func lookupTable(comp codec.Compressor, records []byte, pos uint64) (table []byte, index uint64, err error) {
	w := newMetaWriter(comp)
	var blocks []byte
	for len(records) > 0 {
		n := min(len(records), metaBlockSize)
		blocks = binary.LittleEndian.AppendUint64(blocks, pos+uint64(len(w.out)))
		w.write(records[:n])
		w.flush()
		records = records[n:]
	}
	table, err = w.finish()
	return append(table, blocks...), pos + uint64(len(table)), err
}
