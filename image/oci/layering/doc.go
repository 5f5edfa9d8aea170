// Package layering divides the store objects of a closure into the layers of an image,
// so that little has to be pulled again when something changes.
//
//	layers, err := new(layering.Options).Plan(c)
//
// An object changes when anything does that it needs, for its path has the hash of all that:
//
//	  application          changes most often: its layer lies last
//	   │       │
//	module   module        change when they do, or python, or glibc
//	   │       │
//	  python   │
//	   │       │
//	   └─ glibc            changes least: its layer lies first
//
// So a layer with the application and glibc in it would be pulled whole for every change of the application.
// A plan merges those objects first of which that costs least: the sum over all layers of size times rate of change.
// It depends on nothing but the closure and the options.
package layering
