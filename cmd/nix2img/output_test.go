package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func testApp(t *testing.T) *app {
	t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	return &app{ui: newUI(null, null, null)}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestOutputAppearsWholeOrNotAtAll(t *testing.T) {
	a, dir := testApp(t), t.TempDir()
	path := filepath.Join(dir, "image.sif")
	o, err := a.create(path, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 || !strings.Contains(got[0], "-image.sif-") || !strings.HasSuffix(got[0], ".tmp") {
		t.Errorf("while writing: %q", got)
	}
	if _, err := o.WriteAt([]byte("data"), 0); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
	o.Discard() // as deferred
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("when done: %q", got)
	}
	if len(a.temps.names) > 0 {
		t.Errorf("still known as temporary: %v", a.temps.names)
	}

	o, err = a.create(path, 0o777)
	if err != nil {
		t.Fatal(err)
	}
	o.Discard()
	if data, err := os.ReadFile(path); err != nil || string(data) != "data" {
		t.Errorf("after a failure: %q, %v", data, err)
	}
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("after a failure: %q", got)
	}

	// As after a signal, when there is no time to end in order.
	if _, err = a.create(path, 0o777); err != nil {
		t.Fatal(err)
	}
	a.temps.removeAll()
	if got := names(t, dir); !slices.Equal(got, []string{"image.sif"}) {
		t.Errorf("after a signal: %q", got)
	}
}

func TestLongOutputNames(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 255))
	o, err := testApp(t).create(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); err != nil {
		t.Fatal(err)
	}
}

func TestOutputErrorsHaveTheNameThatTheUserKnows(t *testing.T) {
	a, path := testApp(t), filepath.Join(t.TempDir(), "image.sif")
	o, err := a.create(path, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	o.Discard() // so that it is closed
	_, werr := o.WriteAt([]byte("x"), 0)
	_, rerr := o.ReadAt(make([]byte, 1), 0)
	for _, err := range []error{werr, rerr, o.Truncate(1)} {
		var pe *fs.PathError
		if !errors.As(err, &pe) || pe.Path != path || !errors.Is(err, os.ErrClosed) {
			t.Errorf("err = %v", err)
		}
	}
}
