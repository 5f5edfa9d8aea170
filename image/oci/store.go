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
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/image/oci/layout"
	"github.com/nix2img/nix2img/internal/cas"
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
	data  io.ReaderAt
	close func() error
}

// A store has the blobs of an image, as far as they have been found or made.
type store struct {
	ctx context.Context
	rt  *Runtime
	*coding
	closure *closure.Closure
	cas     *cas.Store  // the cache, or one for temporary files
	streams sync.Pool   // of codec.Stream
	buffers chan []byte // that are not in use

	header, trailer piece         // of every layer
	place           *layout.Place // where layers are written when they are made, or nil

	so Progress // far

	making  sync.Mutex // only one goroutine makes what is missing
	mu      sync.Mutex
	held    map[*unit]*blob       // those that are in no cache
	damaged map[closure.Path]bool // what other caches are not asked for any more

	observe bool // have inspectors look at objects that are being compressed
	survey  *inspect.Survey
}

func newStore(ctx context.Context, rt *Runtime, e *coding, c *closure.Closure, list []inspect.Inspector) (*store, error) {
	s := &store{ctx: ctx, rt: rt, coding: e, closure: c,
		held: make(map[*unit]*blob), damaged: make(map[closure.Path]bool), survey: newSurvey(rt, list)}
	s.buffers = make(chan []byte, 8*par.Workers(rt.Workers)+32)
	s.cas = cas.Temporary(rt.TempDir)
	if rt.Cache != nil {
		s.cas = rt.Cache.store
	}
	s.header.raw, s.trailer.raw = dirHeader(c.StoreDir()), tarEnd
	stream, err := s.stream()
	if err != nil {
		return nil, err
	}
	if s.header.packed, err = stream.Append(nil, s.header.raw); err != nil {
		return nil, err
	}
	if s.trailer.packed, err = stream.Append(nil, s.trailer.raw); err != nil {
		return nil, err
	}
	if rt.Layout != "" {
		s.place, err = layout.OpenPlace(rt.Layout)
	}
	return s, err
}

// newSurvey returns one that recalls what the cache has, and what those have that are relied on.
func newSurvey(rt *Runtime, list []inspect.Inspector) *inspect.Survey {
	s := &inspect.Survey{Inspectors: append(list, rt.Inspectors...), TempDir: rt.TempDir, Workers: rt.Workers, Note: rt.Note}
	if rt.Cache != nil {
		s.Kept = inspect.Kept(rt.Cache.store)
	}
	for _, from := range rt.From {
		if !from.foreign {
			s.Others = append(s.Others, inspect.Kept(from.store))
		}
	}
	return s
}

func (s *store) stream() (codec.Stream, error) {
	if st, ok := s.streams.Get().(codec.Stream); ok {
		return st, nil
	}
	return s.codec.NewStream(s.level, s.piece)
}

// Close gives up all temporary files.
func (s *store) Close() error {
	s.survey.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.held {
		b.close()
	}
	clear(s.held)
	if s.place != nil {
		s.place.Close()
	}
	return nil
}

// lookup returns the blob of a unit. The error wraps fs.ErrNotExist if there is none.
func (s *store) lookup(u *unit) (*blob, error) {
	s.mu.Lock()
	b := s.held[u]
	s.mu.Unlock()
	if b != nil {
		kept := *b
		kept.close = func() error { return nil }
		return &kept, nil
	}
	if u.object == nil {
		return nil, fs.ErrNotExist
	}
	e, err := s.cas.Get(s.blobKey(u.object))
	if err != nil {
		if errors.Is(err, cas.ErrDamaged) {
			return nil, errors.Join(fs.ErrNotExist, err, s.cas.Remove(s.blobKey(u.object)))
		}
		return nil, err
	}
	b, err = readBlob(e)
	if err == nil && b.NARHash != u.object.NARHash {
		err = cas.ErrDamaged
	}
	if err != nil {
		e.Close()
		return nil, errors.Join(fs.ErrNotExist, err, s.cas.Remove(s.blobKey(u.object)))
	}
	return b, nil
}

// isAbsent reports whether there is no blob of a unit.
func (s *store) isAbsent(u *unit) (bool, error) {
	b, err := s.lookup(u)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err == nil {
		err = b.close()
	}
	return false, err
}

// readBlob makes a blob of an entry.
func readBlob(e *cas.Entry) (*blob, error) {
	b := &blob{data: e, close: e.Close}
	if err := json.Unmarshal(e.Meta, &b.blobMeta); err != nil {
		return nil, err
	}
	size := int64(0)
	for _, m := range b.Members {
		if m.Size <= 0 || int64(m.Size) > e.Size()-size {
			return nil, cas.ErrDamaged
		}
		size += int64(m.Size)
	}
	if size != e.Size() {
		return nil, cas.ErrDamaged
	}
	return b, nil
}

// open returns the blob of a unit, which it makes if need be.
func (s *store) open(u *unit) (*blob, error) {
	s.making.Lock()
	defer s.making.Unlock()
	b, err := s.lookup(u)
	if !errors.Is(err, fs.ErrNotExist) {
		return b, err
	}
	if err := s.encode(s.ctx, []*job{{units: []*unit{u}}}); err != nil {
		return nil, err
	}
	return s.lookup(u)
}

// drop removes a blob that is damaged, and says so.
func (s *store) drop(u *unit) error {
	s.mu.Lock()
	b := s.held[u]
	delete(s.held, u)
	if u.object != nil {
		s.damaged[u.object.Path] = true
	}
	s.mu.Unlock()
	if b != nil {
		b.close()
	}
	if u.object == nil || b == nil && s.rt.Cache == nil {
		return errors.New("oci: a temporary file has changed")
	}
	s.rt.note("layer of %s in the cache: its checksum is wrong; it is made again", u.object.Path)
	return s.cas.Remove(s.blobKey(u.object))
}

// isDamaged reports whether a blob of an object has been dropped.
func (s *store) isDamaged(u *unit) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged[u.object.Path]
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

// A keeper puts a unit's blob into the store.
type keeper struct {
	s    *store
	u    *unit
	w    *cas.Writer // nil: the blob is a part of file, from off on
	file *layout.Blob
	off  int64
	meta blobMeta
}

// keep begins the blob of a unit, which may go into a layer as well.
func (s *store) keep(u *unit, sum *layerSum) (k *keeper, err error) {
	k = &keeper{s: s, u: u, meta: blobMeta{Encoding: s.String()}}
	to, key := s.cas, cas.Key{}
	if u.object == nil {
		to = cas.Temporary(s.rt.TempDir)
	} else {
		k.meta.Path, k.meta.NARHash, k.meta.NARSize = u.object.Path, u.object.NARHash, u.object.NARSize
		key = s.blobKey(u.object)
	}
	if sum != nil && sum.file != nil && !s.caches(u) {
		k.file, k.off = sum.file, sum.file.Size()
		return k, nil
	}
	k.w, err = to.Create(key)
	return k, err
}

// caches reports whether a unit's blob belongs into the cache.
func (s *store) caches(u *unit) bool { return u.object != nil && s.rt.Cache != nil }

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
	if k.w == nil {
		data := io.NewSectionReader(k.file, k.off, k.file.Size()-k.off)
		k.hold(&blob{k.meta, data, func() error { return nil }})
		return nil
	}
	meta, err := json.Marshal(&k.meta)
	if err != nil {
		return err
	}
	w := k.w
	k.w = nil
	e, err := w.Commit(meta)
	if err != nil {
		return err
	}
	if k.s.caches(k.u) {
		return e.Close()
	}
	k.hold(&blob{k.meta, e, e.Close})
	return nil
}

// hold keeps a blob that is in no cache.
func (k *keeper) hold(b *blob) {
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	k.s.held[k.u] = b
}

func (k *keeper) discard() {
	if k != nil && k.w != nil {
		k.w.Discard()
	}
}

// report tells of n bytes of tar that have become some bytes of a layer.
func (s *store) report(u *unit, n, written int64) {
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
func (s *store) skip(l *Layer) {
	n := int64(0)
	for _, u := range l.units {
		n += u.object.NARSize
	}
	s.report(l.units[len(l.units)-1], n, l.summary.Size)
}
