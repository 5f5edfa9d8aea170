package oci

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/cas"
)

// A Cache keeps the compressed tar entries of store objects, and what was found out about layers,
// so that an object that has been compressed once need not be compressed, nor even read, again.
//
// It has these kinds of entries:
//
//	blob     the gzip members or zstd frames of one store object
//	layer    digest, diffID and size of a layer, by the objects in it
//	state    of the hashes after some of a layer's objects, from where another layer that begins alike goes on
//	facts    what inspectors have found in an object
//
// Keys have all that decides the bytes in them: paths, NAR hashes, the codec, its level, the version of its library,
// the size of pieces, and the version of the rules for tar entries.
// Any number of builds may use a cache at a time, and any of them may be killed.
type Cache struct {
	store   *cas.Store
	foreign bool // what it has is to be proved
}

// cacheDir is the folder of nix2img's cache that has those of this package.
const cacheDir = "oci"

// CacheError reports that the file system in which a cache lies has failed: that it is full, for instance.
type CacheError = cas.Error

// OpenCache opens the part of nix2img's cache in dir that is for layers, and creates it if need be.
// One that others can write to is an error, unless they are trusted.
func OpenCache(dir string, trusted bool) (*Cache, error) {
	var mode cas.Mode
	if trusted {
		mode = cas.Trusted
	}
	store, err := cas.Open(filepath.Join(dir, cacheDir), mode)
	return &Cache{store: store}, err
}

// Info counts the entries of the cache and their bytes.
func (c *Cache) Info() (entries int, size int64, err error) {
	list, err := c.store.List()
	for _, i := range list {
		size += i.Size
	}
	return len(list), size, err
}

// Prune removes entries until those that are left take at most limit bytes,
// and returns how many it removed and their bytes. Those not used for the longest time go first.
func (c *Cache) Prune(limit int64) (n int, bytes int64, err error) { return c.store.Prune(limit) }

// blobMeta are the metadata of a blob.
type blobMeta struct {
	Path     closure.Path `json:"path"`
	NARHash  closure.Hash `json:"narHash"`
	NARSize  int64        `json:"narSize"`
	Encoding string       `json:"oci"`
	RawSize  int64        `json:"rawSize"` // bytes of tar
	Members  []member     `json:"members"`
	Nodes    []node       `json:"nodes,omitempty"`
}

// A member is a piece of a blob that stands alone.
type member struct {
	Size int    `json:"s"`
	CRC  uint32 `json:"c"` // Castagnoli's
}

func (e *coding) blobKey(o *closure.Object) cas.Key {
	return sha256.Sum256(fmt.Appendf(nil, "oci blob\n%s\n%s\n%x\n", e, o.Path, o.NARHash))
}

// A chain names the begin of a layer: the encoding and the objects up to some point.
type chain [sha256.Size]byte

func (e *coding) chain(storeDir string) chain {
	return sha256.Sum256(fmt.Appendf(nil, "oci layer\n%s\n%s\n", e, storeDir))
}

func (c chain) add(o *closure.Object) chain {
	return sha256.Sum256(fmt.Appendf(nil, "%x\n%s\n%x\n", c, o.Path, o.NARHash))
}

func (c chain) layerKey() cas.Key { return sha256.Sum256(fmt.Appendf(nil, "layer %x\n", c)) }
func (c chain) stateKey() cas.Key { return sha256.Sum256(fmt.Appendf(nil, "state %x\n", c)) }

// A summary is what is known of a finished layer.
type summary struct {
	Digest v1.Hash `json:"digest"`
	DiffID v1.Hash `json:"diffID"`
	Size   int64   `json:"size"`
}

// A state is what has been computed of a layer up to the end of an object.
type state struct {
	Digest []byte `json:"digest"` // state of the hash
	DiffID []byte `json:"diffID"`
	Size   int64  `json:"size"`
	Raw    int64  `json:"raw"`
}

// getJSON reads an entry that has but metadata.
// The error wraps fs.ErrNotExist if there is none of any use.
func getJSON(s *cas.Store, k cas.Key, v any) error {
	e, err := s.Get(k)
	if errors.Is(err, cas.ErrDamaged) {
		return errors.Join(fs.ErrNotExist, err)
	}
	if err != nil {
		return err
	}
	defer e.Close()
	return json.Unmarshal(e.Meta, v)
}

func putJSON(s *cas.Store, k cas.Key, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w, err := s.Create(k)
	if err != nil {
		return err
	}
	e, err := w.Commit(data)
	if err != nil {
		return err
	}
	return e.Close()
}
