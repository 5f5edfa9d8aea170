package tempfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestUnnamedFilesLeaveNothing(t *testing.T) {
	refuse := func(string) (*os.File, error) { return nil, errors.ErrUnsupported }
	for what, open := range map[string]func(string) (*os.File, error){"without a name": openUnnamed, "removed": refuse} {
		dir := t.TempDir()
		f, err := unnamed(dir, open, os.Remove)
		if err != nil {
			t.Fatal(err)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%s: the directory has %q", what, left)
		}
		b := make([]byte, 4)
		if _, err := f.WriteString("text"); err != nil {
			t.Error(err)
		}
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "text" {
			t.Errorf("%s: read %q, %v", what, b, err)
		}
		if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", what, info.Mode(), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestNamesThatMustBeAreSwept(t *testing.T) {
	dir := t.TempDir()
	refuse := func(string) (*os.File, error) { return nil, errors.ErrUnsupported }
	keep := func(string) error { return fs.ErrPermission }
	make := func() *os.File {
		t.Helper()
		f, err := unnamed(dir, refuse, keep)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first, second := make(), make()
	want := []string{filepath.Base(first.Name()), filepath.Base(second.Name())}
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("the directory has %q, want %q", got, want)
	}
	first.Close() // as if its process had ended
	third := make()
	if got := names(t, dir); slices.Contains(got, filepath.Base(first.Name())) || len(got) != 2 {
		t.Errorf("the directory has %q", got)
	}
	RemoveUnfinished()
	if got := names(t, dir); len(got) > 0 {
		t.Errorf("the directory has %q", got)
	}
	second.Close()
	third.Close()
}

func TestUnnamedFilesLieWhereTheyAreWanted(t *testing.T) {
	if f, err := Unnamed(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("got %v, %v", f, err)
	}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	f, err := unnamed("", func(string) (*os.File, error) { return nil, errors.ErrUnsupported }, func(string) error { return fs.ErrPermission })
	if err != nil || filepath.Dir(f.Name()) != dir {
		t.Fatalf("got %v, %v", f, err)
	}
	f.Close()
	RemoveUnfinished()
}
