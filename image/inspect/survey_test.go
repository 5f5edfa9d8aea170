package inspect_test

import (
	"context"
	"io/fs"
	"maps"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/inspect"
)

// object is one whose files are in store.
var object = closure.Object{Path: "/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app", NARHash: closure.Hash{1}}

func store() fstest.MapFS {
	m := make(fstest.MapFS)
	for name, f := range tree() {
		m[object.Path.Base()+"/"+name] = f
	}
	return m
}

// closed is a store whose files must not be asked for.
type closed struct{ t testing.TB }

func (c closed) Open(name string) (fs.File, error) {
	c.t.Errorf("%s is opened", name)
	return nil, fs.ErrPermission
}

func openCache(t testing.TB) *cache.Cache {
	t.Helper()
	c, err := cache.Open(t.TempDir(), cache.Own)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// counter counts how often an inspector is asked.
type counter struct {
	inspect.Inspector
	looks atomic.Int32
}

func (c *counter) Look(ctx context.Context, f *inspect.File) (any, error) {
	c.looks.Add(1)
	return c.Inspector.Look(ctx, f)
}

func complete(t testing.TB, s *inspect.Survey, fsys fs.FS) inspect.Facts {
	t.Helper()
	defer s.Close()
	all, err := s.Complete(t.Context(), []closure.Object{object}, fsys)
	if err != nil {
		t.Fatal(err)
	}
	return all[object.Path]
}

func sub(t testing.TB) fs.FS {
	t.Helper()
	fsys, err := fs.Sub(store(), object.Path.Base())
	if err != nil {
		t.Fatal(err)
	}
	return fsys
}

// What has been found once, and proved, is not looked for again; an inspector that is new, or of another version, looks alone.
func TestInspectorsLookOnce(t *testing.T) {
	kept := openCache(t).Facts()
	first := &counter{Inspector: sums()}
	s := &inspect.Survey{Inspectors: []inspect.Inspector{first}, Kept: kept}
	if err := s.Prove(object); err != nil {
		t.Fatal(err)
	}
	want := complete(t, s, store())
	looks := first.looks.Load()
	if got := complete(t, &inspect.Survey{Inspectors: []inspect.Inspector{first}, Kept: kept}, closed{t}); !reflect.DeepEqual(got, want) || first.looks.Load() != looks {
		t.Errorf("%d looks, then %d; facts are %v", looks, first.looks.Load(), got)
	}

	further := &counter{Inspector: nodes()}
	s = &inspect.Survey{Inspectors: []inspect.Inspector{first, further}, Kept: kept}
	if s.Knows(object) || s.Prove(object) != nil {
		t.Error("a further inspector is said to have looked")
	}
	want = complete(t, s, store())
	if first.looks.Load() != looks || further.looks.Load() == 0 || len(want) != 2 {
		t.Errorf("%d and %d looks, %d facts", first.looks.Load()-looks, further.looks.Load(), len(want))
	}

	newer := nodes()
	newer.version = 2
	seen := further.looks.Load()
	s = &inspect.Survey{Inspectors: []inspect.Inspector{first, newer}, Kept: kept}
	got := complete(t, s, store())
	if first.looks.Load() != looks || further.looks.Load() != seen || got["nodes"].Version != 2 || !reflect.DeepEqual(got["sums"], want["sums"]) {
		t.Errorf("facts of another version: %v", got)
	}
}

// An observer finds what is missing while the object is read. It is kept when it has been proved, and not before.
func TestSurveysObserve(t *testing.T) {
	kept := openCache(t).Facts()
	list := []inspect.Inspector{sums(), pieces(70_000)}
	want := alone(t, sub(t), 1, list...)
	for _, fsys := range []fs.FS{store(), nil} {
		s := &inspect.Survey{Inspectors: list, Kept: kept, TempDir: t.TempDir()}
		o := s.Observe(t.Context(), object, fsys)
		if err := show(o.(*inspect.Observer), sub(t), 1<<20); err != nil {
			t.Fatal(err)
		}
		if _, err := kept.Get(object.NARHash); err == nil {
			t.Error("facts are kept before they have been proved")
		}
		if got := complete(t, s, closed{t}); !reflect.DeepEqual(got, want) {
			t.Error("something else is found")
		}
	}
	s := &inspect.Survey{Inspectors: list, Kept: kept}
	if err := show(s.Observe(t.Context(), object, store()).(*inspect.Observer), sub(t), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.Prove(object); err != nil {
		t.Fatal(err)
	}
	if got, err := kept.Get(object.NARHash); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("kept is something else: %v", err)
	}
	if s.Observe(t.Context(), object, store()) != nil || !s.Knows(object) {
		t.Error("what is known is looked for")
	}
}

// What an observer had to give up, or was not shown to the end, is found later.
func TestSurveysCompleteWhatIsMissing(t *testing.T) {
	list := []inspect.Inspector{sums(), pieces(70_000)}
	want := alone(t, sub(t), 1, list...)
	s := &inspect.Survey{Inspectors: list, TempDir: t.TempDir() + "/missing"}
	if err := show(s.Observe(t.Context(), object, nil).(*inspect.Observer), sub(t), 1<<20); err != nil {
		t.Fatal(err)
	}
	if got := complete(t, s, store()); !reflect.DeepEqual(got, want) {
		t.Error("something else is found after giving up")
	}
	s = &inspect.Survey{Inspectors: list}
	if o := s.Observe(t.Context(), object, nil); o.Node("x", fileInfo(1_000_000), "") != nil {
		t.Error("the observer fails")
	}
	if got := complete(t, s, store()); !reflect.DeepEqual(got, want) {
		t.Error("something else is found after an end before its time")
	}
}

// What nobody has proved is kept for those who look, and for no image.
func TestSeenFactsAreKeptApart(t *testing.T) {
	c := openCache(t)
	list := []inspect.Inspector{sums()}
	looking := func() *inspect.Survey {
		return &inspect.Survey{Inspectors: list, Kept: c.Facts(), Seen: c.Seen()}
	}
	s := looking()
	if err := s.Prove(object); err != nil {
		t.Fatal(err)
	}
	want := complete(t, s, store())
	if got := complete(t, looking(), closed{t}); !reflect.DeepEqual(got, want) {
		t.Error("what has been seen is not known")
	}
	if s := (&inspect.Survey{Inspectors: list, Kept: c.Facts()}); s.Knows(object) {
		t.Error("what has been seen counts as proved")
	}
	// Without a hash nothing can be kept.
	bare := object
	bare.NARHash = closure.Hash{}
	if _, err := looking().Complete(t.Context(), []closure.Object{bare}, store()); err != nil {
		t.Fatal(err)
	}
	if info, err := c.Info(); err != nil || info.Entries != 1 {
		t.Errorf("%+v are kept, %v", info, err)
	}
}

// Records of other places are used, those of the own one first. What cannot be read is noted, and found again.
func TestFactsAreRecalledFromSeveralPlaces(t *testing.T) {
	forged := func(i inspect.Inspector, version int) inspect.Facts {
		return inspect.Facts{i.Name(): {Version: version, Data: []byte(`"forged"`)}}
	}
	own, other := openCache(t).Facts(), openCache(t).Facts()
	if err := own.Put(object.NARHash, forged(sums(), 1).With(forged(nodes(), 9))); err != nil {
		t.Fatal(err)
	}
	if err := other.Put(object.NARHash, forged(nodes(), 1)); err != nil {
		t.Fatal(err)
	}
	var notes []string
	s := &inspect.Survey{Inspectors: []inspect.Inspector{sums(), nodes()}, Kept: own, Others: []inspect.Store{broken{}, other}, Note: func(n string) { notes = append(notes, n) }}
	want := forged(sums(), 1).With(forged(nodes(), 1))
	if got := complete(t, s, closed{t}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], string(object.Path)) {
		t.Errorf("notes are %q", notes)
	}
}

// broken is a store that cannot be read.
type broken struct{}

func (broken) Get(closure.Hash) (inspect.Facts, error) { return nil, fs.ErrPermission }
func (broken) Put(closure.Hash, inspect.Facts) error   { return fs.ErrPermission }

func TestCheckFindsForgedFacts(t *testing.T) {
	list := []inspect.Inspector{sums(), nodes()}
	kept := alone(t, tree(), 0, list...)
	if err := inspect.Check(t.Context(), kept, list, tree(), "."); err != nil {
		t.Error(err)
	}
	for name, version := range map[string]int{"sums": 1, "nodes": 1, "others": 1} {
		forged := maps.Clone(kept)
		forged[name] = inspect.Found{Version: version, Data: []byte(`[]`)}
		if err := inspect.Check(t.Context(), forged, list, tree(), "."); (err == nil) != (name == "others") {
			t.Errorf("%s forged: %v", name, err)
		}
	}
}
