// Package squash renders an image as one squashfs.
//
// Every store object becomes a segment of the squashfs, in image order,
// and the base files become the last one:
//
//	superblock | glibc | ... | python3-env | base files | tables
//
// While the files of an object are read, its NAR hash is computed
// and compared with the one that the closure declares.
//
// Objects that come over a network, if Files are a [closure.Fetcher], are fetched in this order, once,
// and go straight into the encoder. What the image needs to know of their files
// is then read out of their segments, before the base files are made.
//
// # The image ID
//
// An image is identified by the SHA-256 of this text, of which each line ends in a newline:
//
//	nix2img squashfs 1
//	CODEC LEVEL BLOCKSIZE MODTIME FORMAT MODULE VERSION
//	NAME NARHASH DIGEST      for each segment
//
// FORMAT is the version of the encoding. Names are quoted as in Go; the NAR hash is that of the segment's tree,
// and the digest the one that package squashfs gives the segment.
// Equal images have equal IDs, and an ID can be told from segments alone,
// before the image is written.
package squash
