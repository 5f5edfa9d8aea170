package tempfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func begin(t *testing.T, path string) *File {
	t.Helper()
	f, err := NewFile(path, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Discard)
	return f
}

func TestFileAppearsWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image.sif")
	f := begin(t, path)
	if got := names(t, dir); len(got) != 1 || !strings.HasPrefix(got[0], Prefix) || !strings.Contains(got[0], "-image.sif-") {
		t.Errorf("while writing: %q", got)
	}
	if removed := SweepBeside(path); len(removed) > 0 {
		t.Errorf("swept %q, which is being written", removed)
	}
	if _, err := f.WriteAt([]byte("data"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Discard() // as deferred
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("when done: %q", got)
	}
	if len(unfinished.names) > 0 {
		t.Errorf("still known as unfinished: %v", unfinished.names)
	}

	begin(t, path).Discard()
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Errorf("after a failure: %q, %v", data, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("after a failure: %q", got)
	}

	// As after a signal, when there is no time to end in order.
	begin(t, path)
	RemoveUnfinished()
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("after a signal: %q", got)
	}
}

func TestFileOfADeadProcessIsSwept(t *testing.T) {
	dir := t.TempDir()
	dead := begin(t, filepath.Join(dir, "image.sif"))
	dead.Close() // and with it goes the lock
	if removed := SweepBeside(filepath.Join(dir, "other")); !slices.Equal(removed, []string{dead.Name()}) {
		t.Errorf("removed %q, want %q", removed, dead.Name())
	}
}

func TestLongNames(t *testing.T) {
	if err := begin(t, filepath.Join(t.TempDir(), strings.Repeat("x", 255))).Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestErrorsHaveTheNameThatTheUserKnows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.sif")
	f := begin(t, path)
	f.Discard() // so that it is closed
	_, werr := f.WriteAt([]byte("x"), 0)
	_, rerr := f.ReadAt(make([]byte, 1), 0)
	for _, err := range []error{werr, rerr, f.Truncate(1)} {
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != path || !errors.Is(err, os.ErrClosed) {
			t.Errorf("err = %v", err)
		}
	}
}

func TestReserve(t *testing.T) {
	f := begin(t, filepath.Join(t.TempDir(), "image.sif"))
	if err := f.Reserve(1); err != nil {
		t.Error(err)
	}
	if err := f.Reserve(1 << 62); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), f.Path()) {
		t.Errorf("err = %v", err)
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("file"), nil, 0o666),
		os.Symlink("file", at("link")),
		os.Symlink("nowhere", at("dangling")),
		syscall.Mkfifo(at("pipe"), 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ path, want, err string }{
		{at("new"), at("new"), ""},
		{at("file"), at("file"), ""},
		{at("link"), at("file"), ""},
		{at("dangling"), at("dangling"), ""},
		{dir, "", "is a directory"},
		{at("new") + "/", "", "does not exist"},
		{at("pipe"), "", ErrNotRegular.Error()},
		{at("no/new"), "", "does not exist"},
		{at("file/new"), "", "is not a directory"},
	} {
		got, err := Resolve(tt.path)
		if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %q, %v", tt.path, got, err)
		}
	}
}
