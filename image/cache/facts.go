package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/inspect"
)

// Kinds of entries about objects, whatever they are compressed to.
const (
	factsKind = "facts"
	seenKind  = "seen"
)

// Survey returns what looks for facts about the objects of a build:
// it recalls those that the cache has, and those that trusted sources have, and keeps new ones in the cache.
// The inspectors are those given.
func (s *Shelf) Survey(list []inspect.Inspector) *inspect.Survey {
	v := &inspect.Survey{Inspectors: list, Note: func(text string) { s.notef("%s", text) }}
	if s.own != nil {
		v.Kept = &records{s, s.own, factsKind}
	}
	for _, from := range s.from {
		if from.Trusted() {
			v.Others = append(v.Others, &records{s, from, factsKind})
		}
	}
	return v
}

// SurveyUnproved is Survey for files that nobody compares with their NAR hashes.
// What is found in them is kept apart, and no image is made of it.
func (s *Shelf) SurveyUnproved(list []inspect.Inspector) *inspect.Survey {
	v := s.Survey(list)
	if s.own != nil {
		v.Seen = &records{s, s.own, seenKind}
	}
	return v
}

// records are facts in a source. They are put into the own cache.
type records struct {
	s    *Shelf
	from Source
	kind string
}

func (r *records) key(h closure.Hash) Key { return NewKey(r.kind, fmt.Sprintf("%x\n", h)) }

func (r *records) Get(h closure.Hash) (inspect.Facts, error) {
	meta, err := r.s.record(context.Background(), r.from, r.key(h))
	if err != nil {
		return nil, err
	}
	return inspect.Parse(meta)
}

func (r *records) Put(h closure.Hash, f inspect.Facts) error {
	data, err := f.Marshal()
	if err != nil {
		return err
	}
	return r.s.keep(r.key(h), data)
}

// Recall looks for a record, an entry that has but JSON as metadata, wherever it can be relied on.
// The error wraps [fs.ErrNotExist] if there is none of any use.
func (s *Shelf) Recall(ctx context.Context, k Key, v any) error {
	for _, from := range append([]Source{s.own}, s.from...) {
		if from == Source((*Cache)(nil)) || !from.Trusted() {
			continue
		}
		meta, err := s.record(ctx, from, k)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrDamaged) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(meta, v)
		}
		return err
	}
	return fs.ErrNotExist
}

// Keep keeps a record in the cache, if there is one that takes it.
func (s *Shelf) Keep(k Key, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.keep(k, data)
}

// record returns the metadata of an entry. What is damaged is removed from the own cache; what cannot be read is not there.
func (s *Shelf) record(ctx context.Context, from Source, k Key) ([]byte, error) {
	e, err := from.Entry(ctx, k)
	if err == nil {
		return e.Meta, nil
	}
	_, others := errors.AsType[*TrustError](err)
	switch {
	case errors.Is(err, ErrDamaged):
		if from == Source(s.own) {
			s.own.store.Remove(k)
		}
	case errors.Is(err, fs.ErrNotExist):
	case others || Unreadable(err):
		s.once("record "+from.String(), "%v; it is not used", err)
		err = fs.ErrNotExist
	}
	return nil, err
}

func (s *Shelf) keep(k Key, meta []byte) error {
	if !s.Keeps() {
		return nil
	}
	w := s.Create(k, false)
	defer w.Discard()
	_, err := w.Commit(meta)
	return err
}

// Facts returns the facts about objects that the cache has.
func (c *Cache) Facts() inspect.Store {
	return &records{NewShelf(c, nil, "", nil).Strict(), c, factsKind}
}

// Seen returns the facts that were found in files which nobody has compared with a NAR hash.
func (c *Cache) Seen() inspect.Store {
	return &records{NewShelf(c, nil, "", nil).Strict(), c, seenKind}
}
