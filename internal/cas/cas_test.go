package cas

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t testing.TB, dir string, mode Mode) *Store {
	t.Helper()
	s, err := Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func key(s string) Key { return NewKey("test", s) }

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
	data, err := io.ReadAll(io.NewSectionReader(e, 0, e.Size()))
	if err != nil || string(data) != "data of "+name || string(e.Meta) != "meta of "+name {
		t.Errorf("%s has %q and %q: %v", name, data, e.Meta, err)
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

func TestEntriesThatAreRemoved(t *testing.T) {
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
	if _, err := e.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
	put(t, s, "a")
	check(t, e, "a")
	// Another one in its place is not taken for it.
	w, err := s.Create(key("a"))
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("other"))
	if _, err := w.Commit(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

// However many entries there are, few files are open.
func TestFewFilesAreOpen(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	var list []*Entry
	for i := range 3 * maxOpen {
		name := fmt.Sprint(i)
		put(t, s, name)
		e, err := s.Get(key(name))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	for range 2 {
		var wg sync.WaitGroup
		for i, e := range list {
			wg.Go(func() { check(t, e, fmt.Sprint(i)) })
		}
		wg.Wait()
	}
	check(t, list[0], "0")
	if n := len(s.files.open); n > maxOpen {
		t.Errorf("%d files are open", n)
	}
	if s.Close(); len(s.files.open) > 0 {
		t.Error("files are open when the store is closed")
	}
}

// Whose an entry is, is asked of the entry and its folder.
func TestEntriesOfOthers(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	put(t, s, "a")
	for _, name := range []string{s.path(key("a")), s.folder(key("a"))} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, info.Mode().Perm()|0o020); err != nil {
			t.Fatal(err)
		}
		_, err = s.Get(key("a"))
		if _, ok := errors.AsType[*TrustError](err); !ok {
			t.Errorf("%s: got %v", name, err)
		}
		put(t, s, "a") // takes the place of the entry, and closes the folder
	}
	if _, err := s.Get(key("a")); err != nil {
		t.Error(err)
	}
}

// What is no file is not waited for, and what a footer says of itself is not believed.
func TestOddFiles(t *testing.T) {
	s := open(t, t.TempDir(), 0)
	put(t, s, "a")
	k := key("a")
	name := s.path(k)
	forge := func(meta int64) func() error {
		return func() error {
			b := footer(k, 0, nil)
			binary.LittleEndian.PutUint64(b[48:], uint64(meta))
			binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
			f, err := os.Create(name)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt(b, meta)
			return err
		}
	}
	for what, make := range map[string]func() error{
		"a pipe":            func() error { return unix.Mkfifo(name, 0o644) },
		"a directory":       func() error { return os.Mkdir(name, 0o755) },
		"a link":            func() error { return os.Symlink("/etc/passwd", name) },
		"nothing":           func() error { return os.WriteFile(name, nil, 0o644) },
		"sparse metadata":   forge(1 << 40),
		"metadata of zeros": forge(1 << 20),
	} {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(k); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v", what, err)
		}
	}
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
		_, err := s.Get(key("a"))
		if i < dataSize { // the data are for others to check
			if err != nil {
				t.Errorf("byte %d: %v", i, err)
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
	if _, err := s.Get(key("a")); err != nil { // now it is the newest
		t.Fatal(err)
	}
	list, err := s.List()
	if err != nil || len(list) != 4 || list[0].Key != key("b") || list[3].Key != key("a") {
		t.Fatalf("listed %v: %v", list, err)
	}
	n, size, err := s.Prune(2*list[0].Size + 1)
	if err != nil || n != 2 || size != 2*list[0].Size {
		t.Errorf("removed %d entries of %d bytes: %v", n, size, err)
	}
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": true} {
		if _, err := s.Get(key(name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
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

func TestSpooledEntriesHaveNoName(t *testing.T) {
	dir := t.TempDir()
	s := NewSpool(dir)
	defer s.Close()
	const n = 300 // more than files may be open on many hosts, with all the others
	var writers []*SpoolWriter
	for range n {
		writers = append(writers, s.Create())
	}
	for round := range 3 { // so that the entries lie in pieces
		for i, w := range writers {
			fmt.Fprintf(w, "%d of %d, ", round, i)
		}
	}
	for i, w := range writers {
		e := w.Commit(nil)
		want := fmt.Sprintf("0 of %d, 1 of %d, 2 of %d, ", i, i, i)
		if data, err := io.ReadAll(io.NewSectionReader(e, 0, 1<<20)); err != nil || string(data) != want {
			t.Fatalf("%d has %q: %v", i, data, err)
		}
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("there is %v", files)
	}
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
	if _, err := w.Commit(nil); err != nil {
		t.Fatal(err)
	}
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
		if int64(len(e.Meta))+e.Size()+footerSize != int64(len(b)) {
			t.Errorf("of %d bytes, %d are data and %d metadata", len(b), e.Size(), len(e.Meta))
		}
	})
}

// Entries of earlier versions are removed, and nothing else.
func TestOlderEntriesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 0)
	put(t, s, "a")
	name := strings.Repeat("ab", 32)
	for _, f := range []string{"v1/ab/" + name, "gpu/v1/ab/" + name, "oci/v1/ab/" + name, "oci/precious", "v1/ab/precious"} {
		f = filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(f), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	os.Mkdir(filepath.Join(dir, "gpu", "tmp"), 0o755)
	s.RemoveOlder()
	var left []string
	filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(name, s.entries()) {
			left = append(left, strings.TrimPrefix(name, dir))
		}
		return err
	})
	if fmt.Sprint(left) != "[/oci/precious /v1/ab/precious]" {
		t.Errorf("left: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "gpu")); err == nil {
		t.Error("gpu is left")
	}
	if _, err := s.Get(key("a")); err != nil {
		t.Error(err)
	}
}
