// Package nixdbtest makes Nix stores for tests and examples, without Nix.
package nixdbtest

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver

	"github.com/nix2img/nix2img/closure"
)

// Schema is that of a store's database, as far as closures are concerned.
const Schema = `
CREATE TABLE ValidPaths (
	id integer primary key autoincrement not null,
	path text unique not null,
	hash text not null,
	registrationTime integer not null,
	deriver text,
	narSize integer,
	ultimate integer,
	sigs text,
	ca text
);
CREATE TABLE Refs (
	referrer integer not null,
	reference integer not null,
	primary key (referrer, reference),
	foreign key (referrer) references ValidPaths(id) on delete cascade,
	foreign key (reference) references ValidPaths(id) on delete restrict
);
CREATE INDEX IndexReferrer ON Refs(referrer);
CREATE INDEX IndexReference ON Refs(reference);
`

// Write makes a store below a directory: a database with the objects of a closure, and all files that the closure has.
func Write(root string, c *closure.Closure) error {
	if err := writeDatabase(filepath.Join(root, "nix/var/nix/db"), c); err != nil || c.Files == nil {
		return err
	}
	return copyFiles(filepath.Join(root, c.StoreDir()), c.Files)
}

// copyFiles is os.CopyFS, also for names that are not UTF-8.
func copyFiles(dir string, fsys fs.FS) error {
	return fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		switch d.Type() {
		case fs.ModeDir:
			return os.MkdirAll(to, 0o755)
		case fs.ModeSymlink:
			target, err := fs.ReadLink(fsys, name)
			if err != nil {
				return err
			}
			return os.Symlink(target, to)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, info.Mode())
	})
}

func writeDatabase(dir string, c *closure.Closure) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	db, err := sql.Open("sqlite", filepath.Join(dir, "db.sqlite"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.Exec(Schema); err != nil {
		return err
	}
	for _, o := range c.Objects() { // references come first
		if _, err := db.Exec("INSERT INTO ValidPaths (path, hash, registrationTime, narSize) VALUES (?, ?, 1, ?)",
			o.Path, fmt.Sprintf("sha256:%x", o.NARHash[:]), o.NARSize); err != nil {
			return err
		}
		for _, ref := range o.References {
			if _, err := db.Exec("INSERT INTO Refs SELECT a.id, b.id FROM ValidPaths a, ValidPaths b WHERE a.path = ? AND b.path = ?", o.Path, ref); err != nil {
				return err
			}
		}
	}
	return nil
}
