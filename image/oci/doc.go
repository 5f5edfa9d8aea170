// Package oci makes OCI images: an [image.Image] as layers that move only what has changed.
//
//	img, err := oci.Build(ctx, &image.Image{Closure: c}, nil, &image.Runtime{Cache: kept})
//	...
//	defer img.Close()
//	_, err = layout.Write(ctx, "dir", "app:1.0", img)
//
// What Build returns is a v1.Image of go-containerregistry, so that registry clients can send it,
// and package layout can put it where it is to go.
//
// # A layer
//
// A layer is a tar archive that is compressed in pieces, each of which stands alone:
// gzip members of 1 MiB of tar, or zstd frames of 4 MiB. Readers take them for one stream.
//
//	┌────────┬──────────────────────────┬───────────┬─────┬──────────┐
//	│ header │ a store object           │ another   │ ... │ trailer  │
//	│ nix/   ├────────┬────────┬────────┼────────┬──┤     │ 1024     │
//	│ nix/   │ member │ member │ member │ member │..│     │ zero     │
//	│  store/│        │        │        │        │  │     │ bytes    │
//	└────────┴────────┴────────┴────────┴────────┴──┴─────┴──────────┘
//	          ╰──────── a blob ────────╯
//
// A store object's pieces, its blob, follow from the object and the options alone.
// So they are made once, kept in a [cache.Cache], and put together to whatever layers there are.
// The last layer has the base files, everything that is not from the store.
//
// In the archive, names are relative, owners are 0:0 without names, times are one second after the epoch,
// and there are no hard links. Headers are USTAR where that can hold them, else PAX.
//
// # Two hashes
//
// A layer's digest is the SHA-256 of its bytes, its diffID that of the archive.
// Both are computed while the pieces are made, beside the NAR hashes that prove what was read.
// Of a layer that the cache knows, nothing is read at all. Of one that begins like another, the states of both
// hashes are known at the end of some object, from where they go on: what changes most often lies last.
//
// # Which layers
//
// See package layering: store objects that change together are put together, and those that never change first.
package oci
