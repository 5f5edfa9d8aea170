package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/inspect"
)

func openAt(t testing.TB, dir string, mode Mode) *Cache {
	t.Helper()
	c, err := Open(dir, mode)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// shelf is a shelf whose notes are collected.
type shelf struct {
	*Shelf
	notes []string
}

func newShelf(t testing.TB, own *Cache, from ...Source) *shelf {
	s := new(shelf)
	s.Shelf = NewShelf(own, from, t.TempDir(), func(text string) { s.notes = append(s.notes, text) })
	t.Cleanup(s.Close)
	return s
}

// noted compares the notes with words that each of them must have, and forgets them.
func (s *shelf) noted(t testing.TB, words ...string) {
	t.Helper()
	ok := len(s.notes) == len(words)
	for i := 0; ok && i < len(words); i++ {
		ok = strings.Contains(s.notes[i], words[i])
	}
	if !ok {
		t.Errorf("noted %q, want %q", s.notes, words)
	}
	s.notes = nil
}

// What the entries of these tests have: "data of NAME", and as metadata its length.
func dataOf(name string) string { return "data of " + name }

func keyOf(name string) Key { return NewKey("test", name) }

var errNotIt = errors.New("it is not it")

// want looks for an entry; its decoder knows the size, its proof the data.
func want(name string) *Want[*Entry] {
	return &Want[*Entry]{
		Key: keyOf(name), Name: "entry " + name,
		Decode: func(e *Entry) (*Entry, error) {
			if string(e.Meta) != fmt.Sprint(e.Size) {
				return nil, errNotIt
			}
			return e, nil
		},
		Prove: func(_ context.Context, e *Entry) error {
			if data, err := contents(e); err != nil || data != dataOf(name) {
				return errors.Join(errNotIt, err)
			}
			return nil
		},
	}
}

func contents(e *Entry) (string, error) {
	b, err := io.ReadAll(io.NewSectionReader(e.Data, 0, e.Size))
	return string(b), err
}

// put makes an entry, as it should be or with other data.
func put(t testing.TB, s *Shelf, name, data string) *Entry {
	t.Helper()
	w := s.Create(keyOf(name), true)
	defer w.Discard()
	io.WriteString(w, data)
	e, err := w.Commit(fmt.Append(nil, len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// get looks for an entry, and compares its data.
func get(t testing.TB, s *Shelf, name string) error {
	t.Helper()
	e, err := Get(t.Context(), s, want(name))
	if err == nil {
		if data, err := contents(e); err != nil || data != dataOf(name) {
			t.Errorf("%s has %q: %v", name, data, err)
		}
	}
	return err
}

func mustMiss(t testing.TB, s *Shelf, name string) {
	t.Helper()
	if err := get(t, s, name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v", name, err)
	}
}

func mustGet(t testing.TB, s *Shelf, name string) {
	t.Helper()
	if err := get(t, s, name); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// nameOf is the file of an entry, as the package comment has it.
func nameOf(c *Cache, k Key) string {
	return filepath.Join(c.Dir(), "v2", fmt.Sprintf("%02x", k.Sum[0]), fmt.Sprintf("%x.%s", k.Sum, k.Kind))
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// do fails the test for an error.
func do(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func flip(t testing.TB, name string, off int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	do(t, err)
	b[(off+int64(len(b)))%int64(len(b))] ^= 1
	do(t, os.WriteFile(name, b, 0o600))
}

func TestDamagedEntriesAreRemovedAndMadeAgain(t *testing.T) {
	for what, harm := range map[string]func(t *testing.T, name string){
		"the footer":      func(t *testing.T, name string) { flip(t, name, -1) },
		"the metadata":    func(t *testing.T, name string) { flip(t, name, int64(len(dataOf("a")))) },
		"cut":             func(t *testing.T, name string) { do(t, os.Truncate(name, 5)) },
		"empty":           func(t *testing.T, name string) { do(t, os.Truncate(name, 0)) },
		"a pipe":          func(t *testing.T, name string) { do(t, os.Remove(name)); do(t, unix.Mkfifo(name, 0o644)) },
		"a symbolic link": func(t *testing.T, name string) { do(t, os.Remove(name)); do(t, os.Symlink("/etc/passwd", name)) },
		"a directory":     func(t *testing.T, name string) { do(t, os.Remove(name)); do(t, os.Mkdir(name, 0o755)) },
		"a socket": func(t *testing.T, name string) {
			do(t, os.Remove(name))
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			do(t, err)
			defer unix.Close(fd)
			do(t, os.Chdir(filepath.Dir(name))) // names of sockets are short
			do(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Base(name)}))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Chdir(".")
			c := openAt(t, t.TempDir(), Own)
			put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
			name := nameOf(c, keyOf("a"))
			harm(t, name)
			s := newShelf(t, c)
			mustMiss(t, s.Shelf, "a")
			s.noted(t, "entry a")
			if exists(name) {
				t.Error("what is damaged is there")
			}
			put(t, s.Shelf, "a", dataOf("a"))
			mustGet(t, s.Shelf, "a")
			s.noted(t)
		})
	}
}

// What an entry says of itself is judged by who knows its kind.
func TestEntriesThatMakeNoSenseAreRemoved(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	w := s.Create(keyOf("a"), true)
	_, err := w.Commit([]byte("nonsense"))
	do(t, err)
	mustMiss(t, s.Shelf, "a")
	s.noted(t, errNotIt.Error())
	if exists(nameOf(c, keyOf("a"))) {
		t.Error("the entry is there")
	}
}

// What is damaged each time that it is made does not keep a build busy for ever.
func TestMakingAgainEnds(t *testing.T) {
	s := newShelf(t, openAt(t, t.TempDir(), Own))
	for i := range 10 {
		put(t, s.Shelf, "a", dataOf("a"))
		if err := s.GiveUp(keyOf("a"), "entry a", errNotIt, true); err != nil {
			if err != errNotIt || i < 2 {
				t.Errorf("after %d times: %v", i, err)
			}
			return
		}
	}
	t.Error("it is made again and again")
}

// What is of no use now, and may yet be right, stays until it is made again.
func TestOnlyWhatIsProvedIsRemoved(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	put(t, s.Shelf, "a", dataOf("a"))
	do(t, s.GiveUp(keyOf("a"), "entry a", errNotIt, false))
	s.noted(t, "entry a")
	mustMiss(t, s.Shelf, "a")
	mustGet(t, newShelf(t, c).Shelf, "a")
	put(t, s.Shelf, "a", dataOf("a"))
	mustGet(t, s.Shelf, "a")
}

// unreadable makes it impossible to read an entry, whoever asks, and says nothing about the entry itself.
func unreadable(t testing.TB, c *Cache, k Key) (undo func()) {
	t.Helper()
	folder := filepath.Dir(nameOf(c, k))
	do(t, os.Rename(folder, folder+".moved"))
	do(t, os.Symlink("nowhere", folder))
	return func() {
		t.Helper()
		do(t, os.Remove(folder))
		do(t, os.Rename(folder+".moved", folder))
	}
}

func TestUnreadableEntriesStay(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
	undo := unreadable(t, c, keyOf("a"))
	s := newShelf(t, c)
	for range 3 {
		mustMiss(t, s.Shelf, "a")
	}
	s.noted(t, "what cannot be read in the cache is made again")
	// It can be made, in a temporary file.
	put(t, s.Shelf, "a", dataOf("a"))
	s.noted(t, "nothing more is kept there")
	undo()
	s = newShelf(t, c)
	mustGet(t, s.Shelf, "a")
	s.noted(t)
}

// Without a file descriptor to spare, nothing can be read, and nothing is lost.
func TestTooManyOpenFiles(t *testing.T) {
	dir := os.Getenv("CACHE_WITHOUT_FILES")
	if dir == "" {
		dir = t.TempDir()
		c := openAt(t, dir, Own)
		put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), "CACHE_WITHOUT_FILES="+dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		mustGet(t, newShelf(t, c).Shelf, "a")
		return
	}
	c := openAt(t, dir, Own)
	s := newShelf(t, c)
	var limit unix.Rlimit
	do(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	limit.Cur = 64
	do(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	var files []*os.File
	for {
		f, err := os.Open("/")
		if err != nil {
			break
		}
		files = append(files, f)
	}
	mustMiss(t, s.Shelf, "a")
	_, err := c.Entry(t.Context(), keyOf("a"))
	if !errors.Is(err, unix.EMFILE) || !Unreadable(err) {
		t.Errorf("got %v", err)
	}
	s.noted(t, "too many open files")
	for _, f := range files {
		f.Close()
	}
	mustGet(t, s.Shelf, "a")
}

func TestEntriesThatOthersCouldHaveWritten(t *testing.T) {
	for what, of := range map[string]func(string) string{
		"the entry":  func(name string) string { return name },
		"its folder": filepath.Dir,
	} {
		c := openAt(t, t.TempDir(), Own)
		put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
		name := of(nameOf(c, keyOf("a")))
		info, err := os.Stat(name)
		do(t, err)
		do(t, os.Chmod(name, info.Mode().Perm()|0o002)) // while the cache is open
		s := newShelf(t, c)
		mustMiss(t, s.Shelf, "a")
		s.noted(t, "lets others write to it")
		if _, err := c.Entry(t.Context(), keyOf("a")); err == nil {
			t.Errorf("%s: the entry is taken", what)
		}
		put(t, s.Shelf, "a", dataOf("a"))
		mustGet(t, s.Shelf, "a")
		if info, err := os.Stat(name); err != nil || info.Mode().Perm()&0o022 != 0 {
			t.Errorf("%s: mode %v: %v", what, info.Mode(), err)
		}
		// Those who trust the others take it.
		do(t, os.Chmod(name, info.Mode().Perm()|0o002))
		mustGet(t, newShelf(t, openAt(t, c.Dir(), Shared)).Shelf, "a")
	}
}

func TestCachesThatOthersCanWriteTo(t *testing.T) {
	for _, mode := range []fs.FileMode{0o775, 0o757, 0o1777} {
		dir := t.TempDir()
		do(t, unix.Chmod(dir, uint32(mode.Perm())|uint32(mode)&0o1000))
		_, err := Open(dir, Own)
		if _, ok := errors.AsType[*TrustError](err); !ok {
			t.Errorf("%#o: got %v", mode, err)
		}
		for _, m := range []Mode{Shared, Foreign, Trusted} {
			openAt(t, dir, m)
		}
	}
	for _, m := range []Mode{Foreign, Trusted} {
		dir := filepath.Join(t.TempDir(), "none")
		if _, err := Open(dir, m); !errors.Is(err, fs.ErrNotExist) || exists(dir) {
			t.Errorf("a cache of others that is not there: %v", err)
		}
	}
}

// refusing makes a cache take nothing, whoever asks.
func refusing(t testing.TB, c *Cache) {
	t.Helper()
	tmp := filepath.Join(c.Dir(), "tmp")
	do(t, os.RemoveAll(tmp))
	do(t, os.WriteFile(tmp, nil, 0o644))
}

func TestCachesThatTakeNothing(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
	refusing(t, c)
	s := newShelf(t, c)
	mustGet(t, s.Shelf, "a")
	for _, name := range []string{"b", "c"} { // what is needed is in temporary files
		e := put(t, s.Shelf, name, dataOf(name))
		if data, err := contents(e); err != nil || data != dataOf(name) {
			t.Errorf("%s has %q: %v", name, data, err)
		}
	}
	s.noted(t, "nothing more is kept there")
	if s.Keeps() {
		t.Error("the cache is still asked")
	}
	w := s.Create(keyOf("d"), false) // what is not needed is nowhere
	io.WriteString(w, dataOf("d"))
	if e, err := w.Commit(nil); e != nil || err != nil || w.InCache() {
		t.Errorf("got %v: %v", e, err)
	}
	do(t, s.Keep(keyOf("e"), 1))

	strict := newShelf(t, c).Strict()
	w = strict.Create(keyOf("b"), true)
	if _, err := io.WriteString(w, dataOf("b")); err == nil {
		t.Error("a cache that is to be filled takes nothing, and that is no error")
	}
	if _, ok := errors.AsType[*Error](strict.Keep(keyOf("e"), 1)); !ok {
		t.Error("a record is not kept, and that is no error")
	}
}

// An entry that is refused when it has been written goes on elsewhere, with all its data.
func TestEntriesThatAreHalfRefused(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	do(t, os.MkdirAll(filepath.Join(c.Dir(), "v2"), 0o755))
	do(t, os.WriteFile(filepath.Dir(nameOf(c, keyOf("a"))), nil, 0o644))
	s := newShelf(t, c)
	data := strings.Repeat("0123456789", 300_000)
	w := s.Create(keyOf("a"), true)
	for part := range strings.SplitSeq(data, "5") {
		io.WriteString(w, part+"5")
	}
	buf := make([]byte, len(data))
	if _, err := w.ReadAt(buf, 0); err != nil || string(buf) != data {
		t.Errorf("while it is written: %v", err)
	}
	e, err := w.Commit([]byte("meta"))
	do(t, err)
	if got, err := contents(e); err != nil || got != data+"5" || string(e.Meta) != "meta" || w.InCache() {
		t.Errorf("%d bytes, metadata %q: %v", len(got), e.Meta, err)
	}
	s.noted(t, "nothing more is kept there")
	w.Discard()
	if files, _ := os.ReadDir(filepath.Join(c.Dir(), "tmp")); len(files) > 0 {
		t.Errorf("%v is left", files)
	}
}

func TestTemporaryEntriesLeaveNoFile(t *testing.T) {
	s := newShelf(t, nil)
	var made []*Entry
	for i := range 100 {
		made = append(made, put(t, s.Shelf, fmt.Sprint(i), dataOf(fmt.Sprint(i))))
	}
	w := s.Temporary()
	io.WriteString(w, "more")
	if _, err := w.Commit(nil); err != nil {
		t.Error(err)
	}
	for i, e := range made {
		if data, err := contents(e); err != nil || data != dataOf(fmt.Sprint(i)) {
			t.Errorf("%d has %q: %v", i, data, err)
		}
	}
	mustMiss(t, s.Shelf, "1") // it has no key
	s.noted(t)
	s.Close()
	_, err := contents(made[0])
	if _, ok := errors.AsType[*SpoolError](err); !ok {
		t.Errorf("after the end: %v", err)
	}
	bad := NewShelf(nil, nil, filepath.Join(t.TempDir(), "none"), nil)
	w = bad.Create(keyOf("a"), true)
	if _, err := io.WriteString(w, "x"); err == nil {
		t.Error("a temporary file in a directory that does not exist")
	}
}

// A file of a few blocks that says it is huge is not believed.
func TestHugeSizesAreNotBelieved(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
	name := nameOf(c, keyOf("a"))
	b, err := os.ReadFile(name)
	do(t, err)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_TRUNC, 0)
	do(t, err)
	defer f.Close()
	_, err = f.WriteAt(b[len(b)-64:], 200<<30)
	do(t, err)
	if _, err := c.Entry(t.Context(), keyOf("a")); !errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
}

func TestEntriesThatVanish(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	put(t, s.Shelf, "a", dataOf("a"))
	e, err := Get(t.Context(), s.Shelf, want("a"))
	do(t, err)
	other := openAt(t, c.Dir(), Own) // another process
	if n, err := other.Prune(0); err != nil || n.Entries != 1 {
		t.Fatalf("%v: %v", n, err)
	}
	c.Close() // no file is open
	_, err = contents(e)
	if !isGone(err) || !Unreadable(err) || errors.Is(err, ErrDamaged) {
		t.Errorf("got %v", err)
	}
	mustMiss(t, s.Shelf, "a")
	s.noted(t)
	put(t, s.Shelf, "a", dataOf("a"))
	if data, err := contents(e); err != nil || data != dataOf("a") {
		t.Errorf("made again, it has %q: %v", data, err)
	}
}

// What was used least recently goes first, of whatever kind it is.
func TestPruneGoesByUse(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	kinds := []string{"segment", "blob", "facts", "layer", "segment"}
	var keys []Key
	for i, kind := range kinds {
		k := NewKey(kind, fmt.Sprint(i))
		w := s.Create(k, true)
		w.Write(make([]byte, 1000))
		_, err := w.Commit(nil)
		do(t, err)
		when := time.Unix(int64(1000+i), 0)
		do(t, os.Chtimes(nameOf(c, k), when, when))
		keys = append(keys, k)
	}
	_, err := c.Entry(t.Context(), keys[0]) // used now
	do(t, err)
	info, err := c.Info()
	if err != nil || info.Entries != 5 || info.Kinds["segment"] != (Count{2, info.Size / 5 * 2}) || info.Kinds["layer"].Entries != 1 {
		t.Fatalf("%+v: %v", info, err)
	}
	removed, err := c.Prune(info.Size / 5 * 2)
	if err != nil || removed.Entries != 3 {
		t.Errorf("removed %+v: %v", removed, err)
	}
	for i, k := range keys {
		if stays := i == 0 || i == 4; exists(nameOf(c, k)) != stays {
			t.Errorf("%s %d: there: %v", k.Kind, i, !stays)
		}
	}
}

// Folders of earlier layouts go with the next prune, and are not counted.
func TestEarlierLayoutsArePruned(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	old := []string{"v1", "gpu/v1", "oci/v1"}
	for _, dir := range old {
		name := filepath.Join(c.Dir(), dir, "ab", strings.Repeat("ab", 32))
		do(t, os.MkdirAll(filepath.Dir(name), 0o755))
		do(t, os.WriteFile(name, nil, 0o644))
	}
	put(t, newShelf(t, c).Shelf, "a", dataOf("a"))
	if info, err := c.Info(); err != nil || info.Entries != 1 {
		t.Errorf("%+v: %v", info, err)
	}
	if n, err := c.Prune(1 << 30); err != nil || n.Entries != 0 {
		t.Errorf("%+v: %v", n, err)
	}
	for _, dir := range old {
		if exists(filepath.Join(c.Dir(), dir)) {
			t.Errorf("%s is there", dir)
		}
	}
	mustGet(t, newShelf(t, c).Shelf, "a")
}

func TestForeignSourcesAreProved(t *testing.T) {
	dir := t.TempDir()
	filled := newShelf(t, openAt(t, dir, Own))
	put(t, filled.Shelf, "good", dataOf("good"))
	put(t, filled.Shelf, "forged", dataOf("Forged")) // of the right size

	for _, test := range []struct {
		mode  Mode
		keeps bool
	}{{Foreign, true}, {Foreign, false}, {Trusted, true}, {Trusted, false}} {
		var own *Cache
		if test.keeps {
			own = openAt(t, t.TempDir(), Own)
		}
		s := newShelf(t, own, openAt(t, dir, test.mode))
		mustGet(t, s.Shelf, "good")
		s.noted(t)
		e, err := Get(t.Context(), s.Shelf, want("forged"))
		if test.mode == Trusted { // relied on as it is
			if err != nil {
				t.Error(err)
			} else if data, err := contents(e); err != nil || data != dataOf("Forged") {
				t.Errorf("%q: %v", data, err)
			}
			s.noted(t)
		} else {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
			s.noted(t, "entry forged in the cache "+dir)
		}
		if own != nil {
			if !exists(nameOf(own, keyOf("good"))) || exists(nameOf(own, keyOf("forged"))) != (test.mode == Trusted) {
				t.Errorf("%+v: what is in the own cache", test)
			}
		}
	}
	if !exists(filepath.Join(dir, "v2")) || !exists(nameOf(filled.own, keyOf("forged"))) {
		t.Error("a cache of others has been changed")
	}
}

// sick is a source whose disk fails after some bytes.
type sick struct {
	err   error
	asked int
}

func (s *sick) Entry(context.Context, Key) (*Entry, error) {
	s.asked++
	return &Entry{Data: io.NewSectionReader(sickData{s.err}, 0, 9), Size: 9, Meta: []byte("9")}, nil
}
func (*sick) Trusted() bool  { return false }
func (*sick) String() string { return "sick disk" }

type trusted struct{ *sick }

func (trusted) Trusted() bool { return true }

type sickData struct{ err error }

func (d sickData) ReadAt([]byte, int64) (int, error) { return 0, d.err }

// A source that fails is passed over, with one note if it is the disk's fault, and the next one is asked.
func TestSourcesThatFail(t *testing.T) {
	dir := t.TempDir()
	filled := newShelf(t, openAt(t, dir, Own))
	put(t, filled.Shelf, "a", dataOf("a"))
	put(t, filled.Shelf, "b", dataOf("b"))
	bad := &sick{err: &Error{Dir: "sick", Err: unix.EIO}}
	s := newShelf(t, openAt(t, t.TempDir(), Own), bad, openAt(t, dir, Foreign))
	mustGet(t, s.Shelf, "a")
	mustGet(t, s.Shelf, "b")
	s.noted(t, "input/output error; what cannot be read there is not used")
	if bad.asked != 2 {
		t.Errorf("it was asked %d times", bad.asked)
	}
	mustGet(t, s.Shelf, "a") // now of the own cache
	if bad.asked != 2 {
		t.Error("sources are asked for what the own cache has")
	}
	// One that is trusted is not read before its data are wanted, unless there is a cache to copy them to.
	if _, err := Get(t.Context(), newShelf(t, nil, trusted{bad}).Shelf, want("a")); err != nil {
		t.Error(err)
	}
	s = newShelf(t, openAt(t, t.TempDir(), Own), trusted{bad})
	mustMiss(t, s.Shelf, "a")
	s.noted(t, "input/output error")
	// One that is shorter than it says is damaged.
	s = newShelf(t, nil, &sick{err: io.EOF})
	mustMiss(t, s.Shelf, "a")
	s.noted(t, ErrDamaged.Error())
}

// The errors of where something is to be kept are not those of a source.
func TestSourcesAreNotBlamedForTheOwnDisk(t *testing.T) {
	dir := t.TempDir()
	put(t, newShelf(t, openAt(t, dir, Own)).Shelf, "a", dataOf("a"))
	s := NewShelf(nil, []Source{openAt(t, dir, Foreign)}, filepath.Join(t.TempDir(), "none"), func(text string) { t.Error(text) })
	defer s.Close()
	_, err := Get(t.Context(), s, want("a"))
	if _, ok := errors.AsType[*SpoolError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestRecords(t *testing.T) {
	own, dir := openAt(t, t.TempDir(), Own), t.TempDir()
	do(t, newShelf(t, openAt(t, dir, Own)).Keep(keyOf("theirs"), "x"))
	do(t, newShelf(t, own).Keep(keyOf("mine"), "y"))
	for _, test := range []struct {
		mode Mode
		key  string
		want string
	}{{Foreign, "mine", "y"}, {Foreign, "theirs", ""}, {Trusted, "theirs", "x"}, {Trusted, "none", ""}} {
		s := newShelf(t, own, openAt(t, dir, test.mode))
		var got string
		err := s.Recall(t.Context(), keyOf(test.key), &got)
		if got != test.want || (test.want == "") != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
	if err := newShelf(t, nil).Recall(t.Context(), keyOf("mine"), new(string)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a cache: %v", err)
	}
	flip(t, nameOf(own, keyOf("mine")), 0)
	s := newShelf(t, own)
	if err := s.Recall(t.Context(), keyOf("mine"), new(string)); !errors.Is(err, fs.ErrNotExist) || exists(nameOf(own, keyOf("mine"))) {
		t.Errorf("a damaged one: %v", err)
	}
	do(t, s.Keep(keyOf("mine"), "z"))
	undo := unreadable(t, own, keyOf("mine"))
	for range 2 {
		if err := s.Recall(t.Context(), keyOf("mine"), new(string)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("one that cannot be read: %v", err)
		}
	}
	s.noted(t, "it is not used")
	undo()
	do(t, s.Recall(t.Context(), keyOf("mine"), new(string)))
}

// Verify proves entries by their kinds, and removes what was derived of those that differ.
func TestVerifyByKind(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	put(t, s.Shelf, "good", dataOf("good"))
	put(t, s.Shelf, "forged", dataOf("Forged"))
	other, derived := NewKey("other", "x"), NewKey("derived", "x")
	do(t, s.Keep(other, 1))
	do(t, s.Keep(derived, 1))
	facts := records{s.Shelf, c, factsKind}
	do(t, facts.Put(closure.Hash{1}, inspect.Facts{}))
	do(t, facts.Put(closure.Hash{2}, inspect.Facts{})) // of nothing
	seen := records{s.Shelf, c, seenKind}
	do(t, seen.Put(closure.Hash{1}, inspect.Facts{}))

	kind := Kind{Name: "test", Derived: []string{"derived"}, Prove: func(ctx context.Context, k Key, e *Entry) (*Tree, error) {
		for _, name := range []string{"good", "forged"} {
			if k == keyOf(name) {
				files := func(context.Context) (fs.FS, string, error) { return fstest.MapFS{"x": {}}, "x", nil }
				return &Tree{closure.Hash{1}, files}, want(name).Prove(ctx, e)
			}
		}
		return nil, errNotIt
	}}
	verify := func() (v *Verified, removed []Key) {
		t.Helper()
		v, err := c.Verify(t.Context(), []Kind{kind}, nil, func(k Key, _ error) { removed = append(removed, k) })
		do(t, err)
		return v, removed
	}
	v, removed := verify()
	if *v != (Verified{3, 1}) || len(removed) != 1 || removed[0] != keyOf("forged") {
		t.Errorf("%+v, removed %v", v, removed)
	}
	for k, stays := range map[Key]bool{
		keyOf("good"): true, keyOf("forged"): false, other: true, derived: false,
		facts.key(closure.Hash{1}): true, facts.key(closure.Hash{2}): false, seen.key(closure.Hash{1}): false,
	} {
		if exists(nameOf(c, k)) != stays {
			t.Errorf("%v: there: %v", k, !stays)
		}
	}
	do(t, s.Keep(derived, 1))
	if v, _ := verify(); *v != (Verified{2, 0}) || !exists(nameOf(c, derived)) {
		t.Errorf("when all is right: %+v", v)
	}
	// What others can have written is damaged as well.
	do(t, os.Chmod(nameOf(c, keyOf("good")), 0o666))
	if v, _ := verify(); v.Removed != 1 || exists(nameOf(c, keyOf("good"))) {
		t.Errorf("one that others can have written: %+v", v)
	}
	// What cannot be read is an error, and stays.
	put(t, s.Shelf, "good", dataOf("good"))
	kind.Prove = func(context.Context, Key, *Entry) (*Tree, error) { return nil, &Error{Dir: c.Dir(), Err: unix.EIO} }
	_, err := c.Verify(t.Context(), []Kind{kind}, nil, func(k Key, _ error) { t.Errorf("%v is removed", k) })
	if !errors.Is(err, unix.EIO) || !exists(nameOf(c, keyOf("good"))) {
		t.Errorf("one that cannot be read: %v", err)
	}
}

// Two that make the same entry do not get into each other's way.
func TestTheSameEntryTwice(t *testing.T) {
	c := openAt(t, t.TempDir(), Own)
	s := newShelf(t, c)
	a, b := s.Create(keyOf("a"), true), s.Create(keyOf("a"), true)
	for _, w := range []*Writer{a, b} {
		io.WriteString(w, dataOf("a"))
	}
	for _, w := range []*Writer{a, b} {
		e, err := w.Commit(fmt.Append(nil, len(dataOf("a"))))
		do(t, err)
		if data, err := contents(e); err != nil || data != dataOf("a") {
			t.Errorf("%q: %v", data, err)
		}
	}
	mustGet(t, s.Shelf, "a")
	files, err := filepath.Glob(filepath.Join(c.Dir(), "tmp", "*"))
	if err != nil || len(files) > 0 {
		t.Errorf("%q are left: %v", files, err)
	}
}
