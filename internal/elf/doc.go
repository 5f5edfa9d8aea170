// Package elf reads what an ELF file says about the machine it is for, and to the loader.
//
// It is for files that nobody vouches for:
// of the beginning it reads a few kilobytes, of the rest only tables, whose size is bounded. It never panics.
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
//
// [ReadObject] goes on: to the section headers, and by the program header of type 2, PT_DYNAMIC,
// to the list of what the loader is to do. Its entries are a tag and a value of 4 or 8 bytes each;
// names are offsets into a table of strings, whose address the program headers of type 1, PT_LOAD, turn into a place in the file.
package elf
