package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/nix2img/nix2img/closure"
)

// A Store keeps records of facts under the NAR hashes of their trees.
type Store interface {
	// Get returns the facts about a tree. The error wraps [fs.ErrNotExist] if none are known.
	Get(closure.Hash) (Facts, error)
	// Put keeps facts, in the place of those that it has about the tree.
	Put(closure.Hash, Facts) error
}

// A Survey collects the facts about the objects of one build:
// it recalls those that are known, has inspectors look while objects are compressed, finds alone what is then unknown,
// and keeps what has been proved to be about the objects. It may be used by several goroutines.
//
// The fields are set before the first call. The zero value has no inspectors, and finds nothing.
type Survey struct {
	Inspectors []Inspector
	// Kept is where facts are recalled from first, and kept. Nil means nowhere.
	Kept Store
	// Others are further places to recall facts from, of which nothing is doubted.
	Others []Store
	// Seen, if not nil, has facts about files that nobody has compared with their NAR hashes.
	// It is for those who look at a closure and make no image of it: with it, nothing is proved.
	Seen Store
	// TempDir is where copies of files go. Empty means that of the system.
	TempDir string
	// Workers is how many files are read at a time. If it is not positive, GOMAXPROCS.
	Workers int
	// Note, if not nil, is told of what did not go as planned, a sentence each.
	Note func(string)

	mu      sync.Mutex
	objects map[closure.Path]*surveyed
	spool   Spool
}

// surveyed is what is known of an object.
type surveyed struct {
	facts    Facts
	observer *Observer // that is looking, or has looked
	proved   bool      // its files have that NAR hash
	kept     bool      // there is nothing else to keep
}

// Close ends what observers have not been shown to the end.
// It must not be called while one is at work.
func (s *Survey) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.objects {
		if e.observer != nil {
			e.observer.Stop()
		}
	}
}

// Knows reports whether nothing is left to be found about an object.
func (s *Survey) Knows(o closure.Object) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.of(o).facts.Missing(s.Inspectors)) == 0
}

// Observe returns an observer for an object that is about to be read, or nil if there is nothing to look for.
// fsys is where its files can be read again, each object under its base name. If it is nil, they cannot be.
func (s *Survey) Observe(ctx context.Context, o closure.Object, fsys fs.FS) closure.Observer {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.of(o)
	missing := e.facts.Missing(s.Inspectors)
	if len(missing) == 0 {
		return nil
	}
	if e.observer != nil {
		e.observer.Stop()
	}
	if fsys == nil {
		s.spool.Dir = s.TempDir
		e.observer = ObserveStream(ctx, missing, &s.spool)
	} else {
		e.observer = Observe(ctx, missing, fsys, o.Path.Base())
	}
	return e.observer
}

// Prove says that the files of objects have been compared with their NAR hashes:
// what has been found in them is kept, and what will be.
func (s *Survey) Prove(objects ...closure.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range objects {
		e := s.of(o)
		e.proved = s.Seen == nil
		if err := s.keep(o, e); err != nil {
			return err
		}
	}
	return nil
}

// Complete returns the facts about objects, after it has found what is unknown of them in fsys,
// which has each object under its base name.
func (s *Survey) Complete(ctx context.Context, objects []closure.Object, fsys fs.FS) (map[closure.Path]Facts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[closure.Path]Facts, len(objects))
	var unknown []closure.Object
	var trees []Tree
	for _, o := range objects {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		e := s.of(o)
		all[o.Path] = e.facts
		if missing := e.facts.Missing(s.Inspectors); len(missing) > 0 {
			unknown, trees = append(unknown, o), append(trees, Tree{o.Path.Base(), missing})
		}
	}
	found, err := Find(ctx, fsys, trees, s.Workers)
	if err != nil {
		return nil, err
	}
	for i, o := range unknown {
		e := s.of(o)
		e.add(found[i])
		all[o.Path] = e.facts
		if err := s.keep(o, e); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// of returns what is known of an object.
func (s *Survey) of(o closure.Object) *surveyed {
	e := s.objects[o.Path]
	if e == nil {
		if s.objects == nil {
			s.objects = make(map[closure.Path]*surveyed)
		}
		e = &surveyed{kept: true}
		s.objects[o.Path] = e
		s.recall(o, e)
	}
	if e.observer != nil && e.observer.Facts() != nil {
		e.add(e.observer.Facts())
		e.observer = nil
	}
	return e
}

func (e *surveyed) add(more Facts) {
	e.kept = e.kept && len(more) == 0
	e.facts = e.facts.With(more)
}

// recall looks an object up, until all is known that is to be known.
func (s *Survey) recall(o closure.Object, e *surveyed) {
	if o.NARHash.IsZero() {
		return
	}
	for _, from := range append([]Store{s.Kept, s.Seen}, s.Others...) {
		missing := e.facts.Missing(s.Inspectors)
		if from == nil || len(missing) == 0 {
			continue
		}
		known, err := from.Get(o.NARHash)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && s.Note != nil {
			s.Note(fmt.Sprintf("facts about %s: %v; they are looked for again", o.Path, err))
		}
		for name, found := range known {
			if _, have := e.facts[name]; !have || isOf(missing, name, found.Version) {
				e.facts = e.facts.With(Facts{name: found})
			}
		}
	}
}

func isOf(list []Inspector, name string, version int) bool {
	for _, i := range list {
		if i.Name() == name && i.Version() == version {
			return true
		}
	}
	return false
}

// keep keeps what has been found about an object.
func (s *Survey) keep(o closure.Object, e *surveyed) error {
	to := s.Seen
	if e.proved {
		to = s.Kept
	}
	if e.kept || to == nil || o.NARHash.IsZero() {
		return nil
	}
	e.kept = e.proved
	return to.Put(o.NARHash, e.facts)
}

// Check has inspectors look at the tree at root, a name in fsys, again,
// and returns an error if they do not find what is kept. What other inspectors have found it leaves alone.
func Check(ctx context.Context, kept Facts, list []Inspector, fsys fs.FS, root string) error {
	var again []Inspector
	for _, i := range list {
		if kept[i.Name()].Version == i.Version() {
			again = append(again, i)
		}
	}
	found, err := Find(ctx, fsys, []Tree{{root, again}}, 0)
	if err != nil {
		return err
	}
	for _, i := range again {
		if !bytes.Equal(kept[i.Name()].Data, found[0][i.Name()].Data) {
			return fmt.Errorf("facts of %s: they are not what is found in the files", i.Name())
		}
	}
	return nil
}
