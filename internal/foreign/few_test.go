//go:build foreign && !acceptance

package foreign

// How often something is done that goes another way each time. With the tag "acceptance", it is more often.
const (
	kills = 20 // SIGKILL of builds
	flips = 50 // of bits
)

// moreTools are those that only the tag "acceptance" needs.
var moreTools []string

// manyOutputs has container engines take each output, and not only one for each compression.
const manyOutputs = false

// cacheRoots are the closures that are put into binary caches.
var cacheRoots = []string{"SMALL"}
