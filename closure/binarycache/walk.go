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
)

// A Source is where closures are looked for: in caches, and in a store on this machine if there is one.
type Source struct {
	Caches  []*Cache // in the order in which they are asked: see [Sort]
	Trust   Trust
	Runtime *Runtime

	// Local, if not nil, returns the objects of the closure of p if they are on this machine, and none if they are not.
	// It is asked first. Calls do not overlap.
	Local func(ctx context.Context, p closure.Path) ([]closure.Object, error)
	// LocalFiles are those objects' files.
	LocalFiles fs.FS
}

// Sort puts caches into the order of their priorities. Those of equal priority stay as they are.
func Sort(caches []*Cache) {
	slices.SortStableFunc(caches, func(a, b *Cache) int { return cmp.Compare(a.Priority, b.Priority) })
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
	c.Files = &Files{ctx: ctx, rt: s.Runtime, sources: w.sources, local: s.LocalFiles, kept: make(map[string]*keptObject)}
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
func (s *Source) lookup(ctx context.Context, p, referrer closure.Path) (*source, error) {
	var first error
	var asked []string
	for _, c := range s.Caches {
		if c.StoreDir != p.Dir() {
			first = cmp.Or(first, error(&InfoError{c.at(cacheInfoName), p, fmt.Errorf("the cache is for %s", c.StoreDir)}))
			continue
		}
		src, err := s.ask(ctx, c, p)
		if src != nil {
			return src, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && first == nil {
			first = err
		}
		asked = append(asked, c.at(infoName(p)))
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

// ask returns what a cache says of an object, or nil if it does not have it.
func (s *Source) ask(ctx context.Context, c *Cache, p closure.Path) (*source, error) {
	name := infoName(p)
	text, err := c.small(ctx, name, p)
	if text == nil || err != nil {
		return nil, err
	}
	n, err := ParseNARInfo(c.StoreDir, text)
	switch {
	case err != nil:
		err = &InfoError{c.at(name), p, err}
	case n.Path != p:
		err = &VerifyError{c.at(name), p, fmt.Errorf("it is about %s", n.Path)}
	default:
		if reason := s.Trust.Check(n); reason != nil {
			err = &VerifyError{c.at(name), p, reason}
		} else {
			return &source{n, c}, nil
		}
	}
	c.forget(name)
	return nil, err
}
