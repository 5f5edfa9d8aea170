// Package foreign holds the tests that need more than Go:
// real closures, made and described by Nix,
// and readers of images that are not ours, the kernel among them.
// They drive the nix2img command as a user would.
//
// They run with the build tag "foreign", on Debian, as root, by testdata/test.sh.
// A tool that is missing is a failure, never a reason to skip.
// With the tag "acceptance" as well, they take closures and files of several gigabytes.
package foreign
