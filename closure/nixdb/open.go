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
	"slices"
	"syscall"

	"modernc.org/sqlite"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/internal/regular"
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

// noLocks are extended result codes of a file system that has no locks, or no memory that processes share.
var noLocks = []int{
	codeIOError | 8<<8, codeIOError | 9<<8, codeIOError | 14<<8, codeIOError | 15<<8, // UNLOCK, RDLOCK, CHECKRESERVEDLOCK, LOCK
	codeIOError | 18<<8, codeIOError | 19<<8, codeIOError | 20<<8, codeIOError | 21<<8, // SHMOPEN, SHMSIZE, SHMLOCK, SHMMAP
}

// busyTimeout is how long to wait for a writer who locks readers out, in milliseconds.
const busyTimeout = 10_000

// copyTries is how often to copy a database that changes meanwhile.
const copyTries = 10

// errChanging is why a database cannot be copied.
var errChanging = errors.New("the database changes faster than it can be copied")

// open opens the database in the first way that works; see the package comment.
func (db *DB) open() error {
	if err := db.checkFiles(); err != nil {
		return err
	}
	if !db.unlocked {
		err := db.openFile(db.file, "mode=ro")
		e, _ := errors.AsType[*sqlite.Error](err)
		switch {
		case e != nil && slices.Contains(noLocks, e.Code()):
			db.unlocked = true
		case primary(err) != codeCantOpen && primary(err) != codeReadOnly:
			return err
		}
	}
	if before := look(db.file); !before.pending() {
		db.fixed, db.state = true, before
		return db.openFile(db.file, "mode=ro&immutable=1")
	}
	return db.openCopy()
}

// checkFiles checks that the files of a database are files, for SQLite waits for pipes,
// and whether they can be locked: some file systems say no in a way that SQLite takes for a lock of another process.
func (db *DB) checkFiles() error {
	f, err := regular.Open(db.file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, suffix := range []string{walSuffix, "-shm", journalSuffix} {
		if info, err := os.Stat(db.file + suffix); err == nil && !info.Mode().IsRegular() {
			return &fs.PathError{Op: "open", Path: db.file + suffix, Err: regular.ErrKind}
		}
	}
	if !lockable(f) {
		db.unlocked = true
	}
	return nil
}

// lockable reports whether the file system of a file has locks. It is a variable for tests.
var lockable = func(f *os.File) bool {
	// The first byte is none of those that SQLite locks.
	err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_RDLCK, Len: 1})
	return err != syscall.ENOSYS && err != syscall.ENOLCK && err != syscall.ENOTSUP && err != syscall.EOPNOTSUPP
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
	for _, table := range []string{"ValidPaths", "Refs"} {
		if err == nil {
			err = checkTable(s, table)
		}
	}
	if err != nil {
		s.Close()
		return err
	}
	db.sql = s
	return nil
}

// checkTable checks that a table is one, and can be read: what is computed when it is asked for,
// such as a view, can take any time and memory.
func checkTable(s *sql.DB, name string) error {
	for _, q := range []struct{ what, query string }{
		{"is a view", "SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type = 'view'"},
		{"is a virtual table", "SELECT count(*) FROM sqlite_schema WHERE name = ? COLLATE NOCASE AND type = 'table' AND rootpage = 0"},
		{"has computed columns", "SELECT count(*) FROM pragma_table_xinfo(?) WHERE hidden != 0"},
	} {
		var n int
		if err := s.QueryRow(q.query, name).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return &corrupt{fmt.Errorf("%s %s", name, q.what)}
		}
	}
	var n int
	return s.QueryRow("SELECT count(*) FROM (SELECT 1 FROM " + name + " LIMIT 1)").Scan(&n)
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
			// Nobody else has this copy, and where temporary files are there may be no locks either.
			return db.openFile(file, "mode=rw&vfs=unix-none&_pragma=locking_mode(EXCLUSIVE)")
		}
	}
	return errChanging
}

func copyFile(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	src, err := regular.Open(from)
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
