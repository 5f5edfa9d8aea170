// Package closure describes a realized Nix closure: what a program needs at run time, and nothing else.
//
// # Words
//
// A store directory, usually /nix/store, holds store objects.
// An object is a file tree of three kinds of nodes:
// regular files, executable or not, directories, and symbolic links.
// It never changes once it is there.
// Its [Path] is the store directory and a base name, which is a digest and a name:
//
//	/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60
//	└─ Dir ──┘ └─ Digest ─────────────────────┘ └─ Name ─────┘
//	           └─ Base ──────────────────────────────────────┘
//
// Objects contain the paths of other objects, as text, wherever a program will look for them.
// These are its references.
// A set of objects is closed if it contains every object that one of its members refers to.
// The [Closure] of some roots is the smallest closed set that contains them.
//
// An object's contents are identified by its NAR hash:
// the SHA-256 of its serialisation as a Nix archive, which package nar reads and writes.
//
// # Where a closure comes from
//
// A Closure is its objects' metadata and a file system with their files.
//
//   - [ReadObjects] reads the metadata in any of the forms in which Nix writes them down,
//     and [New] makes a Closure of them.
//   - Package nixdb takes them from the database of a store.
//   - [DirFS] presents a store directory as a file system.
//   - Package binarycache takes metadata and files from binary caches.
//   - Package export reads both, metadata and files, from one stream.
//   - Package narhash computes NAR hashes where they are not known, or checks them.
//
// # The files
//
// File systems of this package and those below it show what a NAR can tell, and nothing else,
// so that the same object looks the same wherever it lies:
// modes are 0444, 0555 for executables and directories, and 0777 for symbolic links,
// modification times are one second after the epoch,
// and there are no owners, hard links, or extended attributes.
//
// Names are bytes.
// Package [io/fs] asks for UTF-8, which file names in a store need not be,
// so these file systems take any name that [fs.ValidPath] would take if it did not.
package closure
