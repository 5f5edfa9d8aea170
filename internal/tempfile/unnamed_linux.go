package tempfile

import (
	"os"

	"golang.org/x/sys/unix"
)

// openUnnamed opens a file that has never had a name, and never gets one.
func openUnnamed(dir string) (*os.File, error) {
	return os.OpenFile(dir, unix.O_TMPFILE|unix.O_EXCL|os.O_RDWR, 0o600)
}
