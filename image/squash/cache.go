package squash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/squashfs"
)

// segmentKind is the kind of a cache's entries that are segments.
//
// Segments are found by the NAR hash of their object and by all that decides their bytes:
// the codec, its level, the version of its library, the size of blocks, and the version of the encoding.
// Only objects whose files have that NAR hash get in.
const segmentKind = "segment"

// Kind returns how [cache.Cache.Verify] proves segments.
func Kind() cache.Kind { return cache.Kind{Name: segmentKind, Prove: prove} }

func prove(ctx context.Context, k cache.Key, e *cache.Entry) (*cache.Tree, error) {
	s, meta, err := readEntry(e)
	if err != nil {
		return nil, err
	}
	if meta.key() != k {
		return nil, errors.New("it is under another key than its own")
	}
	if err := s.verify(ctx, closure.Object{NARHash: meta.narHash}, meta.options()); err != nil {
		return nil, err
	}
	return &cache.Tree{NARHash: meta.narHash, Files: func(ctx context.Context) (fs.FS, string, error) {
		fsys, err := s.files(ctx, meta.options())
		return fsys, treeName, err
	}}, nil
}

// entryMeta is what an entry knows of itself beside the segment.
type entryMeta struct {
	narHash  closure.Hash
	encoding image.Encoding
}

// key is where an entry is found. The time of creation is no part of a segment.
func (m *entryMeta) key() cache.Key {
	e := &m.encoding
	return cache.NewKey(segmentKind, fmt.Sprintf("%d\n%s %d %d %s %s\n%x\n",
		e.Format, e.Compression, e.Level, e.BlockSize, e.Library, e.Version, m.narHash))
}

func (m *entryMeta) options() *squashfs.Options {
	return &squashfs.Options{
		Compression: squashfs.Compression{Codec: m.encoding.Compression, Level: m.encoding.Level},
		BlockSize:   m.encoding.BlockSize,
	}
}

// An entry's metadata are a line of JSON, which is for tools that go through the cache,
// and the binary form of the segment.
type entryHeader struct {
	NARHash  closure.Hash   `json:"narHash"`
	Encoding image.Encoding `json:"squashfs"`
}

func (m *entryMeta) marshal(s *squashfs.Segment) ([]byte, error) {
	line, err := json.Marshal(entryHeader{m.narHash, m.encoding})
	if err != nil {
		return nil, err
	}
	return s.AppendBinary(append(line, '\n'))
}

func readEntry(e *cache.Entry) (*segment, *entryMeta, error) {
	line, b, _ := bytes.Cut(e.Meta, []byte("\n"))
	var h entryHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, nil, err
	}
	s := &segment{Segment: new(squashfs.Segment), data: e.Data}
	if err := s.UnmarshalBinary(b); err != nil {
		return nil, nil, err
	}
	if s.Size() != e.Size {
		return nil, nil, errors.New("its data have another size than it says")
	}
	return s, &entryMeta{h.NARHash, h.Encoding}, nil
}
