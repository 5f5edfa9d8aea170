package binarycache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/par"
)

// A Source is where closures are looked for: in caches, and in a store on this machine if there is one.
type Source struct {
	Caches  []*Cache // in the order in which they are asked: see [Sort]
	Trust   Trust
	Runtime *Runtime // nil: the defaults

	// Local, if not nil, returns the objects of the closure of p if they are on this machine, and none if they are not.
	// It is asked first. Calls do not overlap.
	Local func(ctx context.Context, p closure.Path) ([]closure.Object, error)
	// LocalFiles are those objects' files.
	LocalFiles fs.FS
}

// Sort puts caches into the order of their priorities. Those of equal priority stay as they are.
func Sort(caches []*Cache) {
	priority := func(c *Cache) int {
		if c == nil {
			return 0
		}
		return c.Priority
	}
	slices.SortStableFunc(caches, func(a, b *Cache) int { return cmp.Compare(priority(a), priority(b)) })
}

const (
	queries    = 32      // of narinfos at a time
	maxObjects = 1 << 20 // in a closure
)

// Closure returns the closure of some roots. Its Files are [*Files], which read until ctx is done.
//
// A cache that fails, or whose word cannot be taken, is left out if another one has the object.
// Errors are those of [closure.New], [*NetworkError], [*VerifyError] and [*InfoError].
func (s *Source) Closure(ctx context.Context, roots ...closure.Path) (*closure.Closure, error) {
	if slices.ContainsFunc(s.Caches, func(c *Cache) bool { return c == nil || c.client == nil }) {
		return nil, errors.New("binarycache: a cache that has not been opened")
	}
	inner, cancel := context.WithCancel(ctx)
	w := &walk{
		Source: s, ctx: inner, cancel: cancel,
		seen:    make(map[closure.Path]bool),
		tickets: make(chan struct{}, queries),
		sources: make(map[string]*source),
	}
	for _, p := range roots {
		w.visit(p, "")
	}
	w.running.Wait()
	cancel()
	if w.err == nil {
		w.err = ctx.Err()
	}
	if w.err != nil {
		return nil, w.err
	}
	c, err := closure.New(roots, w.objects)
	if err != nil {
		var from []string
		for _, c := range s.Caches {
			from = append(from, c.URL)
		}
		return nil, fmt.Errorf("binarycache: read %s: %w", strings.Join(from, ", "), err)
	}
	c.Files = &Files{ctx: ctx, rt: s.Runtime.orDefault(), sources: w.sources, local: s.LocalFiles, kept: make(map[string]*keptObject)}
	return c, nil
}

// A walk goes along the references.
type walk struct {
	*Source
	ctx     context.Context
	cancel  context.CancelFunc
	tickets chan struct{} // held by who makes a query
	running sync.WaitGroup
	local   sync.Mutex // held by who asks Local

	mu      sync.Mutex
	seen    map[closure.Path]bool
	objects []closure.Object
	sources map[string]*source
	err     error // the first
}

func (w *walk) visit(p, referrer closure.Path) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen[p] || w.err != nil {
		return
	}
	w.seen[p] = true
	if len(w.seen) > maxObjects {
		w.fail(fmt.Errorf("binarycache: the closure has more than %d objects", maxObjects))
		return
	}
	w.running.Go(func() {
		defer par.Recover()
		if err := w.find(p, referrer); err != nil {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.fail(err)
		}
	})
}

func (w *walk) fail(err error) {
	if w.err == nil {
		w.err = err
		w.cancel()
	}
}

func (w *walk) find(p, referrer closure.Path) error {
	found, err := w.findLocal(p)
	if found || err != nil {
		return err
	}
	select {
	case w.tickets <- struct{}{}:
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	src, err := w.lookup(w.ctx, p, referrer)
	<-w.tickets
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.objects = append(w.objects, src.Object)
	w.sources[p.Base()] = src
	w.mu.Unlock()
	for _, ref := range src.References {
		w.visit(ref, p)
	}
	return nil
}

func (w *walk) findLocal(p closure.Path) (bool, error) {
	if w.Local == nil {
		return false, nil
	}
	w.local.Lock()
	objects, err := w.Local(w.ctx, p)
	w.local.Unlock()
	if len(objects) == 0 || err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range objects {
		if o.Path == p || !w.seen[o.Path] {
			w.seen[o.Path] = true
			w.objects = append(w.objects, o)
		}
	}
	return true, nil
}

// lookup asks one cache after the other.
// That an object was not there is believed as long as another cache has it, and so is what makes no sense.
func (s *Source) lookup(ctx context.Context, p, referrer closure.Path) (*source, error) {
	var first error
	var asked []string
	var again []*Cache
	for _, c := range s.Caches {
		if c.StoreDir != p.Dir() {
			first = cmp.Or(first, error(&InfoError{c.at(cacheInfoName), p, fmt.Errorf("the cache is for %s", c.StoreDir)}))
			continue
		}
		src, kept, err := s.ask(ctx, c, p, false)
		if src != nil || ctx.Err() != nil {
			return src, ctx.Err()
		}
		if kept {
			again = append(again, c)
		} else {
			first = cmp.Or(first, err)
		}
		asked = append(asked, c.at(infoName(p)))
	}
	for _, c := range again {
		src, _, err := s.ask(ctx, c, p, true)
		if src != nil || ctx.Err() != nil {
			return src, ctx.Err()
		}
		first = cmp.Or(first, err)
	}
	if first != nil {
		return nil, first
	}
	reason := errors.New("no cache is asked")
	if len(asked) > 0 {
		reason = fmt.Errorf("%w at %s", fs.ErrNotExist, strings.Join(asked, ", nor at "))
	}
	return nil, &closure.MissingError{Path: p, Referrer: referrer, Err: reason}
}

// ask returns what a cache says of an object, or nil if it does not have it,
// and whether that is what it has said some time ago.
func (s *Source) ask(ctx context.Context, c *Cache, p closure.Path, fresh bool) (src *source, kept bool, err error) {
	name := infoName(p)
	text, kept, err := c.small(ctx, name, p, fresh)
	if text == nil || err != nil {
		return nil, kept, err
	}
	n, err := ParseNARInfo(c.StoreDir, text)
	switch {
	case err != nil:
		err = &InfoError{c.at(name), p, err}
	case n.Path != p:
		err = &VerifyError{c.at(name), p, fmt.Errorf("it is about %s", n.Path)}
	default:
		reason := s.Trust.Check(n)
		if reason == nil {
			return &source{NARInfo: n, cache: c}, kept, nil
		}
		err = &VerifyError{c.at(name), p, reason}
	}
	c.forget(name)
	return nil, kept, err
}
