// Package cache keeps what is expensive to make of store objects, and finds it again, here or elsewhere.
//
// What a store object has in it never changes, so neither does its compressed form, nor what inspectors find in it.
// Each of these is an entry of a cache: data and metadata, under a key that is a hash of all that decides their bytes.
// A cache never goes stale: what another version or other options would make is under another key.
//
// # The directory
//
//	DIR/
//	  tmp/                           entries that are being written
//	  v2/
//	    3f/
//	      3fa4...c1.segment          the segment of an object, for a squashfs
//	      3f07...9b.blob             the compressed tar entries of an object, for OCI layers
//	      3f5e...20.layer            digest, diffID and size of a layer
//	      3fd1...77.state            the hashes of a layer up to one of its objects
//	      3f99...02.facts            what inspectors have found in an object, by its NAR hash alone
//	      3f2c...5d.seen             the same, of files that were not compared with a NAR hash
//
// All kinds of entries lie side by side, so there is one limit of size, and what was used least recently goes first.
// Renderers say how entries of their kinds are proved: see [Kind].
//
// # Looking things up
//
// A [Shelf] is what one build has of a cache:
//
//	           ┌──────────┐ none   ┌────────────┐ none
//	key ─────► │ own cache│ ─────► │ a source   │ ─────► ... ─────► it is made
//	           └────┬─────┘        └─────┬──────┘                      │
//	                │                    │ copied, and proved          │
//	                │                    │ unless it is trusted        │
//	                ▼                    ▼                             ▼
//	            the entry        own cache, or a temporary file without a name
//
// # Damage, and what only looks like it
//
// An entry is removed only if it is proved to be damaged: its checksum, key or index is wrong.
// It is made again then, and so is one that somebody else has removed meanwhile.
// All other errors (a full disk, missing permissions, a disk that fails) leave the cache as it is.
// A cache is a help: a build goes on without it, with a note.
//
// # Whom it trusts
//
// The user's own cache is not opened if others can write to its directory, and entries in it, or folders, that others
// can have written are not taken: owner and mode are asked of what has been opened. See [Mode] for caches of others.
package cache
