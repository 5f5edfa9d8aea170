// Package nixdb reads closures from the database of a Nix store, without Nix and without changing it.
// [OpenStore] finds database and files of a store, [Open] is for the database alone.
//
// The database is the file db.sqlite in nix/var/nix/db, beside the store in nix/store.
// These are the tables and columns that matter here:
//
//	ValidPaths                                    Refs
//	┌────┬──────┬────────────────┬─────────┐      ┌──────────┬───────────┐
//	│ id │ path │ hash           │ narSize │      │ referrer │ reference │
//	├────┼──────┼────────────────┼─────────┤      ├──────────┼───────────┤
//	│  1 │ /... │ sha256:base 16 │ bytes   │◄─────┤ id       │ id        │
//	└────┴──────┴────────────────┴─────────┘      └──────────┴───────────┘
//
// # Who may read it
//
// Nix writes the database in SQLite's write-ahead mode:
// what has changed lately is in db.sqlite-wal, and db.sqlite-shm is the index of that.
// A reader who may not write to the directory cannot make an index,
// and SQLite refuses to read without one.
// So [Open] tries three ways, of which each is right where those before it fail:
//
//  1. Read-only, as SQLite does it, if there is an index or it can be made.
//  2. As a file that never changes, if there is no write-ahead log or it is empty.
//     The log must not be ignored otherwise: paths would be missing, silently.
//  3. A copy of the database and its log in temporary files,
//     which lose their names as soon as they are open, and so vanish with the process.
//
// Some file systems have no locks, such as Lustre that is mounted without flock. There the first way is left out,
// and a Nix that writes meanwhile is noticed by the times and sizes of the files alone: see [Store.Unlocked].
package nixdb
