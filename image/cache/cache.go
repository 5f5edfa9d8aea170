package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/nix2img/nix2img/internal/cas"
)

// A Cache is a directory of entries. Any number of builds may use it at a time, and any of them may be killed.
type Cache struct {
	store *cas.Store
	mode  Mode
}

// Mode says how far a cache is relied on.
type Mode int

const (
	// Own is for a cache that this user, and no other, writes to.
	// One that others can write to is a [*TrustError].
	Own Mode = iota
	// Shared is for a cache that others write to as well, and are trusted to.
	Shared
	// Foreign is for a cache of others, of which nothing is changed.
	// Its entries are decoded and compared with the NAR hash before they are used.
	Foreign
	// Trusted is for a cache of others which is relied on as if it were the user's own.
	Trusted
)

// Key names an entry. It is made by [NewKey].
type Key = cas.Key

// NewKey returns the key of an entry of some kind, a word of lower-case letters.
// text has all that decides the bytes of the entry.
func NewKey(kind, text string) Key { return cas.NewKey(kind, text) }

// A TrustError reports a cache, or something in it, that others can write to.
type TrustError = cas.TrustError

// An Error is one of the file system in which a cache lies: that it is full, for instance.
type Error = cas.Error

// A SpoolError is an error of the file system in which temporary files lie.
type SpoolError = cas.SpoolError

// Open opens the cache in dir. Own and Shared create the directory if need be.
// Whether something can be written to it turns out when something is.
func Open(dir string, mode Mode) (*Cache, error) {
	if dir == "" || mode < Own || mode > Trusted {
		return nil, fmt.Errorf("cache: open %q: no directory, or no mode %d", dir, mode)
	}
	flags := map[Mode]cas.Mode{
		Shared:  cas.Trusted,
		Foreign: cas.ReadOnly | cas.Trusted, // nothing is taken on trust
		Trusted: cas.ReadOnly | cas.Trusted,
	}[mode]
	store, err := cas.Open(dir, flags)
	if err != nil {
		return nil, err
	}
	return &Cache{store, mode}, nil
}

// errNotOpen is about a Cache that does not come from [Open].
var errNotOpen = errors.New("cache: it has not been opened")

// check reports whether the cache has been opened.
func (c *Cache) check() error {
	if c == nil || c.store == nil {
		return errNotOpen
	}
	return nil
}

// Dir returns the directory in which the cache lies.
func (c *Cache) Dir() string {
	if c.check() != nil {
		return ""
	}
	return c.store.Dir()
}

// Close closes the files that are open. It always returns nil.
func (c *Cache) Close() error {
	if c.check() == nil {
		c.store.Close()
	}
	return nil
}

// Entry returns the entry with a key, as a [Source] does.
func (c *Cache) Entry(_ context.Context, k Key) (*Entry, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	e, err := c.store.Get(k)
	if err != nil {
		return nil, err
	}
	return newEntry(e), nil
}

// Trusted reports whether entries are used without a proof.
func (c *Cache) Trusted() bool { return c != nil && c.mode != Foreign }

func (c *Cache) String() string { return "cache " + c.Dir() }

// Count is a number of entries and their bytes.
type Count struct {
	Entries int   `json:"entries"`
	Size    int64 `json:"size"` // bytes
}

func (c *Count) add(size int64) {
	c.Entries++
	c.Size += size
}

// Info tells what a cache holds.
type Info struct {
	Dir string `json:"dir"`
	Count
	Kinds map[string]Count `json:"kinds"` // by their names: see the package comment
}

// Info counts the entries of the cache.
func (c *Cache) Info() (*Info, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	list, err := c.store.List()
	if err != nil {
		return nil, err
	}
	info := &Info{Dir: c.Dir(), Kinds: make(map[string]Count)}
	for _, i := range list {
		info.add(i.Size)
		kind := info.Kinds[i.Key.Kind]
		kind.add(i.Size)
		info.Kinds[i.Key.Kind] = kind
	}
	return info, nil
}

// Excess returns what [Cache.Prune] would remove.
func (c *Cache) Excess(limit int64) (*Count, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	list, err := c.store.Excess(limit)
	if err != nil {
		return nil, err
	}
	count := new(Count)
	for _, i := range list {
		count.add(i.Size)
	}
	return count, nil
}

// Prune removes entries until what is left takes at most limit bytes, and returns what it removed.
// Those that have not been used for the longest time go first.
// What earlier versions have left in the directory, which this one does not use, is removed without being counted.
func (c *Cache) Prune(limit int64) (*Count, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	c.store.RemoveOlder()
	n, size, err := c.store.Prune(limit)
	return &Count{n, size}, err
}
