// Package inspect finds things out about file trees, each in one pass over the tree, and only once.
//
// What a store path has in it never changes: GPU code, licences, programs that need MPI. An [Inspector] finds one such thing.
// What inspectors find in a tree are its [Facts]. They are kept under the tree's NAR hash,
// and what is to be said of an image is made of the facts of all its trees, without a look at a file.
//
// # The pass
//
// A build reads every file once, to compress it. An [Observer] is shown what is read, beside those who compress and hash it:
//
//	                      node, first bytes           ┌─────────────┐
//	                ┌───────────────────────────────► │ Wants       │  of every node, by every inspector
//	                │                                 └──────┬──────┘
//	                │                                        │ Nothing, Itself, Stream, Anywhere
//	files ──► Observer                                       ▼
//	    │           │   contents, as they pass        ┌─────────────┐
//	    │           ├───────────────────────────────► │ Look        │  at what was wanted
//	    │           │                                 │  File.Read  │
//	    │           │   one copy for all, if there    │  File.Skip  │
//	    │           ├─► is nothing to read again ───► │  File.ReadAt│
//	    │           │   (memory, or the spool)        └──────┬──────┘
//	    └───────────┼───────────────────────────────►        │ findings, in the order of a NAR
//	   a little is read again, where that is possible        ▼
//	                │                                 ┌─────────────┐
//	                └── Close ──────────────────────► │ Facts       │ ──► a record, as JSON
//	                                                  └─────────────┘
//
// Files of up to 256 KiB are looked at when all of them is in memory, once for all inspectors.
// Larger ones are looked at while they pass: an inspector is a coroutine that reads on until it needs more than has come.
// If it wants to go back in a file ([Anywhere]), that is read again in the file system.
// Where files come from a network and can be read only once, there is one copy of the file at hand for all inspectors:
// up to 8 MiB in memory, up to 1 GiB in a file without a name. Of what is larger, inspectors give up the tree:
// they look at it later, when it can be read out of a cache.
//
// [Find] has inspectors look at trees that nobody else reads, at many files at a time. It finds the same.
//
// # Records
//
// There is one record for a NAR hash, with what each inspector has found and the inspector's version:
//
//	{"gpu": {"version": 1, "data": {"files": [...]}}}
//
// An inspector that is new, or has another version than in the record, looks at the tree alone, and the record is completed.
// Nothing else has to know of it. To write one, see the example: it needs a name, a version and three methods.
package inspect
