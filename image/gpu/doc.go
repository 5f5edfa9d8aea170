// Package gpu finds out what a file tree needs of a GPU and its driver,
// and says beforehand on which GPUs, and with which driver, its programs will run.
//
// It works in two steps. [Inspector] looks at a tree, a store path for instance; package inspect says how.
// The [Facts] that it finds follow from the tree alone, and can be kept.
// [New] takes the facts of all trees of an image, and where each tree lies, and makes a [Report] of them.
// [Report.Check] compares that with GPUs and a driver.
//
// # Types
//
// Most types of this package are there to be read as JSON, by people and programs. There are three documents:
//
//	Facts    of one tree, in caches        File, Link, Code, Container and what they have in them
//	Report   of an image, by "gpu --json"  Library, Need, Lookup, CUDAVersion, Compiler, Suspect, ...
//	         with its Summary, which is in the build record, and the Verdict
//
// To use the package from Go, [Inspect] or [Inspector], [New], [ParseTarget], [ParseDriver] and [Report.Check] are enough.
//
// # CUDA fat binaries
//
// nvcc puts device code into the host's ELF files, as containers that may lie anywhere at a multiple of 8,
// most of them in the section .nv_fatbin. Numbers are little endian:
//
//	┌──────────────────────┬──────────────┬─────────┬──────────────┬─────────┬ ─ ─
//	│ container header, 16 │ entry header │ payload │ entry header │ payload │
//	└──────────────────────┴──────────────┴─────────┴──────────────┴─────────┴ ─ ─
//
//	container header            entry header
//	 0  u32 0xBA55ED50           0  u16 kind: 1 PTX, 2 cubin, 8 LTO IR
//	 4  u16 version: 1           4  u32 bytes of this header, at least 64
//	 6  u16 bytes: 16            8  u64 bytes of the payload, with padding
//	 8  u64 bytes of entries    24  u16, u16 minor and major: of PTX's instruction set
//	                            28  u32 target: 90 is sm_90
//	                            40  u64 flags: 0x100000 is the "a" of sm_90a, 0x8000 zstd
//
// Payloads may be compressed; the targets can be listed without expanding them.
// A container belongs to one source file. When it is loaded, the driver takes
// the entry that suits the GPU best, or compiles PTX, or fails. So a library serves a GPU
// if its containers do, and not if just any of its entries does.
//
// # ROCm bundles
//
// The section .hip_fatbin has bundles, each at a multiple of 4096:
//
//	 0  "__CLANG_OFFLOAD_BUNDLE__"
//	24  u64 number of entries, then for each:
//	    u64 offset from the begin of the bundle, u64 bytes, u64 length of the ID,
//	    ID: hipv4-amdgcn-amd-amdhsa--gfx90a:xnack+, or that of the host, without contents
//
// They may be compressed as a whole, with a header that begins with "CCOB"; then the list is in the first bytes that come out.
//
// The layouts were found by looking at libraries, and confirmed by comparing what is listed with cuobjdump.
package gpu
