package inspect

import (
	"crypto/sha256"
	"fmt"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/cas"
)

// Kept returns a [Store] in a content store, which may have other entries besides.
func Kept(in *cas.Store) Store { return records{in, Key} }

// KeptSeen is Kept, but for facts that are not to be relied on: see [Survey.Seen].
func KeptSeen(in *cas.Store) Store { return records{in, seenKey} }

// Key is that under which facts are kept.
func Key(h closure.Hash) cas.Key { return sha256.Sum256(fmt.Appendf(nil, "facts\n%x\n", h)) }

func seenKey(h closure.Hash) cas.Key {
	return sha256.Sum256(fmt.Appendf(nil, "facts, not verified\n%x\n", h))
}

// records are entries that have but metadata.
type records struct {
	in  *cas.Store
	key func(closure.Hash) cas.Key
}

func (r records) Get(h closure.Hash) (Facts, error) {
	e, err := r.in.Get(r.key(h))
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return Parse(e.Meta)
}

func (r records) Put(h closure.Hash, f Facts) error {
	data, err := f.Marshal()
	if err != nil {
		return err
	}
	w, err := r.in.Create(r.key(h))
	if err != nil {
		return err
	}
	e, err := w.Commit(data)
	if err != nil {
		return err
	}
	return e.Close()
}
