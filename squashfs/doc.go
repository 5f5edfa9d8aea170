// Package squashfs writes and reads SquashFS 4.0 images.
//
// [Write] makes an image of file trees, [Open] gives an image as a file system:
//
//	img, err := squashfs.Write(ctx, file, []squashfs.Tree{squashfs.FileTree(".", fsys, ".")}, nil, nil)
//
//	fsys, err := squashfs.Open(file)
//
// # The format
//
// All numbers are little endian. An image is, from its first byte to its last:
//
//	┌──────────────────────┐ 0
//	│ superblock           │    what there is, and where
//	├──────────────────────┤ 96
//	│ codec options        │    level and the like; most readers need none of it
//	├──────────────────────┤
//	│ data                 │    blocks of file contents, and fragment blocks
//	├──────────────────────┤
//	│ inode table          │    everything about files but their names
//	├──────────────────────┤
//	│ directory table      │    names, each with the inode it stands for
//	├──────────────────────┤
//	│ fragment table       │    where the fragment blocks are
//	├──────────────────────┤
//	│ export table         │    where the inode of each number is
//	├──────────────────────┤
//	│ id table             │    users and groups
//	├──────────────────────┤ Super.BytesUsed
//	│ zeros up to 4096     │    as block devices come in whole sectors
//	└──────────────────────┘
//
// A file's contents are cut into blocks of [Options.BlockSize].
// Each is compressed for itself, or stored if that does not make it smaller;
// a block of zeros takes no room at all.
// The rest of a file, its tail, shares a fragment block with others.
// Tables are cut into metadata blocks of 8 KiB, which are compressed too.
//
// The layout is described in doc/format.adoc of squashfs-tools-ng and fs/squashfs of Linux;
// the order of the tables, and the rule that each must end where the next begins,
// come from what Linux checks when it mounts an image.
//
// # Segments
//
// An image is written as a sequence of segments, one for each [Tree],
// and tables that are made for all of them at the end.
// A segment is the data of one tree, encoded without regard to all others:
// its blocks follow each other in the order in which the tree is read,
// and its fragment blocks hold tails of this tree only,
// each taking its place when it is full.
// So a segment is the same in every image that has its tree and was written with the same options,
// and a tree that changes leaves all segments before it where they were.
//
// There is one exception, for whole files that several trees have:
// the blocks of a file, or a fragment block, that lie in the image already
// are not put there again. Readers do not notice.
//
// # Determinism
//
// The bytes of an image follow from the trees, in their order, the [Options],
// and the versions of this package and the codec's library (see [Compression.Library]).
// They do not depend on the number of workers, the machine or the time.
//
// Of the files, names, contents, kinds, link targets, permissions and modification times
// go into an image, the latter in whole seconds from 1970 to 2106.
// Owners and device numbers are taken from [fs.FileInfo]'s Sys if that is an *[Inode];
// else everything belongs to 0:0. Hard links become files of their own,
// which share their blocks. Extended attributes are read but not written.
package squashfs
