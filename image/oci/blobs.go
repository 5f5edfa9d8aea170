package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"sync"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/internal/codec"
	"github.com/nix2img/nix2img/internal/par"
)

// A coding is all that decides the bytes of a layer but what is in it.
type coding struct {
	codec *codec.Codec
	level int
	piece int // bytes of tar that are compressed on their own
}

// Sizes of pieces: what they cost against one long stream is 0.2 % with gzip, and 1 % with zstd.
const (
	gzipPiece = 1 << 20
	zstdPiece = 4 << 20
)

// gzipLevel is the default: level 7 takes 1.6 times as long for 1.8 % less.
const gzipLevel = 6

func newCoding(name string, level int) (*coding, error) {
	c, err := codec.Lookup(cmp.Or(name, "gzip"))
	if err != nil {
		return nil, fmt.Errorf("oci: %w", err)
	}
	e := &coding{c, cmp.Or(level, c.Default), zstdPiece}
	if c.Name == "gzip" {
		e.level, e.piece = cmp.Or(level, gzipLevel), gzipPiece
	}
	if _, err := c.NewStream(e.level, e.piece); err != nil {
		return nil, fmt.Errorf("oci: %w", err)
	}
	return e, nil
}

func (e *coding) String() string {
	return fmt.Sprintf("%s %d %d %s %s tar %d", e.codec.Name, e.level, e.piece, e.codec.Module, e.codec.Version(), tarVersion)
}

// record describes the encoding in the build record.
func (e *coding) record() *image.LayerEncoding {
	return &image.LayerEncoding{
		Compression: e.codec.Name,
		Level:       e.level,
		PieceSize:   e.piece,
		Library:     e.codec.Module,
		Version:     e.codec.Version(),
		Format:      tarVersion,
	}
}

// A unit is what is compressed together: a store object, or the base files.
type unit struct {
	source
	object *closure.Object // nil: base files
}

// A blob is a unit's compressed form.
type blob struct {
	blobMeta
	data io.ReaderAt
}

// blobs are those of an image, as far as they have been found or made.
type blobs struct {
	rt *image.Runtime
	*coding
	closure *closure.Closure
	shelf   *cache.Shelf
	streams sync.Pool   // of codec.Stream
	buffers chan []byte // that are not in use

	header, trailer piece         // of every layer
	place           *layout.Place // where layers are written when they are made, or nil

	so image.Progress // far

	making sync.Mutex // only one goroutine makes what is missing
	mu     sync.Mutex
	held   map[*unit]*blob // those that are in no cache

	observe bool // have inspectors look at objects that are being compressed
	survey  *inspect.Survey
}

func newBlobs(rt *image.Runtime, e *coding, c *closure.Closure, use image.GPU, place *layout.Place) (*blobs, error) {
	s := &blobs{rt: rt, coding: e, closure: c, place: place, held: make(map[*unit]*blob), shelf: rt.Shelf()}
	s.survey = rt.Survey(s.shelf, use)
	s.buffers = make(chan []byte, 8*par.Workers(rt.Workers)+32)
	s.header.raw, s.trailer.raw = dirHeader(c.StoreDir()), tarEnd
	stream, err := s.stream()
	if err != nil {
		return nil, err
	}
	if s.header.packed, err = stream.Append(nil, s.header.raw); err != nil {
		return nil, err
	}
	s.trailer.packed, err = stream.Append(nil, s.trailer.raw)
	return s, err
}

func (s *blobs) stream() (codec.Stream, error) {
	if st, ok := s.streams.Get().(codec.Stream); ok {
		return st, nil
	}
	return s.codec.NewStream(s.level, s.piece)
}

// Close gives up all temporary files.
func (s *blobs) Close() error {
	s.survey.Close()
	s.shelf.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.held)
	if s.place != nil {
		s.place.Close()
	}
	return nil
}

// want says which blob is looked for.
func (s *blobs) want(u *unit) *cache.Want[*blob] {
	return &cache.Want[*blob]{
		Key:  s.blobKey(u.object),
		Name: blobName(u),
		Decode: func(e *cache.Entry) (*blob, error) {
			b, err := s.readBlob(e)
			if err == nil && (b.Path != u.object.Path || b.NARHash != u.object.NARHash || b.Encoding != s.String()) {
				err = errors.New("it is of something else")
			}
			return b, err
		},
		Prove: func(ctx context.Context, b *blob) error { return s.prove(ctx, u, b) },
	}
}

// blobName is what messages call the blob of an object.
func blobName(u *unit) string { return "layer of " + string(u.object.Path) }

// lookup returns the blob of a unit, if it is in the cache or held. Otherwise the error wraps fs.ErrNotExist.
func (s *blobs) lookup(ctx context.Context, u *unit) (*blob, error) {
	s.mu.Lock()
	b := s.held[u]
	s.mu.Unlock()
	if b != nil {
		return b, nil
	}
	if u.object == nil {
		return nil, fs.ErrNotExist
	}
	return cache.GetOwn(ctx, s.shelf, s.want(u))
}

// isAbsent reports whether there is no blob of a unit.
func (s *blobs) isAbsent(ctx context.Context, u *unit) (bool, error) {
	_, err := s.lookup(ctx, u)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// readBlob makes a blob of an entry.
func (e *coding) readBlob(entry *cache.Entry) (*blob, error) {
	b := &blob{data: entry.Data}
	if err := json.Unmarshal(entry.Meta, &b.blobMeta); err != nil {
		return nil, err
	}
	n := int64(e.piece)
	if b.RawSize <= 0 || int64(len(b.Members)) != (b.RawSize-1)/n+1 {
		return nil, errLength
	}
	size := int64(0)
	for _, m := range b.Members {
		if m.Size <= 0 || m.Size > e.room() || int64(m.Size) > entry.Size-size {
			return nil, errLength
		}
		size += int64(m.Size)
	}
	if size != entry.Size {
		return nil, errLength
	}
	return b, checkNodes(b.Nodes, b.RawSize)
}

// open returns the blob of a unit, which it makes if need be.
func (s *blobs) open(ctx context.Context, u *unit) (b *blob, err error) {
	s.making.Lock()
	defer s.making.Unlock()
	for range 3 { // what is made may be removed by another process
		if b, err = s.lookup(ctx, u); !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
		if err := s.encode(ctx, []*job{{units: []*unit{u}}}); err != nil {
			return nil, err
		}
	}
	return s.lookup(ctx, u)
}

// giveUp drops a blob that is of no use for a reason, if that is one, and says so. Otherwise it returns the reason.
func (s *blobs) giveUp(u *unit, reason error) error {
	proved := reason == errChecksum || errors.Is(reason, cache.ErrDamaged)
	if !proved && !cache.Unreadable(reason) {
		return reason
	}
	s.mu.Lock()
	b := s.held[u]
	delete(s.held, u)
	s.mu.Unlock()
	if u.object == nil || b == nil && s.rt.Cache == nil {
		return errors.New("oci: a temporary file has changed")
	}
	return s.shelf.GiveUp(s.blobKey(u.object), blobName(u), reason, proved)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errChecksum reports a blob whose bytes are not what they were.
var errChecksum = errors.New("the checksum is wrong")

// member reads a member of a blob, which begins at off, into the memory of p.
func (b *blob) member(p []byte, m member, off int64) ([]byte, error) {
	if cap(p) < m.Size {
		p = make([]byte, m.Size)
	}
	p = p[:m.Size]
	if _, err := b.data.ReadAt(p, off); err != nil {
		return nil, err
	}
	if crc32.Checksum(p, castagnoli) != m.CRC {
		return nil, errChecksum
	}
	return p, nil
}

// A keeper keeps a unit's blob: in the cache, in a temporary file, or where it lies in the file of a layer.
type keeper struct {
	s    *blobs
	u    *unit
	w    *cache.Writer // nil: the blob is only a part of file
	file *layout.Blob  // may be nil
	off  int64         // in the file
	meta blobMeta
}

// keep begins the blob of a unit, which may go into a layer as well.
func (s *blobs) keep(u *unit, sum *layerSum) *keeper {
	k := &keeper{s: s, u: u, meta: blobMeta{Encoding: s.String()}}
	if sum != nil && sum.file != nil {
		k.file, k.off = sum.file, sum.file.Size()
	}
	switch {
	case u.object != nil && (k.file == nil || s.shelf.Keeps()):
		k.w = s.shelf.Create(s.blobKey(u.object), k.file == nil)
	case k.file == nil:
		k.w = s.shelf.Temporary()
	}
	if u.object != nil {
		k.meta.Path, k.meta.NARHash, k.meta.NARSize = u.object.Path, u.object.NARHash, u.object.NARSize
	}
	return k
}

func (k *keeper) add(p *piece) error {
	k.meta.RawSize += int64(len(p.raw))
	k.meta.Nodes = p.nodes
	k.meta.Members = append(k.meta.Members, member{len(p.packed), crc32.Checksum(p.packed, castagnoli)})
	if k.w == nil {
		return nil
	}
	_, err := k.w.Write(p.packed)
	return err
}

func (k *keeper) commit() error {
	if k.w != nil {
		meta, err := json.Marshal(&k.meta)
		if err != nil {
			return err
		}
		e, err := k.w.Commit(meta)
		if err != nil || k.w.InCache() {
			return err
		}
		if e != nil {
			k.s.hold(k.u, &blob{k.meta, e.Data})
			return nil
		}
	}
	k.s.hold(k.u, &blob{k.meta, io.NewSectionReader(k.file, k.off, k.file.Size()-k.off)})
	return nil
}

// hold keeps a blob that is in no cache.
func (s *blobs) hold(u *unit, b *blob) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held[u] = b
}

func (k *keeper) discard() {
	if k != nil && k.w != nil {
		k.w.Discard()
	}
}

// report tells of n bytes of tar that have become some bytes of a layer.
func (s *blobs) report(u *unit, n, written int64) {
	s.so.Object = "base files"
	if u.object != nil {
		s.so.Object = string(u.object.Path)
	}
	s.so.Read += n
	s.so.Written += written
	s.so.Total = max(s.closure.NARSize(), s.so.Read)
	if s.rt.Progress != nil {
		s.rt.Progress(s.so)
	}
}

// skip reports a layer of which nothing need be read.
func (s *blobs) skip(l *Layer) {
	n := int64(0)
	for _, u := range l.units {
		n += u.object.NARSize
	}
	s.report(l.units[len(l.units)-1], n, l.summary.Size)
}
