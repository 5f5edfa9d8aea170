package oci

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/nix2img/nix2img/image/oci/layout"
)

// A Layer is a layer of an [Image]: the compressed tar entries of some store objects, or the base files.
// Its digest, diffID and size are known. Its bytes are those of the cache, put one after another;
// what the cache has lost meanwhile is compressed again.
type Layer struct {
	summary
	ctx   context.Context // of reading it: what opens a v1.Layer takes none
	s     *blobs
	units []*unit
	file  *layout.Blob // nil: it has to be read together
}

var _ v1.Layer = (*Layer)(nil)

// Digest returns the SHA-256 of the compressed layer.
func (l *Layer) Digest() (v1.Hash, error) { return l.summary.Digest, nil }

// DiffID returns the SHA-256 of the layer as a tar archive.
func (l *Layer) DiffID() (v1.Hash, error) { return l.summary.DiffID, nil }

// Size returns the size of the compressed layer in bytes.
func (l *Layer) Size() (int64, error) { return l.summary.Size, nil }

// MediaType returns the type of the compressed layer.
func (l *Layer) MediaType() (types.MediaType, error) {
	if l.s == nil {
		return "", errNotBuilt
	}
	switch l.s.codec.Name {
	case "gzip":
		return types.OCILayer, nil
	case "none":
		return types.OCIUncompressedLayer, nil
	}
	return types.OCILayerZStd, nil
}

// Placed returns the layer as it was written to a layout when it was made, or nil: see [BuildLayout].
func (l *Layer) Placed() *layout.Blob { return l.file }

// header is what the layer begins with. The base files bring the directories along.
func (l *Layer) header() *piece { return l.s.headerOf(l.units) }

func (s *blobs) headerOf(units []*unit) *piece {
	if units[0].object == nil {
		return &piece{}
	}
	return &s.header
}

// Compressed opens the compressed layer. It can be opened any number of times, also at a time.
func (l *Layer) Compressed() (io.ReadCloser, error) { return l.open(false) }

// Uncompressed opens the layer as a tar archive.
func (l *Layer) Uncompressed() (io.ReadCloser, error) { return l.open(true) }

func (l *Layer) open(expand bool) (io.ReadCloser, error) {
	if l.s == nil {
		return nil, errNotBuilt
	}
	r := &layerReader{l: l, expand: expand, cur: l.header().packed}
	if expand {
		r.cur = l.header().raw
	}
	return r, nil
}

// A layerReader reads a layer, member by member.
type layerReader struct {
	l      *Layer
	expand bool

	unit, member int // what comes after cur; unit == len(units): the trailer, and more: nothing
	blob         *blob
	off          int64 // of the member in blob
	cur          []byte
	packed, raw  []byte // memory
}

func (r *layerReader) Read(b []byte) (int, error) {
	for len(r.cur) == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.cur)
	r.cur = r.cur[n:]
	return n, nil
}

// WriteTo spares [io.Copy] a copy.
func (r *layerReader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		m, err := w.Write(r.cur)
		n += int64(m)
		r.cur = r.cur[m:]
		if err == nil {
			err = r.next()
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// next reads the next member to cur.
func (r *layerReader) next() error {
	s, ctx := r.l.s, r.l.ctx
	if err := ctx.Err(); err != nil {
		return err
	}
	if r.unit >= len(r.l.units) {
		return r.end()
	}
	u := r.l.units[r.unit]
	if r.blob == nil {
		b, err := s.open(ctx, u)
		if err != nil {
			return err
		}
		r.blob = b
	}
	m := r.blob.Members[r.member]
	var err error
	if r.packed, err = r.blob.member(r.packed, m, r.off); err != nil {
		if err = s.giveUp(u, err); err == nil {
			r.blob = nil // made again, it has the same bytes
			return nil
		}
		return fmt.Errorf("oci: read layer: /%s: %w", u.name, err)
	}
	r.cur = r.packed
	if r.expand {
		if err := r.unpack(); err != nil {
			return fmt.Errorf("oci: read layer: /%s: %w", u.name, err)
		}
	}
	r.off += int64(m.Size)
	if r.member++; r.member == len(r.blob.Members) {
		r.blob, r.member, r.off = nil, 0, 0
		r.unit++
	}
	return nil
}

// end reads the trailer to cur, and then nothing more.
func (r *layerReader) end() error {
	if r.unit++; r.unit > len(r.l.units)+1 {
		return io.EOF
	}
	r.cur = r.l.s.trailer.packed
	if r.expand {
		r.cur = r.l.s.trailer.raw
	}
	return nil
}

// unpack expands the member that has been read.
func (r *layerReader) unpack() error {
	s := r.l.s
	st, err := s.stream()
	if err != nil {
		return err
	}
	defer s.streams.Put(st)
	if r.raw == nil {
		r.raw = make([]byte, 0, s.piece)
	}
	r.cur, err = st.Expand(r.raw[:0], r.packed)
	return err
}

func (r *layerReader) Close() error {
	r.blob = nil
	return nil
}

// A layerSum computes what is to be known of a layer, and writes it to its place if it has one.
// A nil layerSum is for pieces of which no hash is wanted.
type layerSum struct {
	s              *blobs
	file           *layout.Blob
	digest, diffID *hasher
	chain          chain   // of what has been hashed
	rest           []*unit // what has not
	states         []*state
	keys           []chain // of states
	stopped        bool
}

// stateEvery is how many bytes of tar lie between two states that are kept, at least.
const stateEvery = 1 << 20

// newLayerSum begins with the last state that the cache has of a layer of the given units.
func (s *blobs) newLayerSum(ctx context.Context, units []*unit, begin chain) (*layerSum, error) {
	digest, diffID := sha256.New(), sha256.New()
	chains := make([]chain, len(units)+1)
	chains[0] = begin
	objects := 0 // none: base files, of which nothing is kept
	for i, u := range units {
		if u.object != nil {
			chains[i+1], objects = chains[i].add(u.object), i+1
		}
	}
	for i := objects; i > 0; i-- {
		var st state
		err := s.shelf.Recall(ctx, chains[i].stateKey(), &st)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = digest.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.Digest)
		}
		if err == nil {
			err = diffID.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.DiffID)
		}
		if err != nil {
			return nil, fmt.Errorf("oci: state of a layer: %w", err)
		}
		return &layerSum{
			s: s, digest: newHasher(digest, st.Size), diffID: newHasher(diffID, st.Raw), chain: chains[i], rest: units[i:],
		}, nil
	}
	l := &layerSum{s: s, digest: newHasher(digest, 0), diffID: newHasher(diffID, 0), chain: begin, rest: units}
	if s.place != nil {
		var err error
		if l.file, err = s.place.Create(); err != nil {
			return nil, err
		}
	}
	h := s.headerOf(units)
	l.digest.add(h.packed, func() {})
	l.diffID.add(h.raw, func() {})
	_, err := l.file.Write(h.packed)
	return l, err
}

// add adds a piece, and releases it twice.
func (l *layerSum) add(p *piece) error {
	if l == nil {
		p.release()
		p.release()
		return nil
	}
	if _, err := l.file.Write(p.packed); err != nil {
		return err
	}
	l.digest.add(p.packed, p.release)
	l.diffID.add(p.raw, p.release)
	return nil
}

// mark notes that a unit is complete. With the last one, the layer's file is.
func (l *layerSum) mark() error {
	if l == nil {
		return nil
	}
	if o := l.rest[0].object; o != nil {
		l.chain = l.chain.add(o)
		st := new(state)
		l.digest.mark(&st.Digest, &st.Size)
		l.diffID.mark(&st.DiffID, &st.Raw)
		l.states, l.keys = append(l.states, st), append(l.keys, l.chain)
	}
	if l.rest = l.rest[1:]; len(l.rest) > 0 {
		return nil
	}
	_, err := l.file.Write(l.s.trailer.packed)
	l.file.Seal()
	return err
}

// finish returns the summary, and keeps it and some states in the cache.
func (l *layerSum) finish() (*summary, error) {
	t := &l.s.trailer
	l.digest.add(t.packed, func() {})
	l.diffID.add(t.raw, func() {})
	l.stop()
	sum := &summary{hashOf(l.digest), hashOf(l.diffID), l.digest.n}
	if l.s.rt.Cache == nil || len(l.states) == 0 {
		return sum, nil
	}
	last := int64(0)
	for i, st := range l.states {
		if st.Raw-last < stateEvery {
			continue
		}
		last = st.Raw
		if err := l.s.shelf.Keep(l.keys[i].stateKey(), st); err != nil {
			return nil, err
		}
	}
	return sum, l.s.shelf.Keep(l.chain.layerKey(), sum)
}

// stop ends the goroutines.
func (l *layerSum) stop() {
	if !l.stopped {
		l.stopped = true
		l.digest.finish()
		l.diffID.finish()
	}
}

func hashOf(h *hasher) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: fmt.Sprintf("%x", h.hash.Sum(nil))}
}
