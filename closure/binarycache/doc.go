// Package binarycache reads closures out of Nix binary caches: directories of files,
// mostly on web servers, that hold store objects packed as NARs.
//
// # The format
//
// A cache has three kinds of files:
//
//	nix-cache-info            what the cache is for
//	DIGEST.narinfo            of each object: where its NAR is, and all that is known of it
//	nar/...                   the NARs, compressed
//
// The first two are lines of a key, a colon, a space and a value. This is a narinfo,
// with the digest of the store path as its name:
//
//	StorePath: /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60
//	URL: nar/1w1fff338fvdw53sqgamddn1b2xgds473pv6y13gizdbqjv4i5p3.nar.xz
//	Compression: xz                                 absent: bzip2
//	FileHash: sha256:1w1fff338fvd...                of the file at URL, as a hint; may be absent
//	FileSize: 97800                                 as well, bytes
//	NarHash: sha256:0lxjvvpr59c2...                 of the NAR in it
//	NarSize: 240472                                 bytes
//	References: dkmjmv7...-glibc-2.39 00bgd04...-net-tools-1.60
//	Deriver: 10dx1q4...-net-tools-1.60.drv
//	Sig: cache.example.org-1:GTUzNzZZSkVP...        any number of them
//	CA: fixed:r:sha256:1wdvd2k3...                  of content-addressed objects
//
// A signature is one of ed25519, over a text of the fields that matter, the fingerprint:
//
//	1;StorePath;NarHash;NarSize;References          full paths, sorted, with commas between
//
// # Trust
//
// Whoever serves a cache can serve anything, so all that it says is checked.
// A narinfo must be signed by a key that the user trusts.
// A content-addressed object needs no signature if its path follows from a hash of its contents, as in Nix:
// that hash is compared as well. This holds for texts, for files and trees with a hash that was known before
// (MD5, SHA-1, SHA-256, SHA-512), and for trees whose path is made of the SHA-256 of what they contain,
// also if they contain that path.
// Only then the references in the narinfo are followed, and only then anything is downloaded.
// What comes is compared with the size and hash of the NAR while it is read.
// FileHash and FileSize, which nobody signs, do not decide: a proxy may have compressed the NAR again.
// Nor does it matter how the web server sends a file: see Content-Encoding in RFC 9110, 8.4.
//
// # Space
//
// NARs are fetched some time before they are asked for, several at once,
// and wait in memory as they are in the cache, at most 2 MiB of each and 32 MiB of all.
// Those whose codec is slow, xz above all, are unpacked ahead as well, beyond 2 MiB into temporary files without names:
// all of these together never hold more than Runtime.Spool bytes.
// No file tree is ever laid out on disk.
//
// Codecs are xz, zstd, bzip2, gzip, brotli, lz4 and none.
// Four NARs for each core are fetched at a time, at least 8 and at most 32, and each that is unpacked takes a dictionary:
// 8 MiB with xz as Nix calls it, 64 MiB at most; 2 MiB with zstd as Nix calls it, 128 MiB at most.
// Caches in S3 by their s3:// addresses, ssh stores, and OCI registries are not supported:
// a bucket that is readable by https:// is.
package binarycache
