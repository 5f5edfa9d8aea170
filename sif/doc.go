// Package sif writes and reads an image as a SIF file:
// the format of SingularityCE and Apptainer, one file that is run as it lies.
//
// [WriteFile] makes a SIF of an [image.Image]; [OpenFile] reads one, whoever made it.
//
//	res, err := sif.WriteFile(ctx, "hello.sif", img, nil, nil)
//	f, err := sif.OpenFile("hello.sif")
//	fsys, err := f.FS() // the root file system
//
// [Write] writes to other things than files, [Stream] to a pipe, and [Open] reads from other things than files.
//
// # The file
//
// A SIF is a header, a table of descriptors and the objects that they describe.
// All numbers are little-endian.
// In a file that this package writes, the root file system comes first,
// so that it always lies at the same offset, whatever follows it:
//
//	    0  header          128 bytes: launch script (32), "SIF_MAGIC\0", version "01",
//	                       architecture, UUID, times, where the table and the objects are
//	 4096  descriptors     48 of 585 bytes; four are in use
//	32176  padding
//	32768  partition       the root file system, a squashfs: "primary system partition"
//	       nix2img.json    the build record with the image ID, see [image.Record]
//	       inspect-metadata.json
//	                       labels, environment and run script as the runtimes'
//	                       "inspect" shows them without starting a container
//	       Def.FILE        a comment in place of a definition file, which "inspect" looks for
//
// The other descriptors are free, for signatures and what else may follow.
// All objects are in group 1, because a signature is for a group.
//
// The partition can be mounted as it is:
//
//	mount -t squashfs -o loop,offset=32768 hello.sif /mnt
//
// # The OCI-SIF
//
// With [Options].OCI it is a file that SingularityCE 4 runs with --oci, by runc or crun.
// The same squashfs is the only layer of an OCI image, and lies in the same place:
//
//	32768  OCI.Blob        the layer: application/vnd.sylabs.image.layer.v1.squashfs;
//	                       its diffID is its digest
//	       OCI.Blob        the configuration: environment, entrypoint, labels
//	       OCI.Blob        the manifest
//	       OCI.RootIndex   the index, with this one manifest
//
// The build record is in the root file system alone.
// Apptainer does not run these files.
//
// # Same image, same bytes
//
// Nothing in the file depends on when, where or by whom it is written.
// Its UUID is made of the image ID: the first half of the digest,
// marked as a UUID of version 8 (RFC 9562, section 5.8).
// All times are the image's time of creation, which is one second after the epoch by default.
//
// The squashfs is written straight to its place and never copied.
package sif
