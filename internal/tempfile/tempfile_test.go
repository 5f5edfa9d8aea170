package tempfile

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestOnlyTheDeadAreSwept(t *testing.T) {
	const prefix = "mine-"
	dir := t.TempDir()
	live, err := Create(dir, prefix, "", 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	mine := own(prefix)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{mine + "dead.tmp", "mine-elsewhere-1.tmp", "precious", mine + "other", "other.tmp"} {
		if err := os.WriteFile(at(name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at("precious"), at(mine+"link.tmp")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(at(mine+"pipe.tmp"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at(mine+"dir.tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	removed := Sweep(dir, prefix, os.Geteuid())
	if !slices.Equal(removed, []string{at(mine + "dead.tmp")}) {
		t.Errorf("removed %q", removed)
	}
	want := []string{
		filepath.Base(live.Name()), mine + "dir.tmp", mine + "link.tmp", mine + "other", mine + "pipe.tmp",
		"mine-elsewhere-1.tmp", "other.tmp", "precious",
	}
	slices.Sort(want)
	if got := names(t, dir); !slices.Equal(got, want) {
		t.Errorf("left: %q\nwant: %q", got, want)
	}
	// When its process ends, the lock is gone, and so is the reason to keep the file.
	live.Close()
	if removed := Sweep(dir, prefix, os.Geteuid()+1); len(removed) > 0 {
		t.Errorf("removed %q, which belong to another user", removed)
	}
	if removed := Sweep(dir, prefix, os.Geteuid()); !slices.Equal(removed, []string{live.Name()}) {
		t.Errorf("removed %q", removed)
	}
}

// Only one at a time has a lock, and nothing is left of it.
func TestLock(t *testing.T) {
	dir := t.TempDir()
	var holders, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				unlock, err := Lock(filepath.Join(dir, "lock"))
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n > most.Load() {
					most.Store(n)
				}
				runtime.Gosched()
				holders.Add(-1)
				unlock()
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d had it", most.Load())
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("left %v, %v", list, err)
	}
}
