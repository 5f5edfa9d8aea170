// Package export reads what nix-store --export writes:
// a closure's files and metadata in one stream.
//
// # The format
//
// Numbers have 64 bits, little endian.
// Strings are as in a NAR: their length, their bytes, and zeros up to a multiple of eight.
// This is the whole stream:
//
//	┌───┬─────┬────────────┬──────┬───┬────────────┬─────────┬───┐   ┌───┐
//	│ 1 │ NAR │ 0x4558494e │ path │ n │ references │ deriver │ 0 │...│ 0 │
//	└───┴─────┴────────────┴──────┴───┴────────────┴─────────┴───┘   └───┘
//	  an object                         n strings    string          the end
//
// The objects come in an order in which each follows those it refers to.
// Instead of the last 0 of an object, Nix has once written a 1 and a signature, which is a string.
// There are no NAR hashes: they are computed while the stream is read.
package export
