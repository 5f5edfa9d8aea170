// Package layout writes images where they lie as files, and reads them there: OCI layouts,
// archives of them, and what docker save writes.
//
//	_, err := layout.Write(ctx, "dir", "app:1.0", img)
//
// An image is any v1.Image of go-containerregistry.
//
//	dir/
//	  oci-layout            says that this is a layout
//	  index.json            the images, by tag and platform
//	  blobs/sha256/
//	    3f7a...             a manifest: its configuration, and its layers, the lowest first
//	    0c22...             a configuration: how to start the image, and the diffIDs of its layers
//	    91be...             a layer, compressed
//
// Formats are those of the OCI image specification, image-layout.md and layer.md.
// An OCI archive is this as a tar file. One of docker save has, instead of an index, the file manifest.json.
package layout
