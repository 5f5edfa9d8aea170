package nixdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/nix2img/nix2img/closure"
)

// Where a store lies if nothing else is known, and where its database does.
const (
	defaultStoreDir = "/nix/store"
	databaseDir     = "nix/var/nix/db"
)

// Store is a Nix store on this machine: its files, and the database that says what they are.
// [OpenStore] makes one. It may be used by one goroutine at a time.
type Store struct {
	root  string // below which it lies
	dir   string // as its paths have it
	db    *DB
	files fs.FS
}

// OpenStore opens the store below a directory: "" or "/" for the store of this machine,
// "/mnt" for one whose objects are in /mnt/nix/store and whose database is in /mnt/nix/var/nix/db.
// The store directory is that of the paths in the database; if there are none, it is /nix/store.
// Errors are those of [Open].
func OpenStore(root string) (*Store, error) {
	root, err := filepath.Abs(cmp.Or(root, "/"))
	if err != nil {
		return nil, fmt.Errorf("nixdb: open store: %w", err)
	}
	db, err := Open(filepath.Join(root, databaseDir))
	if err != nil {
		return nil, err
	}
	dir, err := db.storeDir()
	if err != nil {
		db.Close()
		return nil, db.wrap("read", err)
	}
	return &Store{root, dir, db, closure.DirFS(filepath.Join(root, dir))}, nil
}

// storeDir returns the store directory of the paths in the database.
func (db *DB) storeDir() (string, error) {
	var text string
	err := db.sql.QueryRow("SELECT path FROM ValidPaths LIMIT 1").Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return defaultStoreDir, nil
	}
	if err != nil {
		return "", err
	}
	p, err := closure.ParsePath(text)
	if err != nil {
		return "", &corrupt{err}
	}
	return p.Dir(), nil
}

// Dir returns the store directory as the paths in it have it, usually "/nix/store".
func (s *Store) Dir() string { return cmp.Or(s.dir, defaultStoreDir) }

// Files returns the files of all objects: each object's tree lies under its base name.
// They stay when the Store is closed.
func (s *Store) Files() fs.FS { return s.files }

// Unlocked reports whether the database is on a file system without locks.
// Then a Nix that writes to it at the same time is noticed by the times and sizes of the files alone.
func (s *Store) Unlocked() bool { return s.db != nil && s.db.unlocked }

// Closure returns the closure of some roots, with its Files, which stay when the Store is closed.
// A root is a store path, a path inside one, or a symbolic link that leads to either, such as ./result:
// see [closure.ResolveRoot], whose errors are among those of Closure.
// A root that the database does not have leads to a [*closure.MissingError].
// Whether the files are still there is for [closure.Closure.CheckFiles] to say.
func (s *Store) Closure(ctx context.Context, roots ...string) (*closure.Closure, error) {
	if s.db == nil {
		return nil, errNotOpen
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("nixdb: read %s: no roots", s.db.file)
	}
	paths := make([]closure.Path, len(roots))
	for i, root := range roots {
		var err error
		if paths[i], err = closure.ResolveRoot(root, s.dir, s.root); err != nil {
			return nil, err
		}
	}
	c, err := s.db.Closure(ctx, s.dir, paths...)
	if err != nil {
		return nil, err
	}
	c.Files = s.files
	return c, nil
}

// Objects returns the objects of the closure of p, or none if the database does not have p.
// So a Store can be the Local of a [binarycache.Source].
//
// [binarycache.Source]: https://pkg.go.dev/github.com/nix2img/nix2img/closure/binarycache#Source
func (s *Store) Objects(ctx context.Context, p closure.Path) ([]closure.Object, error) {
	if s.db == nil {
		return nil, errNotOpen
	}
	if p.Dir() != s.dir {
		return nil, nil
	}
	c, err := s.db.Closure(ctx, s.dir, p)
	if e, ok := errors.AsType[*closure.MissingError](err); ok && e.Path == p {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return c.Objects(), nil
}

// Close closes the database.
func (s *Store) Close() error {
	if s.db == nil {
		return nil
	}
	return s.db.Close()
}
