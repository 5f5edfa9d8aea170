package image

import (
	"fmt"
	"slices"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/cache"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/inspect"
)

// Runtime is what decides only speed and reporting, never bytes.
// Everything that renders an image takes one, and takes nil for the zero value.
type Runtime struct {
	// Workers is how many goroutines compress. Zero means GOMAXPROCS.
	Workers int
	// SkipVerify leaves the NAR hashes of files unchecked.
	// It does not apply to what goes into a cache.
	SkipVerify bool
	// Cache keeps what has been compressed, and what has been found out. Nil means none.
	Cache *cache.Cache
	// From has further places in which things are looked for that Cache does not have.
	// What is found there goes into Cache.
	From []cache.Source
	// TempDir is where temporary files go. Empty means the system's directory for them.
	TempDir string
	// Reserve, if not nil, is called with the size of the image before the first byte of it is written,
	// if it is known by then: that is when nearly all of it is in Cache. An error ends the build.
	Reserve func(size int64) error
	// Progress, if not nil, is called with the work done so far. Calls do not overlap.
	Progress func(Progress)
	// Note, if not nil, is told of what did not go as planned, a sentence each. Calls do not overlap.
	Note func(string)

	// Inspectors are further ones that look at objects, beside those of the image: see [Inspectors].
	Inspectors []inspect.Inspector
	// Facts may have what inspectors find in objects of the closure, by their paths,
	// so that they need not look again.
	Facts map[closure.Path]inspect.Facts
	// Accept, if not nil, is called with what the image needs of a GPU. An error ends the build.
	// If what has been kept in a cache turns out to be damaged, it is called again.
	Accept func(*gpu.Report) error
	// AcceptFirst has the files looked at before they are compressed, so that Accept is called before that.
	// Otherwise it is done at the same time, which is faster.
	AcceptFirst bool
}

// Progress tells how far a build has come.
type Progress struct {
	Object  string // what was compressed last: a store path, or "base files"
	Read    int64  // bytes that have been compressed, or need not be
	Total   int64  // about how many there are: NAR sizes, which count a little more than contents
	Written int64  // bytes of the image so far
}

// Notef tells Note something, if there is one.
func (rt *Runtime) Notef(format string, args ...any) {
	if rt != nil && rt.Note != nil {
		rt.Note(fmt.Sprintf(format, args...))
	}
}

// Shelf opens what a build has of the cache and the sources. It must be closed.
func (rt *Runtime) Shelf() *cache.Shelf {
	if rt == nil {
		rt = new(Runtime)
	}
	return cache.NewShelf(rt.Cache, rt.From, rt.TempDir, rt.Note)
}

// Survey returns what looks for the facts about the objects of an image that are to be known:
// all, but for GPU code if nobody wants to know of it, and none if there are Facts already. A nil s means a shelf without anything.
func (rt *Runtime) Survey(s *cache.Shelf, use GPU) *inspect.Survey {
	if rt == nil {
		rt = new(Runtime)
	}
	if s == nil {
		s = new(Runtime).Shelf()
	}
	list := Inspectors()
	if rt.Facts != nil {
		list = nil
	} else if rt.Accept == nil && use.None() {
		list = slices.DeleteFunc(list, func(i inspect.Inspector) bool { return i == gpu.Inspector })
	}
	v := s.Survey(append(list, rt.Inspectors...))
	v.TempDir, v.Workers = rt.TempDir, rt.Workers
	return v
}

// Warmed tells what has been done for builds to come.
type Warmed struct {
	Objects int `json:"objects"` // that it was about
	Encoded int `json:"encoded"` // of those, the ones that had to be compressed
}
