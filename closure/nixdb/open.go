package nixdb

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/nix2img/nix2img/closure"
)

// Primary result codes of SQLite, https://sqlite.org/rescode.html.
const (
	codeError    = 1 // among others, there is no such table
	codeReadOnly = 8
	codeIOError  = 10
	codeCorrupt  = 11
	codeCantOpen = 14
	codeNotADB   = 26

	codeShortRead = codeIOError | 2<<8
)

// busyTimeout is how long to wait for a writer who locks readers out, in milliseconds.
const busyTimeout = 10_000

// copyTries is how often to copy a database that changes meanwhile.
const copyTries = 10

// errChanging is why a database cannot be copied.
var errChanging = errors.New("the database changes faster than it can be copied")

// open opens the database in the first way that works; see the package comment.
func (db *DB) open() error {
	f, err := os.Open(db.file) // for a better error than SQLite's
	if err != nil {
		return err
	}
	f.Close()

	err = db.openFile(db.file, "mode=ro")
	if code := primary(err); code != codeCantOpen && code != codeReadOnly {
		return err
	}
	if before := look(db.file); !before.pending() {
		db.fixed, db.state = true, before
		return db.openFile(db.file, "mode=ro&immutable=1")
	}
	return db.openCopy()
}

// openFile opens a file, and reads a little of it, because SQLite puts off most of the work until then.
func (db *DB) openFile(file, query string) error {
	dsn := url.URL{
		Scheme:   "file",
		Path:     file,
		RawQuery: fmt.Sprintf("%s&_pragma=busy_timeout(%d)", query, busyTimeout),
	}
	s, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return err
	}
	s.SetMaxOpenConns(1)
	var n int
	for _, table := range []string{"ValidPaths", "Refs"} {
		if err == nil {
			err = s.QueryRow("SELECT count(*) FROM (SELECT 1 FROM " + table + " LIMIT 1)").Scan(&n)
		}
	}
	if err != nil {
		s.Close()
		return err
	}
	db.sql = s
	return nil
}

// openCopy opens a copy of the database and what is pending.
// SQLite opens all files when it reads for the first time, and they need no names afterwards.
func (db *DB) openCopy() error {
	temp, err := os.MkdirTemp("", "nix2img-db-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	file := filepath.Join(temp, "db.sqlite")
	for range copyTries {
		before := look(db.file)
		for _, suffix := range []string{"", walSuffix, journalSuffix} {
			if err := copyFile(file+suffix, db.file+suffix); err != nil && (suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
		if look(db.file) == before {
			return db.openFile(file, "mode=rw")
		}
	}
	return errChanging
}

func copyFile(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

const (
	walSuffix     = "-wal"
	journalSuffix = "-journal" // of a database that is not in write-ahead mode
)

// state tells whether a database has changed.
type state struct {
	size, wal, journal int64 // bytes
	time, walTime      int64 // of modification, in nanoseconds
}

func look(file string) (s state) {
	stat := func(name string) (size, modTime int64) {
		info, err := os.Stat(name)
		if err != nil {
			return 0, 0
		}
		return info.Size(), info.ModTime().UnixNano()
	}
	s.size, s.time = stat(file)
	s.wal, s.walTime = stat(file + walSuffix)
	s.journal, _ = stat(file + journalSuffix)
	return s
}

// pending reports whether there is something that db.sqlite does not say.
func (s state) pending() bool { return s.wal > 0 || s.journal > 0 }

// changed reports whether a database that was taken for fixed has changed.
func (db *DB) changed() bool { return look(db.file) != db.state }

// primary returns the primary result code of an error of SQLite, or 0.
func primary(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}

// wrap says what failed.
func (db *DB) wrap(op string, err error) error {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		switch primary(e) {
		case codeError, codeCorrupt, codeNotADB:
			return &CorruptError{db.file, err}
		}
		if e.Code() == codeShortRead {
			return &CorruptError{db.file, err}
		}
	}
	if _, ok := errors.AsType[*closure.MissingError](err); ok {
		return err
	}
	if e, ok := errors.AsType[*corrupt](err); ok {
		return &CorruptError{db.file, e.error}
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("nixdb: %w", err)
	}
	return fmt.Errorf("nixdb: %s %s: %w", op, db.file, err)
}
