package tempfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// beginSync tells the disk to begin to write n bytes of a file.
// Whether this does anything is up to the file system. What goes wrong, Sync reports.
func beginSync(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
