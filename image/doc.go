// Package image describes a container image whatever its format:
// a closure, the files that runtimes expect around it, and how its programs are started.
//
// An [Image] is what a caller asks for.
// [Image.Resolve] looks into the closure and settles what was left open:
// the architecture, the search path, the program to start.
// Then [Resolved.Base] makes the base tree, which is everything outside of the store directory,
// and [Resolved.Record] the build record.
// Renderers, such as package squash, put base tree and store objects together.
//
//	/
//	├── nix/store/...              the closure's objects, not part of the base tree
//	├── bin/sh, usr/bin/env        links into the closure, if it has such programs
//	├── lib64/ld-linux-x86-64.so.2 link to the loader of the closure's programs
//	├── etc                        passwd, group and other files that runtimes bind over
//	├── usr/bin/nvidia-smi, ...    empty files for runtimes to bind the host's programs on
//	├── run/opengl-driver/lib      link to where SingularityCE and Apptainer put the host's GPU driver
//	├── tmp, dev, mnt, ...         folders for runtimes to mount on
//	├── .singularity.d
//	│   ├── env                    scripts that SingularityCE and Apptainer set the environment with
//	│   └── runscript, ...         what they start
//	├── etc/environment, etc/rc    the same for enroot
//	├── ch/environment             the same for Charliecloud
//	└── .nix2img/record.json       the build record
//
// Whatever is given by the user in [Image.Files] is merged into that tree.
//
// # Determinism
//
// The base tree and the record are a function of the Image alone.
// Everything in the tree has the modification time of one second after the epoch and no owner.
package image
