package nixdb_test

import (
	"context"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/nixdb"
)

// makeStore makes a store below a directory, in which a refers to b, and returns the directory and that of the database.
func makeStore(t *testing.T, storeDir string) (root, dbDir string) {
	t.Helper()
	root = t.TempDir()
	dbDir = filepath.Join(root, "nix/var/nix/db")
	if err := os.MkdirAll(dbDir, 0o755); err != nil {
		t.Fatal(err)
	}
	db := create(t, dbDir, "wal")
	register(t, db, "b:", "a: b")
	execute(t, db, "UPDATE ValidPaths SET path = replace(path, '/nix/store', ?)", storeDir)
	db.Close()
	for _, name := range []string{"a", "b"} {
		dir := filepath.Join(root, storeDir, path(name).Base(), "bin")
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(name), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return root, dbDir
}

func TestStore(t *testing.T) {
	for _, storeDir := range []string{"/nix/store", "/opt/my store"} {
		root, _ := makeStore(t, storeDir)
		object := filepath.Join(storeDir, path("a").Base())
		links := t.TempDir()
		for name, target := range map[string]string{
			"result": filepath.Join(root, object), "logical": object, "indirect": "result", "elsewhere": "/etc", "dangling": "nothing",
		} {
			if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
				t.Fatal(err)
			}
		}
		t.Chdir(links)
		st, err := nixdb.OpenStore(root)
		if err != nil {
			t.Fatal(err)
		}
		if st.Dir() != storeDir || st.Unlocked() {
			t.Errorf("the store is %s, without locks: %v", st.Dir(), st.Unlocked())
		}
		var last *closure.Closure
		for _, arg := range []string{
			object, object + "/bin/a", filepath.Join(root, object), filepath.Join(root, object, "bin"),
			"result", "./result/bin", "logical", "indirect", filepath.Join(links, "result"),
		} {
			c, err := st.Closure(t.Context(), arg)
			if err != nil {
				t.Errorf("%s: %v", arg, err)
				continue
			}
			if r := c.Roots(); len(c.Objects()) != 2 || len(r) != 1 || string(r[0]) != object || c.StoreDir() != storeDir {
				t.Errorf("%s: %v, %v", arg, r, c.Objects())
			}
			if err := c.CheckFiles(); err != nil {
				t.Errorf("%s: %v", arg, err)
			}
			last = c
		}
		for arg, want := range map[string]string{
			"elsewhere": "not in the store", "dangling": "no such file", "": "empty path", "/etc/passwd": "not in the store",
			filepath.Join(storeDir, path("c").Base()): "not registered", filepath.Join(storeDir, "x"): "base name",
		} {
			if _, err := st.Closure(t.Context(), arg); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v, want %q", arg, err, want)
			}
		}
		if _, err := st.Closure(t.Context()); err == nil || !strings.Contains(err.Error(), "no roots") {
			t.Errorf("no roots: %v", err)
		}
		a := closure.Path(object)
		for p, want := range map[closure.Path]int{a: 2, closure.Path(storeDir) + "/" + closure.Path(path("c").Base()): 0, "/elsewhere" + path("a"): 0} {
			if got, err := st.Objects(t.Context(), p); err != nil || len(got) != want {
				t.Errorf("%s: %v, %v", p, got, err)
			}
		}
		if err := errors.Join(st.Close(), st.Close()); err != nil {
			t.Error(err)
		}
		if _, err := st.Closure(t.Context(), object); err == nil || !strings.Contains(err.Error(), "not open") {
			t.Errorf("closed: %v", err)
		}
		if b, err := fs.ReadFile(last.Files, path("a").Base()+"/bin/a"); string(b) != "a" {
			t.Errorf("files of a closed store: %q, %v", b, err)
		}
	}
}

func TestNoStore(t *testing.T) {
	if _, err := nixdb.OpenStore(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	root, dbDir := makeStore(t, "/nix/store")
	empty := t.TempDir()
	create(t, empty, "wal").Close()
	copyFile(t, dbDir, empty, "db.sqlite")
	st, err := nixdb.OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if st.Dir() != "/nix/store" {
		t.Errorf("an empty store is in %q", st.Dir())
	}
}

// What is there is read without locks, too, whatever state it is in: nothing waits for a writer, and nothing is missed.
func TestWithoutLocks(t *testing.T) {
	nixdb.WithoutLocks(t)
	TestNothingIsMissedInAnyState(t)

	root, dbDir := makeStore(t, "/nix/store")
	w, err := sql.Open("sqlite", "file:"+filepath.Join(dbDir, "db.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	w.SetMaxOpenConns(1)
	defer w.Close()
	execute(t, w, "PRAGMA locking_mode=EXCLUSIVE")
	execute(t, w, "BEGIN IMMEDIATE") // who waited for this lock would wait for 10 s
	start := time.Now()
	st, err := nixdb.OpenStore(root)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c, err := st.Closure(t.Context(), string(path("a")))
	if err != nil || len(c.Objects()) != 2 || !st.Unlocked() || time.Since(start) > 5*time.Second {
		t.Errorf("%v after %v, unlocked: %v", err, time.Since(start), st.Unlocked())
	}
}

// What is asked of a database must not be computed: it could take any time.
func TestComputedTables(t *testing.T) {
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) "
	for name, test := range map[string]struct{ query, want string }{
		"view": {"ALTER TABLE ValidPaths RENAME TO Old; CREATE VIEW ValidPaths AS " + endless +
			"SELECT i AS id, '/x' AS path, 'x' AS hash, 1 AS narSize FROM n", "is a view"},
		"view of the same":        {"ALTER TABLE ValidPaths RENAME TO Old; CREATE VIEW ValidPaths AS SELECT * FROM Old", "is a view"},
		"view in other letters":   {"DROP TABLE Refs; CREATE VIEW REFS AS " + endless + "SELECT i AS referrer, i AS reference FROM n", "is a view"},
		"virtual table":           {"DROP TABLE Refs; CREATE VIRTUAL TABLE Refs USING rtree(id, referrer, reference)", "is a virtual table"},
		"computed column":         {"DROP TABLE Refs; CREATE TABLE Refs (referrer, reference AS (length(hex(zeroblob(500000000)))))", "computed columns"},
		"computed column, stored": {"DROP TABLE Refs; CREATE TABLE Refs (referrer, reference AS (referrer) STORED)", "computed columns"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db := create(t, dir, "wal")
			register(t, db, "b:", "a: b")
			execute(t, db, test.query)
			db.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			d, err := nixdb.Open(dir)
			if err == nil {
				_, err = d.Closure(ctx, "/nix/store", path("a"))
				d.Close()
			}
			if e, ok := errors.AsType[*nixdb.CorruptError](err); !ok || !strings.Contains(e.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// Nobody waits for a pipe in the place of a file.
func TestPipesAreNoDatabases(t *testing.T) {
	for _, name := range []string{"db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "db.sqlite-journal"} {
		for kind, make := range map[string]func(string) error{
			"pipe":      func(name string) error { return syscall.Mkfifo(name, 0o666) },
			"directory": func(name string) error { return os.Mkdir(name, 0o777) },
			"device":    func(name string) error { return os.Symlink("/dev/zero", name) },
		} {
			dir := makeState(t, []string{"-wal"}, false)
			file := filepath.Join(dir, name)
			os.Remove(file)
			if err := make(file); err != nil {
				t.Fatal(err)
			}
			if _, err := nixdb.Open(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") || !strings.Contains(err.Error(), file) {
				t.Errorf("%s is a %s: %v", name, kind, err)
			}
		}
	}
}
