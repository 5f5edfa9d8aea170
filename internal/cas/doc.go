// Package cas keeps what is expensive to make, in a directory, under a key
// that says all that decided its bytes.
//
// An entry is data and metadata, both of them bytes without meaning here.
// It is a file of its own:
//
//	┌──────────────────┐ 0
//	│ data             │
//	├──────────────────┤ data size
//	│ metadata         │
//	├──────────────────┤ file size - 64
//	│ footer           │ magic, sizes, key and checksums
//	└──────────────────┘
//
// # What can be relied on
//
// An entry appears as a whole, by renaming a temporary file,
// so any number of processes may write and read side by side, and one may die at any moment.
// Nothing is forced to disk, though: after a loss of power an entry may be there
// with other bytes. [Store.Get] makes sure that the metadata are what they were;
// whoever uses the data compares them with checksums of its own.
//
// A store of which others can change the files is not opened unless that is asked for,
// and an entry that others can have written is not taken for one of the store's.
//
// # Open files
//
// An [Entry] holds no file open. A store opens files when they are read, and keeps the last few of them open,
// so that there may be any number of entries. One that has been removed meanwhile cannot be read any more.
package cas
