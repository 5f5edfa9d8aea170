//go:build !linux

package reflink

import "errors"

// cloneRange is for Linux alone: elsewhere, whole files can be cloned, but no parts of them.
func cloneRange(to uintptr, off int64, from uintptr, srcOff, n int64) error {
	return errors.ErrUnsupported
}
