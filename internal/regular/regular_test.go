package regular_test

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/nix2img/nix2img/internal/regular"
)

func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(at("file"), []byte("text"), 0o600),
		os.Symlink("file", at("link")),
		syscall.Mkfifo(at("pipe"), 0o600),
		os.Symlink("pipe", at("link to a pipe")),
		os.Symlink("loop", at("loop")),
	); err != nil {
		t.Fatal(err)
	}
	if l, err := net.Listen("unix", at("socket")); err == nil {
		defer l.Close()
	}
	for _, name := range []string{"file", "link"} {
		f, err := regular.Open(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(f); string(b) != "text" || err != nil {
			t.Errorf("%s: read %q, %v", name, b, err)
		}
		f.Close()
	}
	for _, name := range []string{at("pipe"), at("link to a pipe"), at("socket"), dir, "/dev/zero"} {
		if f, err := regular.Open(name); !errors.Is(err, regular.ErrKind) {
			t.Errorf("%s: %v, %v", name, f, err)
		}
	}
	if _, err := regular.Open(at("nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := regular.Open(at("loop")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("loop: %v", err)
	}
}
