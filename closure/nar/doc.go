// Package nar reads and writes Nix archives.
//
// A NAR is the serialisation of a file tree that Nix hashes and ships:
// of a regular file, a directory, or a symbolic link.
// It keeps names, contents, link targets, and whether a file is executable.
// Everything else, such as times, owners and hard links, is not part of the tree.
// One tree has exactly one NAR, so that equal trees have equal hashes;
// the [Reader] refuses whatever the [Writer] would not write.
//
// # The format
//
// An archive is a sequence of strings.
// Each is its length as 64 bits, little endian, then its bytes,
// then zero bytes up to a multiple of eight:
//
//	┌────────────────┬───────────────┬─────────────┐
//	│ length, 8 byte │ length bytes  │ 0..7 × 0x00 │
//	└────────────────┴───────────────┴─────────────┘
//
// Written with one word for each string, and CAPITALS for strings that vary, the grammar is
//
//	archive = nix-archive-1 node
//	node    = ( type regular [ executable "" ] contents BYTES )
//	        | ( type symlink target TARGET )
//	        | ( type directory { entry ( name NAME node node ) } )
//
// where the parentheses are strings too, and so is the word node before a node.
// Entries of a directory are sorted by the bytes of their names.
//
// # Limits
//
// The format has none, Linux has, and neither Reader nor Writer goes beyond them:
// a name has at most 255 bytes, a link target and the path of a node within the archive at most 4095.
// So a tree is at most 2048 directories deep.
// Contents are never held in memory: what is, is at most a directory for each level, or in an [FS] all nodes.
package nar
