// Package elf reads what the beginning of an ELF file says about the machine it is for.
//
// It is for files that nobody vouches for:
// it reads at most a few kilobytes, allocates no more, and never panics.
// The layout is that of the System V ABI, chapter 4 (header) and 5 (program headers):
//
//	offset    32-bit  64-bit
//	magic          0       0   7f 45 4c 46
//	class          4       4   1: 32-bit, 2: 64-bit
//	byte order     5       5   1: little endian, 2: big endian
//	type          16      16   2: program, 3: shared object or program
//	machine       18      18
//	phoff         28      32   where the program headers are
//	phentsize     42      54   bytes each: 32 or 56
//	phnum         44      56   how many
//
// A program header of type 3, PT_INTERP, says where in the file the path of the loader is.
package elf
