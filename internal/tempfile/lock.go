package tempfile

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Lock makes a file and locks it, when nobody else has it locked. unlock removes the file.
// Where the file system has no locks, everybody gets one.
//
// The mode of the file is 0666, subject to the umask.
func Lock(name string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o666)
		if errors.Is(err, fs.ErrPermission) { // it is another user's
			f, err = os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		}
		if err != nil {
			return nil, err
		}
		if lock(f, unix.LOCK_EX) != nil || sameFile(f, name) {
			return func() {
				os.Remove(name)
				f.Close()
			}, nil
		}
		f.Close() // it was removed between our opening and locking it
	}
}
