package nixdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/nix2img/nix2img/closure"
)

// DB is the database of a Nix store, opened for reading.
type DB struct {
	file string // db.sqlite
	sql  *sql.DB

	fixed    bool  // opened as a file that never changes,
	state    state // and this is what it was then
	unlocked bool  // its file system has no locks
}

// CorruptError reports a database that is damaged, or no database of Nix.
type CorruptError struct {
	File string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("nixdb: read %s: the database is damaged or not one of Nix: %v", e.File, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// corrupt marks what becomes a CorruptError.
type corrupt struct{ error }

var (
	// errUnknown is why a root is missing.
	errUnknown = errors.New("not registered in the database of the store")
	errNotOpen = errors.New("nixdb: the database is not open")
)

// Open opens the database in a directory, usually /nix/var/nix/db. For that of a whole store see [OpenStore].
// An error may wrap [io/fs.ErrNotExist] or [io/fs.ErrPermission], or be a [*CorruptError].
func Open(dir string) (*DB, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("nixdb: open: %w", err)
	}
	db := &DB{file: filepath.Join(dir, "db.sqlite")}
	if err := db.open(); err != nil {
		db.Close()
		return nil, db.wrap("open", err)
	}
	return db, nil
}

// Close closes the database.
func (db *DB) Close() error {
	if db.sql == nil { // not open, or not any more
		return nil
	}
	err := db.sql.Close()
	db.sql = nil
	return err
}

// Closure returns the closure of roots, without its Files.
// They must be in storeDir, and there must be at least one.
// A root that the database does not have leads to a [*closure.MissingError].
func (db *DB) Closure(ctx context.Context, storeDir string, roots ...closure.Path) (*closure.Closure, error) {
	if db.sql == nil {
		return nil, errNotOpen
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("nixdb: read %s: no roots", db.file)
	}
	for _, p := range roots {
		if p.Dir() != storeDir {
			return nil, fmt.Errorf("nixdb: read %s: %s is not in the store %s", db.file, p, storeDir)
		}
	}
	const tries = 5
	for try := 1; ; try++ {
		objects, err := db.objects(ctx, roots)
		if db.fixed && ctx.Err() == nil && try < tries && db.changed() {
			// What has been read may be neither the old state nor the new one.
			db.Close()
			if err := db.open(); err != nil {
				return nil, db.wrap("open", err)
			}
			continue
		}
		if err != nil {
			return nil, db.wrap("read", err)
		}
		return closure.New(roots, objects)
	}
}

func (db *DB) objects(ctx context.Context, roots []closure.Path) ([]closure.Object, error) {
	tx, err := db.sql.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer tx.Rollback()
	r := &reader{ctx: ctx, number: make(map[int64]int)}
	for _, q := range []struct {
		stmt **sql.Stmt
		text string
	}{
		{&r.byPath, "SELECT id FROM ValidPaths WHERE path = ?"},
		{&r.byID, "SELECT path, hash, narSize FROM ValidPaths WHERE id = ?"},
		{&r.refs, "SELECT reference FROM Refs WHERE referrer = ?"},
	} {
		if *q.stmt, err = tx.PrepareContext(ctx, q.text); err != nil {
			return nil, err
		}
		defer (*q.stmt).Close()
	}
	for _, p := range roots {
		if err := r.root(p); err != nil {
			return nil, err
		}
	}
	for len(r.todo) > 0 {
		id := r.todo[len(r.todo)-1]
		r.todo = r.todo[:len(r.todo)-1]
		if err := r.references(id); err != nil {
			return nil, err
		}
	}
	return r.objects, nil
}

// reader goes through the graph.
type reader struct {
	ctx                context.Context
	byPath, byID, refs *sql.Stmt

	objects []closure.Object
	number  map[int64]int // from ids to indexes of objects
	todo    []int64       // ids of objects whose references have not been read
}

func (r *reader) root(p closure.Path) error {
	var id int64
	err := r.byPath.QueryRowContext(r.ctx, string(p)).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return &closure.MissingError{Path: p, Err: errUnknown}
	}
	if err != nil {
		return err
	}
	_, err = r.object(id)
	return err
}

// object returns the path of an object, which it reads if it is new.
func (r *reader) object(id int64) (closure.Path, error) {
	if n, ok := r.number[id]; ok {
		return r.objects[n].Path, nil
	}
	var (
		path, hash string
		size       sql.NullInt64 // not known for objects that an old Nix registered
	)
	if err := r.byID.QueryRowContext(r.ctx, id).Scan(&path, &hash, &size); err != nil {
		return "", err
	}
	p, err := closure.ParsePath(path)
	if err != nil {
		return "", &corrupt{err}
	}
	o := closure.Object{Path: p, NARSize: size.Int64}
	if o.NARHash, err = closure.ParseHash(hash); err != nil {
		if e, ok := errors.AsType[*closure.SyntaxError](err); ok {
			e.In = p
		}
		return "", &corrupt{err}
	}
	r.number[id] = len(r.objects)
	r.objects = append(r.objects, o)
	r.todo = append(r.todo, id)
	return p, nil
}

func (r *reader) references(id int64) error {
	rows, err := r.refs.QueryContext(r.ctx, id)
	if err != nil {
		return err
	}
	defer rows.Close()
	var ids []int64
	for rows.Next() {
		var ref int64
		if err := rows.Scan(&ref); err != nil {
			return err
		}
		ids = append(ids, ref)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	n := r.number[id]
	for _, ref := range ids {
		p, err := r.object(ref)
		if errors.Is(err, sql.ErrNoRows) {
			return &corrupt{fmt.Errorf("%s refers to object %d, which is not there", r.objects[n].Path, ref)}
		}
		if err != nil {
			return err
		}
		r.objects[n].References = append(r.objects[n].References, p)
	}
	return nil
}
