package nixdb

import (
	"os"
	"testing"
)

// WithoutLocks has all file systems say for a while that they have no locks.
func WithoutLocks(t *testing.T) {
	before := lockable
	lockable = func(*os.File) bool { return false }
	t.Cleanup(func() { lockable = before })
}
