package binarycache

import (
	"fmt"
	"path"
	"strconv"
)

// Info is what the file nix-cache-info says of a cache.
type Info struct {
	StoreDir string // of all objects in it
	// WantMassQuery says that the cache does not mind being asked for many objects.
	WantMassQuery bool
	// Priority orders caches that have the same object: the one with the smallest number is asked first.
	Priority int
}

// ParseInfo reads a nix-cache-info. Fields that are not known are ignored, as in Nix.
// Where it says nothing, the store directory is /nix/store, and the priority is 0, Nix's default.
func ParseInfo(text []byte) (*Info, error) {
	info := &Info{StoreDir: "/nix/store"}
	for key, value := range fields(text) {
		switch key {
		case "StoreDir":
			if !path.IsAbs(value) || path.Clean(value) != value || value == "/" {
				return nil, fmt.Errorf("binarycache: parse nix-cache-info: StoreDir: %q is not an absolute path", shorten(value))
			}
			info.StoreDir = value
		case "WantMassQuery":
			info.WantMassQuery = value == "1"
		case "Priority":
			n, err := strconv.ParseInt(value, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("binarycache: parse nix-cache-info: Priority: %q is not a number", shorten(value))
			}
			info.Priority = int(n)
		}
	}
	return info, nil
}
