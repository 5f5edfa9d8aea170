// Package registry moves images, SIF files and what is said about them
// to and from registries of the OCI distribution specification.
//
//	ref, err := name.ParseReference("registry.example.org/group/app:1.0")
//	digest, err := registry.Push(ctx, ref, img, nil) // img: a v1.Image or v1.ImageIndex
//	img, digest, err := registry.Pull(ctx, ref, platform, nil)
//
// References, credentials and manifests are those of go-containerregistry.
// Blobs are sent and fetched by this package, so that a transfer that breaks off is resumed.
//
// # Sending
//
//	HEAD manifest        the tag has this digest already: nothing to do
//	  for each blob, several at a time
//	  HEAD blob          the registry has it: it is not even read
//	  POST uploads       it may be mounted from another repository
//	  PATCH, PATCH, PUT  pieces, each of which is repeated alone; a small blob is one PUT;
//	                     a registry that refuses one form is sent another: one PUT, or one PATCH and an empty PUT
//	PUT manifest         by its digest: a registry that reads another digest has no tag yet
//	PUT manifest         by its tag, last
//
// So a tag never points at what is not there.
// A failure that may pass, be it a connection that breaks, a status of 5xx or a 429, is followed by a pause,
// twice as long each time, or as long as the registry asks for in Retry-After; and then by an attempt that
// begins with the question how much has arrived.
// After five failures in a row without a byte of progress the operation ends with an [*Error].
// A host that has not answered a single request is not waited for.
//
// # Fetching
//
// The layers of an image that [Pull] returns come from the registry while they are read.
// After a broken connection, only the rest is fetched.
// The last read compares size and digest, and returns a [*DigestError] instead of [io.EOF].
//
// # A SIF in a registry
//
// [SIF] makes an artifact of a SIF file as "singularity pull oras://" and "apptainer pull oras://" take it:
//
//	manifest    application/vnd.oci.image.manifest.v1+json
//	  config    application/vnd.sylabs.sif.config.v1+json     {}
//	  layer     application/vnd.sylabs.sif.layer.v1.sif       the file; its name is the annotation
//	                                                          org.opencontainers.image.title
//
// # Referrers
//
// [Attach] sends a document about an image: a manifest whose subject is the image.
// Registries without the referrers API keep a list of them under the tag sha256-DIGEST,
// as the distribution specification describes.
package registry
