package par

import (
	"runtime/debug"
	"sync/atomic"
)

var onPanic atomic.Pointer[func(value any, stack []byte)]

// OnPanic has f called with the value and the stack of a panic on a goroutine of this module. f does not return.
// A program says this before it does anything else; without it, or with nil, such a panic ends the program as any other does.
func OnPanic(f func(value any, stack []byte)) {
	if f == nil {
		onPanic.Store(nil)
		return
	}
	onPanic.Store(&f)
}

// Recover is deferred first by every goroutine of this module.
// Nobody but the goroutine itself can recover its panic, and a program has temporary files to remove.
func Recover() {
	f := onPanic.Load()
	if f == nil {
		return
	}
	if v := recover(); v != nil {
		(*f)(v, debug.Stack())
	}
}
