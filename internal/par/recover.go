package par

import "runtime/debug"

// OnPanic is called with the value and the stack of a panic on a goroutine of this module, and does not return.
// A program sets it before it does anything else; without it, such a panic ends the program as any other does.
var OnPanic func(value any, stack []byte)

// Recover is deferred first by every goroutine of this module.
// Nobody but the goroutine itself can recover its panic, and a program has temporary files to remove.
func Recover() {
	if OnPanic == nil {
		return
	}
	if v := recover(); v != nil {
		OnPanic(v, debug.Stack())
	}
}
