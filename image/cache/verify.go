package cache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/inspect"
)

// A Kind says how entries of one kind are proved.
type Kind struct {
	Name string
	// Prove decodes an entry and compares it with its NAR hash. An error says how it differs.
	Prove func(context.Context, Key, *Entry) (*Tree, error)
	// Derived are the names of kinds that were computed from entries of this one:
	// they are all removed with the first entry that differs.
	Derived []string
}

// A Tree is a store object as a proved entry has it.
type Tree struct {
	NARHash closure.Hash
	Files   func(context.Context) (fsys fs.FS, root string, err error)
}

// Verified tells what [Cache.Verify] has done.
type Verified struct {
	Checked int `json:"checked"` // entries that could be proved
	Removed int `json:"removed"` // of those, the ones that were damaged
}

// Verify decodes every entry of the given kinds, compares it with the NAR hash of its object, and removes it if they differ.
// Facts are found again by the inspectors, and removed if they differ, or if there is no entry to find them in;
// so are those that were never compared with a NAR hash.
// removed is told of each entry that was damaged. An entry that cannot be read is an error, and stays.
func (c *Cache) Verify(ctx context.Context, kinds []Kind, list []inspect.Inspector, removed func(Key, error)) (*Verified, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if removed == nil {
		removed = func(Key, error) {}
	}
	entries, err := c.store.List()
	if err != nil {
		return nil, err
	}
	v := &verifier{c: c, inspectors: list, removed: removed, kinds: make(map[string]Kind),
		derived: make(map[string]bool), seen: make(map[Key]bool)}
	for _, k := range kinds {
		v.kinds[k.Name] = k
	}
	for _, i := range entries {
		kind, ok := v.kinds[i.Key.Kind]
		if !ok {
			continue
		}
		if err := v.entry(ctx, kind, i.Key); err != nil {
			return &v.Verified, err
		}
	}
	for _, i := range entries {
		facts := i.Key.Kind == seenKind || i.Key.Kind == factsKind && !v.seen[i.Key]
		if !facts && !v.derived[i.Key.Kind] {
			continue
		}
		if err := c.store.Remove(i.Key); err != nil {
			return &v.Verified, err
		}
	}
	return &v.Verified, nil
}

type verifier struct {
	Verified
	c          *Cache
	kinds      map[string]Kind
	inspectors []inspect.Inspector
	removed    func(Key, error)
	derived    map[string]bool // kinds of which nothing stays
	seen       map[Key]bool    // facts that have been looked for again
}

// entry verifies an entry, and the facts about its object.
func (v *verifier) entry(ctx context.Context, kind Kind, k Key) error {
	e, err := v.c.Entry(ctx, k)
	var tree *Tree
	if err == nil {
		tree, err = kind.Prove(ctx, k, e)
		if errors.Is(err, fs.ErrNotExist) { // in the entry, and not the entry itself
			err = fmt.Errorf("%v", err)
		}
	}
	if gone, err := v.judge(ctx, k, err); gone || err != nil {
		if err == nil && v.Removed > 0 {
			for _, name := range kind.Derived {
				v.derived[name] = true
			}
		}
		return err
	}
	r := records{nil, v.c, factsKind}
	fk := r.key(tree.NARHash)
	if v.seen[fk] {
		return nil
	}
	v.seen[fk] = true
	err = v.facts(ctx, fk, tree)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err = v.judge(ctx, fk, err)
	return err
}

// judge counts an entry, and removes it if an error proves it to be damaged. It returns whether it is no more.
func (v *verifier) judge(ctx context.Context, k Key, err error) (gone bool, _ error) {
	_, others := errors.AsType[*TrustError](err)
	switch {
	case ctx.Err() != nil:
		return true, ctx.Err()
	case err == nil:
		v.Checked++
		return false, nil
	case errors.Is(err, fs.ErrNotExist) || isGone(err):
		return true, nil // removed meanwhile
	case Unreadable(err) && !others:
		return true, err
	}
	v.Checked++
	v.Removed++
	v.removed(k, err)
	return true, v.c.store.Remove(k)
}

// facts looks for the facts about a tree again.
func (v *verifier) facts(ctx context.Context, k Key, t *Tree) error {
	e, err := v.c.Entry(ctx, k)
	if err != nil {
		return err
	}
	kept, err := inspect.Parse(e.Meta)
	if err != nil {
		return err
	}
	fsys, root, err := t.Files(ctx)
	if err != nil {
		return err
	}
	return inspect.Check(ctx, kept, v.inspectors, fsys, root)
}
