package squash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

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
//
// Beside the segments it keeps what inspectors have found in the objects.
type Cache struct {
	store *cas.Store
	known *cas.Store // facts; nil: there are none, nor are they kept
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
	c := &Cache{store: store, foreign: mode == ForeignCache}
	if c.foreign {
		return c, nil // nothing proves what is known of an object but the object itself
	}
	c.known, err = cas.Open(filepath.Join(dir, factsDir), flags)
	if errors.Is(err, fs.ErrNotExist) && flags&cas.ReadOnly != 0 {
		err = nil // the cache of an earlier version
	}
	return c, err
}

// Dir returns the directory in which the cache lies.
func (c *Cache) Dir() string { return c.store.Dir() }

// CacheInfo tells what a cache holds.
type CacheInfo struct {
	Dir     string `json:"dir"`
	Entries int    `json:"entries"` // segments
	Size    int64  `json:"size"`    // bytes, of the facts about objects as well
}

// Info counts the entries of the cache.
func (c *Cache) Info() (CacheInfo, error) {
	list, err := c.store.List()
	if err != nil {
		return CacheInfo{}, err
	}
	info := CacheInfo{Dir: c.store.Dir(), Entries: len(list)}
	for _, i := range list {
		info.Size += i.Size
	}
	facts, err := c.factsSize()
	info.Size += facts
	return info, err
}

// Prune removes segments until what is left takes at most limit bytes,
// and returns how many it removed and their bytes.
// Those that have not been used for the longest time go first.
// What is known of objects takes a sixteenth of the limit at most.
func (c *Cache) Prune(limit int64) (n int, bytes int64, err error) {
	if c.known != nil {
		if _, bytes, err = c.known.Prune(limit / 16); err != nil {
			return 0, bytes, err
		}
	}
	facts, err := c.factsSize()
	if err != nil {
		return 0, bytes, err
	}
	n, more, err := c.store.Prune(limit - facts)
	return n, bytes + more, err
}

// Verify decodes every segment, compares it with the NAR hash of its object, and removes it if they differ.
// What is known of the objects is found again, and removed if it differs, or if there is no segment to find it in.
// It returns how many entries it compared, and how many of them it removed because they differ.
func (c *Cache) Verify(ctx context.Context, removed func(name string, reason error)) (n, bad int, err error) {
	list, err := c.store.List()
	if err != nil {
		return 0, 0, err
	}
	v := factsVerifier{cache: c, done: make(map[cas.Key]bool), wrong: make(map[cas.Key]error)}
	for _, i := range list {
		err := c.verifyEntry(ctx, i.Key, &v)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // removed meanwhile
		case ctx.Err() != nil:
			return n, bad, ctx.Err()
		case err != nil:
			bad++
			removed("segment "+i.Key.String(), err)
			if err := c.store.Remove(i.Key); err != nil {
				return n, bad, err
			}
		}
		n++
	}
	err = v.sweep(func(k cas.Key, err error) {
		bad++
		removed("facts "+k.String(), err)
	})
	return n + v.compared, bad, err
}

func (c *Cache) verifyEntry(ctx context.Context, k cas.Key, v *factsVerifier) error {
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
	if err := s.verify(ctx, meta.narHash, meta.options()); err != nil {
		return err
	}
	return v.verify(ctx, s, meta)
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
