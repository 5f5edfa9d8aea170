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
//	└── .nix2img
//	    ├── record.json            the build record
//	    └── shield, compat         links to libraries of the closure; see below
//
// Whatever is given by the user in [Image.Files] is merged into that tree.
//
// # GPU drivers
//
// The driver of a GPU belongs to the kernel, so it is never in the image: runtimes bring it from the host.
// Programs find it through LD_LIBRARY_PATH, as does the driver its own parts;
// RUNPATH, which is not inherited, would be enough for programs only.
// But LD_LIBRARY_PATH goes before RUNPATH, and some runtimes bring along more than the driver:
// libGL, libdrm and others of the host's distribution, which do not work with the closure's glibc.
//
// What an image does about it depends on [Image.GPU]:
//
//   - /.nix2img/shield has links to the closure's own libraries of such names.
//     Of several with one soname it is the newest, by the version in the file's name, then by that in the object's.
//   - /.nix2img/compat has links to the libraries of CUDA's compatibility package (cuda_compat), if the closure has it:
//     those of a newer driver.
//   - /.singularity.d/env/99-nix2img.sh sets LD_LIBRARY_PATH when SingularityCE and Apptainer start a program:
//     the user's value, the compatibility package, the shield, and those folders that have a driver.
//     Where there is no driver it leaves the variable unset.
//   - Runtimes that evaluate no script get a fixed value, with the shield and all folders where a driver may be: see [Resolved.OCIEnv].
//     SingularityCE and Apptainer put it into a SIF that they make of an OCI image, and the script takes it out again.
//
// The compatibility package is used if all GPUs are for data centres, by the names that the kernel has for them,
// and their driver is older than the package, and one of those that the package says it works with.
// The package for Jetson boards is used if there is the driver of such a board.
// The variable NIX2IMG_CUDA_COMPAT, set to yes or no in the container, overrides this.
// Runtimes that evaluate no script do not use it, unless LD_LIBRARY_PATH begins with its folder.
//
// # Determinism
//
// The base tree and the record are a function of the Image alone.
// Everything in the tree has the modification time of one second after the epoch and no owner.
package image
