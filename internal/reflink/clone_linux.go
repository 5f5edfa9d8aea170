package reflink

import "golang.org/x/sys/unix"

func cloneRange(to uintptr, off int64, from uintptr, srcOff, n int64) error {
	return unix.IoctlFileCloneRange(int(to), &unix.FileCloneRange{
		Src_fd:      int64(from),
		Src_offset:  uint64(srcOff),
		Src_length:  uint64(n),
		Dest_offset: uint64(off),
	})
}
