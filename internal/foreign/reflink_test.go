//go:build foreign

package foreign

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a file system with reflinks, an image out of the cache has its blocks in common with it.
func TestReflink(t *testing.T) {
	s := defaultSubject("SMALL")
	plain := build(t, append([]string{"--sif"}, s.args...)...)
	info, err := os.Stat(plain)
	if err != nil {
		t.Fatal(err)
	}

	dir := newDir(t)
	disk := filepath.Join(dir, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 1<<30); err != nil {
		t.Fatal(err)
	}
	output(t, "mkfs.xfs", "-q", "-m", "reflink=1", disk)
	at := mount(t, disk, "-o", "loop")
	free := func() int64 {
		unix.Sync()
		var st unix.Statfs_t
		if err := unix.Statfs(at, &st); err != nil {
			t.Fatal(err)
		}
		return int64(st.Bfree) * st.Bsize
	}

	cache, image := filepath.Join(at, "cache"), filepath.Join(at, "image.sif")
	mustCompress(t, len(s.paths(t)), len(s.paths(t)), append([]string{"--cache", cache}, s.args...)...)
	before := free()
	buildTo(t, command(append([]string{"build", "-q", "--sif", "-o", image, "--cache", cache}, s.args...)...))
	if digest(t, image) != digest(t, plain) {
		t.Error("other bytes")
	}
	took := before - free()
	t.Logf("an image of %d bytes takes %d", info.Size(), took)
	if took > info.Size()/10 {
		t.Error("that is too much, beside the cache")
	}
}
