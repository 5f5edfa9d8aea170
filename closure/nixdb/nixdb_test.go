package nixdb_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nixdb"
	"github.com/nix2img/nix2img/closure/nixdb/nixdbtest"
)

func path(name string) closure.Path {
	return closure.Path("/nix/store/" + strings.Repeat("0", 32) + "-" + name)
}

// create makes a database and leaves it open.
func create(t *testing.T, dir, journalMode string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	execute(t, db, "PRAGMA journal_mode="+journalMode)
	execute(t, db, "PRAGMA wal_autocheckpoint=0")
	execute(t, db, nixdbtest.Schema)
	return db
}

func execute(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.Exec(query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

// register adds "name: references" to a database.
func register(t *testing.T, db *sql.DB, objects ...string) {
	t.Helper()
	for i, s := range objects {
		name, refs, _ := strings.Cut(s, ":")
		p := string(path(name))
		hash := fmt.Sprintf("sha256:%064x", int(name[0]))
		execute(t, db, "INSERT INTO ValidPaths (path, hash, registrationTime, narSize) VALUES (?, ?, ?, ?)", p, hash, 1000+i, 100+i)
		for _, ref := range strings.Fields(refs) {
			execute(t, db, `INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b WHERE a.path = ? AND b.path = ?`, p, string(path(ref)))
		}
	}
}

// names opens the database in a directory and returns the names of the closure of roots.
func names(dir string, roots ...closure.Path) (string, error) {
	db, err := nixdb.Open(dir)
	if err != nil {
		return "", err
	}
	temps, _ := filepath.Glob(filepath.Join(os.TempDir(), "nix2img-db-*"))
	c, err := db.Closure(context.Background(), "/nix/store", roots...)
	if err := errors.Join(err, db.Close()); err != nil {
		return "", err
	}
	if os.Getenv("TMPDIR") != "" && len(temps) > 0 {
		return "", fmt.Errorf("while the database is open there are %s", temps)
	}
	var names []string
	for _, o := range c.Objects() {
		names = append(names, o.Path.Name())
	}
	return strings.Join(names, " "), nil
}

func TestClosure(t *testing.T) {
	dir := t.TempDir()
	db := create(t, dir, "wal")
	register(t, db, "c:", "b: b c", "a: b c", "x: c", "z:")
	execute(t, db, "UPDATE ValidPaths SET narSize = NULL WHERE path = ?", string(path("c")))
	db.Close()

	d, err := nixdb.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	c, err := d.Closure(t.Context(), "/nix/store", path("x"), path("a"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []closure.Object{
		{Path: path("c"), NARHash: closure.Hash{31: 'c'}},
		{Path: path("x"), NARHash: closure.Hash{31: 'x'}, NARSize: 103, References: []closure.Path{path("c")}},
		{Path: path("b"), NARHash: closure.Hash{31: 'b'}, NARSize: 101, References: []closure.Path{path("b"), path("c")}},
		{Path: path("a"), NARHash: closure.Hash{31: 'a'}, NARSize: 102, References: []closure.Path{path("b"), path("c")}},
	} {
		if got := c.Objects()[i]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("object %d is %v, want %v", i, got, want)
		}
	}
	if got := c.Roots(); len(got) != 2 || got[0] != path("x") {
		t.Errorf("roots are %v", got)
	}
}

// The states in which Nix may leave its database.
// In each, "new" has been registered after the last checkpoint.
var states = map[string]struct {
	files []string // that there are beside db.sqlite
	open  bool     // Nix runs
	want  string
}{
	"log and its index":       {files: []string{"-wal", "-shm"}, want: "old new"},
	"log without its index":   {files: []string{"-wal"}, want: "old new"},
	"in use":                  {open: true, want: "old new"},
	"empty log and its index": {files: []string{"empty-wal", "-shm"}, want: "old"},
	"empty log, no index":     {files: []string{"empty-wal"}, want: "old"},
	"neither log nor index":   {want: "old"},
	"index only":              {files: []string{"-shm"}, want: "old"},
}

// makeState makes a database in the given state, and returns its directory.
func makeState(t *testing.T, files []string, open bool) string {
	from := t.TempDir()
	db := create(t, from, "wal")
	register(t, db, "old:")
	execute(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	register(t, db, "new: old")
	if open {
		return from
	}
	to := t.TempDir()
	copyFile(t, to, from, "db.sqlite")
	for _, suffix := range files {
		if suffix == "empty-wal" {
			if err := os.WriteFile(filepath.Join(to, "db.sqlite-wal"), nil, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		copyFile(t, to, from, "db.sqlite"+suffix)
	}
	return to
}

func copyFile(t *testing.T, to, from, name string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(from, name))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, name), b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNothingIsMissedInAnyState(t *testing.T) {
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			dir := makeState(t, state.files, state.open)
			t.Setenv("TMPDIR", t.TempDir())
			checkState(t, state.want, func(root closure.Path) (string, error) { return names(dir, root) })
			checkEmpty(t, os.TempDir())
		})
	}
}

// TestNothingIsMissedByOthers reads databases that the reader may not write to, nor to their directory.
func TestNothingIsMissedByOthers(t *testing.T) {
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			dir := makeState(t, state.files, state.open)
			before := list(t, dir)
			if err := os.Chmod(dir, 0o555); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(dir, 0o755) })
			temp := t.TempDir()
			checkState(t, state.want, func(root closure.Path) (string, error) { return unprivileged(t, dir, temp, root) })
			checkEmpty(t, temp)
			if after := list(t, dir); after != before {
				t.Errorf("the directory had %s, and has %s", before, after)
			}
		})
	}
}

func checkState(t *testing.T, want string, names func(root closure.Path) (string, error)) {
	t.Helper()
	root := path("new")
	if want == "old" {
		if got, err := names(root); err == nil || !strings.Contains(err.Error(), "not registered") {
			t.Errorf("new: %s, %v", got, err)
		}
		root = path("old")
	}
	if got, err := names(root); got != want || err != nil {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	if left := list(t, dir); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

func list(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// unprivileged is names as somebody who is not root: if we are, in another process.
func unprivileged(t *testing.T, dir, temp string, root closure.Path) (string, error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Setenv("TMPDIR", temp)
		return names(dir, root)
	}
	self := filepath.Join(t.TempDir(), "test")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(exe)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(self, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Dir(dir), filepath.Dir(self), filepath.Dir(filepath.Dir(self)), filepath.Dir(temp)} {
		if err := os.Chmod(d, 0o755); err != nil { // those that t.TempDir makes
			t.Fatal(err)
		}
	}
	for d := dir; d != "/"; d = filepath.Dir(d) {
		if info, err := os.Stat(d); err != nil || info.Mode()&0o001 == 0 {
			t.Skipf("others may not enter %s", d)
		}
	}
	if err := os.Chmod(temp, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Dir = "/"
	cmd.Env = []string{"TMPDIR=" + temp, "NIXDB_DIR=" + dir, "NIXDB_ROOT=" + string(root)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	b, err := cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", errors.New(string(e.Stderr))
	}
	if err != nil {
		t.Skipf("no process of another user: %v", err)
	}
	return string(b), nil
}

func TestMain(m *testing.M) {
	if dir := os.Getenv("NIXDB_DIR"); dir != "" {
		got, err := names(dir, closure.Path(os.Getenv("NIXDB_ROOT")))
		if err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Print(got)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestHotJournal(t *testing.T) {
	// The writer has died in a transaction: half of it is in the database, and the journal undoes that.
	from := t.TempDir()
	db := create(t, from, "truncate")
	register(t, db, "old:")
	execute(t, db, "PRAGMA cache_size=1")
	execute(t, db, "PRAGMA cache_spill=1")
	execute(t, db, "BEGIN")
	execute(t, db, "UPDATE ValidPaths SET hash = 'x'")
	for i := range 2000 {
		register(t, db, fmt.Sprintf("n%d:", i))
	}
	to := t.TempDir()
	copyFile(t, to, from, "db.sqlite")
	if got, err := names(to, path("old")); err == nil {
		t.Fatalf("without its journal the database is in order, which proves nothing: read %q", got)
	}
	copyFile(t, to, from, "db.sqlite-journal")
	for _, read := range []func() (string, error){
		func() (string, error) { return unprivileged(t, to, t.TempDir(), path("old")) },
		func() (string, error) { return names(to, path("old")) },
	} {
		if got, err := read(); got != "old" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

func TestRollbackJournalMode(t *testing.T) {
	dir := t.TempDir()
	db := create(t, dir, "truncate")
	register(t, db, "old:", "new: old")
	if got, err := names(dir, path("new")); got != "old new" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if got, err := unprivileged(t, dir, t.TempDir(), path("new")); got != "old new" || err != nil {
		t.Errorf("others read %q, %v", got, err)
	}
}

func TestOddDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a?mode=memory&b #%41 ä")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from := t.TempDir()
	db := create(t, from, "wal")
	register(t, db, "a:")
	db.Close()
	copyFile(t, dir, from, "db.sqlite")
	if got, err := names(dir, path("a")); got != "a" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestRefuses(t *testing.T) {
	t.Run("nothing there", func(t *testing.T) {
		if _, err := nixdb.Open(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("root that is not registered", func(t *testing.T) {
		dir := t.TempDir()
		register(t, create(t, dir, "wal"), "a:")
		_, err := names(dir, path("b"))
		if e, ok := errors.AsType[*closure.MissingError](err); !ok || e.Path != path("b") || e.Referrer != "" {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("no roots", func(t *testing.T) {
		dir := t.TempDir()
		create(t, dir, "wal")
		if _, err := names(dir); err == nil {
			t.Error("no error")
		}
	})
	t.Run("root in another store", func(t *testing.T) {
		dir := t.TempDir()
		create(t, dir, "wal")
		if _, err := names(dir, "/other"+path("a")); err == nil {
			t.Error("no error")
		}
	})
	t.Run("context is done", func(t *testing.T) {
		dir := t.TempDir()
		register(t, create(t, dir, "wal"), "a:")
		db, err := nixdb.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := db.Closure(ctx, "/nix/store", path("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	})
}

func TestDamageIsReported(t *testing.T) {
	whole := t.TempDir()
	db := create(t, whole, "wal")
	register(t, db, "c:", "b: c", "a: b")
	for i := range 300 {
		register(t, db, fmt.Sprintf("n%d: a", i))
	}
	db.Close()
	content, err := os.ReadFile(filepath.Join(whole, "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(b []byte) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "db.sqlite"), b, 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	sqlDamage := func(query string) string {
		dir := damaged(content)
		db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "db.sqlite"))
		if err != nil {
			t.Fatal(err)
		}
		execute(t, db, query)
		db.Close()
		return dir
	}
	overwritten := append([]byte(nil), content...)
	for i := 4096; i < len(overwritten); i++ {
		overwritten[i] = byte(i * 7)
	}
	for name, dir := range map[string]string{
		"empty":                damaged(nil),
		"text":                 damaged([]byte(strings.Repeat("this is no database\n", 1000))),
		"header only":          damaged(content[:100]),
		"one page":             damaged(content[:4096]),
		"half":                 damaged(content[:len(content)/2]),
		"a page short":         damaged(content[:len(content)-4096]),
		"overwritten":          damaged(overwritten),
		"another database":     sqlDamage("DROP TABLE Refs"),
		"column missing":       sqlDamage("ALTER TABLE ValidPaths DROP COLUMN narSize"),
		"reference to nothing": sqlDamage("DELETE FROM ValidPaths WHERE path LIKE '%-c'"),
		"malformed hash":       sqlDamage("UPDATE ValidPaths SET hash = 'sha256:x' WHERE path LIKE '%-b'"),
		"malformed path":       sqlDamage("UPDATE ValidPaths SET path = '/nix/store/x' WHERE path LIKE '%-b'"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := names(dir, path("a"))
			e, ok := errors.AsType[*nixdb.CorruptError](err)
			if !ok || e.File != filepath.Join(dir, "db.sqlite") {
				t.Errorf("read %q, error is %v", got, err)
			}
		})
	}
}
