// Package net finds out what a file tree has for programs that run on many nodes,
// and says beforehand how they will fare on a network.
//
// It works in two steps, as package gpu does. [Inspector] looks at a tree, a store path for instance; package inspect says how.
// The [Facts] that it finds follow from the tree alone, and can be kept.
// [New] takes the facts of all trees of an image, and where each tree lies, and makes a [Report] of them.
// [Report.Check] compares that with a [Fabric], and with libraries of a host that are to be used.
//
// # What is known, and how
//
// Nothing is run. What a file is a part of is said by its name, which those who load it go by:
//
//	libmpi.so, libmpich.so        MPI; its texts say whose, which version, and what carries its messages
//	mca_pml_ucx.so                a component of Open MPI, beside it
//	libfabric.so, libverbs-fi.so  libfabric, and a provider of it
//	libucp.so, libuct_ib.so       UCX, and a module of it
//	libpmix.so, libpmi2.so        what starts programs
//	libnccl.so, libnccl-net.so    NCCL, and a plugin of it
//	libibverbs.so, libmlx5-rdmav34.so   RDMA, and a driver of it
//
// Providers may also be built into libfabric, and libfabric into MPI. Names of providers say nothing,
// as the text of a library has all of them. A built-in provider is known by the names of its functions, which it logs.
//
// Which file loads which is found out as glibc's loader would do it: see package loader.
//
// # Verdicts
//
// A verdict is about means, and not about machines: that there is a provider for Slingshot and all that it needs,
// and not that the version suits the one in the machine. What cannot be seen is [Unknown], never good and never bad.
package net
