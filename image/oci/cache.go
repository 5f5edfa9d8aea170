package oci

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/internal/ctxio"
)

// Kinds of entries that a cache has for layers. Keys have all that decides the bytes in them:
// paths, NAR hashes, the codec, its level, the version of its library,
// the size of pieces, and the version of the rules for tar entries.
const (
	blobKind  = "blob"  // the gzip members or zstd frames of one store object
	layerKind = "layer" // digest, diffID and size of a layer, by the objects in it
	stateKind = "state" // of the hashes after some of a layer's objects, from where another layer that begins alike goes on
)

// Kind returns how [cache.Cache.Verify] proves what is kept of store objects.
// What is known of layers is removed with the first of them that differs: it can be computed again.
func Kind() cache.Kind {
	return cache.Kind{Name: blobKind, Prove: proveEntry, Derived: []string{layerKind, stateKind}}
}

// maxPiece is more than the pieces of any version have.
const maxPiece = 64 << 20

func proveEntry(ctx context.Context, k cache.Key, e *cache.Entry) (*cache.Tree, error) {
	var m blobMeta
	if err := json.Unmarshal(e.Meta, &m); err != nil {
		return nil, err
	}
	var name string
	var level, piece int
	if _, err := fmt.Sscan(m.Encoding, &name, &level, &piece); err != nil {
		return nil, fmt.Errorf("encoding %q: %w", m.Encoding, err)
	}
	c, err := newCoding(name, level)
	if err != nil {
		return nil, err
	}
	if c.piece = piece; piece <= 0 || piece > maxPiece {
		return nil, fmt.Errorf("encoding %q: no such pieces", m.Encoding)
	}
	b, err := c.readBlob(e)
	if err != nil {
		return nil, err
	}
	o := &closure.Object{Path: b.Path, NARHash: b.NARHash, NARSize: b.NARSize}
	if blobKey(b.Encoding, o) != k {
		return nil, errors.New("it is under another key than its own")
	}
	s := &blobs{coding: c}
	r := &blobReader{s: s, b: b, at: -1}
	if err := verifyTar(ctxio.Reader(ctx, io.NewSectionReader(r, 0, b.RawSize)), o); err != nil {
		return nil, err
	}
	return &cache.Tree{NARHash: b.NARHash, Files: func(ctx context.Context) (fs.FS, string, error) {
		root := b.Path.Base()
		return &overlay{ctx: ctx, s: s, trees: map[string]*tree{root: newTree(s, nil, b)}}, root, nil
	}}, nil
}

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

func (e *coding) blobKey(o *closure.Object) cache.Key { return blobKey(e.String(), o) }

func blobKey(encoding string, o *closure.Object) cache.Key {
	return cache.NewKey(blobKind, fmt.Sprintf("%s\n%s\n%x\n", encoding, o.Path, o.NARHash))
}

// A chain names the beginning of a layer: the encoding and the objects up to some point.
type chain [sha256.Size]byte

func (e *coding) chain(storeDir string) chain {
	return sha256.Sum256(fmt.Appendf(nil, "oci layer\n%s\n%s\n", e, storeDir))
}

func (c chain) add(o *closure.Object) chain {
	return sha256.Sum256(fmt.Appendf(nil, "%x\n%s\n%x\n", c, o.Path, o.NARHash))
}

func (c chain) layerKey() cache.Key { return cache.NewKey(layerKind, fmt.Sprintf("%x\n", c)) }
func (c chain) stateKey() cache.Key { return cache.NewKey(stateKind, fmt.Sprintf("%x\n", c)) }

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
