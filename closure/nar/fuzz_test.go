package nar_test

import (
	"bytes"
	"testing"

	"github.com/nix2img/nix2img/closure/nar"
)

// FuzzReader checks that an archive the Reader takes is the only one of its tree.
func FuzzReader(f *testing.F) {
	f.Add(write(f, tree))
	f.Add(write(f, tree[:1]))
	f.Add(raw("nix-archive-1", "(", "type", "regular", "executable", "", "contents", "text", ")"))
	f.Add(raw("nix-archive-1", "(", "type", "symlink", "target", "x", ")"))
	f.Add(raw("nix-archive-1", "(", "type", "directory", entry("a"), entry("b"), ")"))
	f.Add(raw("nix-archive-1", "(", "type", "directory", entry("b"), entry("a"), ")"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fsys, err := nar.Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := nar.Dump(&again, fsys, "."); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.Bytes(), b) {
			t.Fatalf("read %q, wrote %q", b, again.Bytes())
		}
	})
}
