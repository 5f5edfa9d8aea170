package cas

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func open(t testing.TB, dir string, mode Mode) *Store {
	t.Helper()
	s, err := Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(s string) Key { return sha256.Sum256([]byte(s)) }

// put makes an entry whose data and metadata follow from its name.
func put(t testing.TB, s *Store, name string) {
	t.Helper()
	w, err := s.Create(key(name))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "data of %s", name)
	e, err := w.Commit([]byte("meta of " + name))
	if err != nil {
		t.Fatal(err)
	}
	check(t, e, name)
}

func check(t testing.TB, e *Entry, name string) {
	t.Helper()
	data, err := io.ReadAll(e)
	if err != nil || string(data) != "data of "+name || string(e.Meta) != "meta of "+name {
		t.Errorf("%s has %q and %q: %v", name, data, e.Meta, err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestEntriesComeBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "cache")
	s := open(t, dir, 0)
	for _, name := range []string{"a", "b", "a"} {
		put(t, s, name)
	}
	for _, s := range []*Store{s, open(t, dir, 0), open(t, dir, ReadOnly)} {
		for _, name := range []string{"a", "b"} {
			e, err := s.Get(key(name))
			if err != nil {
				t.Fatal(err)
			}
			check(t, e, name)
		}
		if _, err := s.Get(key("c")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is no c, but %v", err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 2 {
		t.Errorf("listed %v: %v", list, err)
	}
}

func TestEntriesOutliveTheirRemoval(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	put(t, s, "a")
	e, err := s.Get(key("a"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // removing nothing is no error
		if err := s.Remove(key("a")); err != nil {
			t.Fatal(err)
		}
	}
	check(t, e, "a")
}

func TestDiscardLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	w, err := s.Create(key("a"))
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("x"))
	w.Discard()
	if files, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(files) > 0 {
		t.Errorf("%q is left", files)
	}
}

func TestDamageIsFound(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	put(t, s, "a")
	name := s.path(key("a"))
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	dataSize := len("data of a")
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		os.WriteFile(name, bad, 0o600)
		e, err := s.Get(key("a"))
		if i < dataSize { // the data are for others to check
			if err != nil {
				t.Errorf("byte %d: %v", i, err)
			} else {
				e.Close()
			}
		} else if !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d: got %v", i, err)
		}
	}
	for n := range len(good) {
		os.WriteFile(name, good[:n], 0o600)
		if _, err := s.Get(key("a")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
	// A good entry in the place of another.
	put(t, s, "b")
	if err := os.Rename(s.path(key("b")), name); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(key("a")); !errors.Is(err, ErrDamaged) {
		t.Errorf("another entry: got %v", err)
	}
}

func TestPruneRemovesWhatWasUsedLast(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	for i, name := range []string{"a", "b", "c", "d"} {
		put(t, s, name)
		when := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(s.path(key(name)), when, when); err != nil {
			t.Fatal(err)
		}
	}
	e, err := s.Get(key("a")) // now it is the newest
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	list, err := s.List()
	if err != nil || len(list) != 4 || list[0].Key != key("b") || list[3].Key != key("a") {
		t.Fatalf("listed %v: %v", list, err)
	}
	n, size, err := s.Prune(2*list[0].Size + 1)
	if err != nil || n != 2 || size != 2*list[0].Size {
		t.Errorf("removed %d entries of %d bytes: %v", n, size, err)
	}
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
		e, err := s.Get(key(name))
		if (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			e.Close()
		}
	}
}

func TestStoresOfOthers(t *testing.T) {
	dir := t.TempDir()
	put(t, open(t, dir, 0), "a")
	if err := os.Chmod(dir, 0o775); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[Mode]bool{0: false, ReadOnly: false, Trusted: true, Trusted | ReadOnly: true} {
		_, err := Open(dir, mode)
		_, refused := errors.AsType[*TrustError](err)
		if refused == want || err != nil && !refused {
			t.Errorf("mode %d: %v", mode, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "none"), ReadOnly); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a store that is not there: %v", err)
	}
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, mode := range []Mode{0, ReadOnly} {
		if _, err := Open(file, mode); err == nil {
			t.Error("a file passes for a store")
		}
	}
}

func TestTemporaryEntriesHaveNoName(t *testing.T) {
	dir := t.TempDir()
	s := Temporary(dir)
	put(t, s, "a")
	if _, err := s.Get(key("a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	w, err := s.Create(key("b"))
	if err != nil {
		t.Fatal(err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("there is %v", files)
	}
	w.Discard()
}

func TestWhatOthersLeftIsSwept(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	w, err := s.Create(key("a")) // being written
	if err != nil {
		t.Fatal(err)
	}
	dead := strings.TrimSuffix(w.f.Name(), ".tmp") + "dead.tmp"
	if err := os.WriteFile(dead, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, dir, 0)
	if _, err := os.Stat(dead); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a dead process left is there: %v", err)
	}
	e, err := w.Commit(nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
}

// Whatever lies where an entry should be, reading it must end in an error or in an entry.
func FuzzGet(f *testing.F) {
	s := open(f, f.TempDir(), 0)
	put(f, s, "a")
	good, err := os.ReadFile(s.path(key("a")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[1:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(s.path(key("a")), b, 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := s.Get(key("a"))
		if err != nil {
			return
		}
		defer e.Close()
		if int64(len(e.Meta))+e.Size()+footerSize != int64(len(b)) {
			t.Errorf("of %d bytes, %d are data and %d metadata", len(b), e.Size(), len(e.Meta))
		}
	})
}
