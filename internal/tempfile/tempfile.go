// Package tempfile makes files that appear when they are complete ([File]),
// and the temporary files behind them, which can be told from those that dead processes have left.
//
// A temporary file is locked by the process that writes it.
// One that is not locked belongs to nobody any more, and [Sweep] removes it.
// Where the file system has no locks, nothing is ever swept.
// Where the locks of one machine are unknown to others, they are left alone:
// names have that of the machine in them.
package tempfile

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// suffix is that of all names.
const suffix = ".tmp"

// own begins the names of this machine's files.
func own(prefix string) string {
	host, _ := os.Hostname()
	return prefix + strings.ReplaceAll(host, "/", "_") + "-"
}

// Create makes a file in dir, for reading and writing, and locks it.
// Its name begins with prefix, and has name in it for people to see.
// The mode is subject to the umask.
func Create(dir, prefix, name string, mode fs.FileMode) (*os.File, error) {
	prefix = own(prefix) + name
	for {
		name := filepath.Join(dir, prefix+strconv.FormatUint(rand.Uint64(), 36)+suffix)
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if lock(f, unix.LOCK_EX) != nil || sameFile(f, name) {
			return f, nil
		}
		f.Close() // swept between its creation and the lock
	}
}

// Sweep removes the files of Create, with the same dir and prefix on the same machine, that nobody has locked,
// as far as they belong to the user uid. It returns their names.
func Sweep(dir, prefix string, uid int) (removed []string) {
	prefix = own(prefix)
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	for _, name := range names {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			if name = filepath.Join(dir, name); removeDead(name, uid) {
				removed = append(removed, name)
			}
		}
	}
	return removed
}

func removeDead(name string, uid int) bool {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != uid {
		return false
	}
	return lock(f, unix.LOCK_EX|unix.LOCK_NB) == nil && sameFile(f, name) && os.Remove(name) == nil
}

func lock(f *os.File, how int) error {
	for {
		if err := unix.Flock(int(f.Fd()), how); err != unix.EINTR {
			return err
		}
	}
}

// sameFile reports whether f is still the file with the given name.
func sameFile(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(name)
	return err == nil && os.SameFile(a, b)
}
