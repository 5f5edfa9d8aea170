package squash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/internal/cas"
	"github.com/nix2img/nix2img/squashfs"
)

// A Cache keeps the segments of store objects, so that an object that has been compressed once
// need not be compressed, nor even read, again.
//
// Segments are found by the NAR hash of their object and by all that decides their bytes:
// the codec, its level, the version of its library, the size of blocks,
// and the version of the encoding. Only objects whose files have that NAR hash get in.
//
// Any number of builds may use a cache at a time, and any of them may be killed.
// What is in it is compared with checksums when it is used.
type Cache struct {
	store *cas.Store
	// foreign segments are decoded, and compared with the NAR hash, before they are used.
	foreign bool
}

// CacheMode says how far a cache is relied on.
type CacheMode int

const (
	// OwnCache is for a cache that this user, and no other, writes to.
	// One that others can write to is a [*CacheTrustError].
	OwnCache CacheMode = iota
	// SharedCache is for a cache that others write to as well, and are trusted to.
	SharedCache
	// ForeignCache is for a cache of others, of which nothing is changed.
	// Its segments are decoded and compared with the NAR hash before they are used.
	ForeignCache
	// TrustedCache is for a cache of others which is relied on as if it were the user's own.
	TrustedCache
)

// CacheTrustError reports a cache that others can write to.
type CacheTrustError = cas.TrustError

// CacheError reports that the file system in which a cache lies has failed: that it is full, for instance.
type CacheError = cas.Error

// OpenCache opens the cache in dir. OwnCache and SharedCache create it if need be.
func OpenCache(dir string, mode CacheMode) (*Cache, error) {
	flags := map[CacheMode]cas.Mode{
		SharedCache:  cas.Trusted,
		ForeignCache: cas.ReadOnly | cas.Trusted, // nothing is taken on trust
		TrustedCache: cas.ReadOnly | cas.Trusted,
	}[mode]
	store, err := cas.Open(dir, flags)
	if err != nil {
		return nil, err
	}
	return &Cache{store, mode == ForeignCache}, nil
}

// CacheInfo tells what a cache holds.
type CacheInfo struct {
	Dir     string `json:"dir"`
	Entries int    `json:"entries"`
	Size    int64  `json:"size"` // bytes
}

// Info counts the entries of the cache.
func (c *Cache) Info() (CacheInfo, error) {
	list, err := c.store.List()
	info := CacheInfo{Dir: c.store.Dir(), Entries: len(list)}
	for _, i := range list {
		info.Size += i.Size
	}
	return info, err
}

// Prune removes entries until those that are left take at most limit bytes,
// and returns how many it removed and their bytes.
// Those that have not been used for the longest time go first.
func (c *Cache) Prune(limit int64) (n int, bytes int64, err error) { return c.store.Prune(limit) }

// Verify decodes every entry, compares it with the NAR hash of its object, and removes it if they differ.
// It returns how many there are, and how many it removed.
func (c *Cache) Verify(ctx context.Context, removed func(name string, reason error)) (n, bad int, err error) {
	list, err := c.store.List()
	if err != nil {
		return 0, 0, err
	}
	for _, i := range list {
		err := c.verifyEntry(ctx, i.Key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case ctx.Err() != nil:
			return n, bad, ctx.Err()
		case err != nil:
			bad++
			removed(i.Key.String(), err)
			if err := c.store.Remove(i.Key); err != nil {
				return n, bad, err
			}
		}
		n++
	}
	return n, bad, nil
}

func (c *Cache) verifyEntry(ctx context.Context, k cas.Key) error {
	e, err := c.store.Get(k)
	if err != nil {
		return err
	}
	defer e.Close()
	s, meta, err := readEntry(e)
	if err != nil {
		return err
	}
	if meta.key() != k {
		return errors.New("it is under another key than its own")
	}
	return s.verify(ctx, meta.narHash, meta.options())
}

// entryMeta is what an entry knows of itself beside the segment.
type entryMeta struct {
	narHash  closure.Hash
	encoding image.Encoding
}

// key is where an entry is found. The time of creation is no part of a segment.
func (m *entryMeta) key() cas.Key {
	e := &m.encoding
	return sha256.Sum256(fmt.Appendf(nil, "squashfs segment %d\n%s %d %d %s %s\n%x\n",
		e.Format, e.Compression, e.Level, e.BlockSize, e.Library, e.Version, m.narHash))
}

func (m *entryMeta) options() *squashfs.Options {
	return &squashfs.Options{
		Compression: squashfs.Compression{Codec: m.encoding.Compression, Level: m.encoding.Level},
		BlockSize:   m.encoding.BlockSize,
	}
}

// segment looks an object up. What is damaged is dropped.
func (c *Cache) segment(ctx context.Context, o closure.Object, e *image.Encoding) (*segment, error) {
	m := entryMeta{o.NARHash, *e}
	entry, err := c.store.Get(m.key())
	if err != nil {
		return nil, err
	}
	s, _, err := readEntry(entry)
	if err != nil {
		entry.Close()
		return nil, fmt.Errorf("cache %s: segment of %s: %w", c.store.Dir(), o.Path, err)
	}
	s.object, s.foreign = o, c.foreign
	return s, nil
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

func readEntry(e *cas.Entry) (*segment, *entryMeta, error) {
	line, b, _ := bytes.Cut(e.Meta, []byte("\n"))
	var h entryHeader
	if err := json.Unmarshal(line, &h); err != nil {
		return nil, nil, err
	}
	s := &segment{Segment: new(squashfs.Segment), data: e, close: e.Close}
	if err := s.UnmarshalBinary(b); err != nil {
		return nil, nil, err
	}
	e.Meta = nil // as large as the segment, and of no more use
	if s.Size() != e.Size() {
		return nil, nil, errors.New("its data have another size than it says")
	}
	return s, &entryMeta{h.NARHash, h.Encoding}, nil
}

func (m *entryMeta) commit(w *cas.Writer, s *squashfs.Segment, o closure.Object) (*segment, error) {
	b, err := m.marshal(s)
	if err != nil {
		w.Discard()
		return nil, err
	}
	e, err := w.Commit(b)
	if err != nil {
		return nil, err
	}
	e.Meta = nil
	return &segment{Segment: s, object: o, data: e, close: e.Close}, nil
}
