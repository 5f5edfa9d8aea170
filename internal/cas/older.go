package cas

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"github.com/nix2img/nix2img/internal/tempfile"
)

// RemoveOlder removes what earlier versions have left in the directory: stores of one kind each, with entries that this one does not use.
func (s *Store) RemoveOlder() {
	removeEntries(filepath.Join(s.dir, "v1"))
	for _, name := range []string{"gpu", "oci"} {
		old := filepath.Join(s.dir, name)
		removeEntries(filepath.Join(old, "v1"))
		tempfile.Sweep(filepath.Join(old, "tmp"), tempPrefix, os.Geteuid())
		os.Remove(filepath.Join(old, "tmp"))
		os.Remove(old)
	}
}

// removeEntries removes the entries of an earlier version and their folders, but nothing that is not an entry.
func removeEntries(dir string) {
	folders, _ := os.ReadDir(dir)
	for _, d := range folders {
		if len(d.Name()) != 2 || !d.IsDir() {
			continue
		}
		folder := filepath.Join(dir, d.Name())
		files, _ := os.ReadDir(folder)
		for _, f := range files {
			sum, err := hex.DecodeString(f.Name())
			if err == nil && len(sum) == len(Key{}.Sum) && strings.HasPrefix(f.Name(), d.Name()) && f.Type().IsRegular() {
				os.Remove(filepath.Join(folder, f.Name()))
			}
		}
		os.Remove(folder) // if there is nothing else in it
	}
	os.Remove(dir)
}
