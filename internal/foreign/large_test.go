//go:build foreign && acceptance

package foreign

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// How often something is done that goes another way each time.
const (
	kills = 200  // SIGKILL of builds
	flips = 1000 // of bits
)

var moreTools = []string{"docker", "dockerd", "mpirun.mpich", "mpirun.openmpi"}

const manyOutputs = true

// cacheRoots are the closures that are put into binary caches.
var cacheRoots = []string{"SMALL", "MEDIUM"}

// A Python environment of 333 paths: every reader agrees with the store,
// and the program draws the same picture from the image as from the store.
func TestMedium(t *testing.T) {
	s := defaultSubject("MEDIUM")
	sif := build(t, "--sif", s.root)
	kernel := checkStore(t, s, sif)
	mustEqual(t, kernel, unsquashfsTree(t, sif), "unsquashfs")
	mustEqual(t, kernel, fuseTree(t, sif), "squashfuse")
	mustEqual(t, kernel, ownTree(t, partition(t, sif)), "squashfs.Open")
	mustEqual(t, asDiskfs(kernel), diskfsTree(t, sif), "go-diskfs")

	root := mounted(t, sif)
	temp := newDir(t)
	output(t, "mount", "--bind", temp, root+"/tmp")
	defer output(t, "umount", root+"/tmp")
	// PyTorch reads /dev/urandom and /proc/cpuinfo
	output(t, "mount", "--bind", "/dev", root+"/dev")
	defer output(t, "umount", root+"/dev")
	output(t, "mount", "-t", "proc", "proc", root+"/proc")
	defer output(t, "umount", root+"/proc")
	inRoot(t, root, s.root+"/bin/python", "-m", "edm.example", "/tmp/image.png")
	outside := filepath.Join(temp, "store.png")
	cmd := exec.Command(s.root+"/bin/python", "-m", "edm.example", outside)
	cmd.Env = []string{}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if digest(t, filepath.Join(temp, "image.png")) != digest(t, outside) {
		t.Error("the picture drawn in the image differs")
	}
}

// Two closures that differ in their last paths give images that begin alike.
func TestMedium2SharesPrefix(t *testing.T) {
	a, b := build(t, "--squashfs", os.Getenv("MEDIUM")), build(t, "--squashfs", os.Getenv("MEDIUM2"))
	prefix := commonPrefix(t, a, b)
	t.Logf("common prefix: %d of %d bytes", prefix, fileSize(t, a))
	if prefix < fileSize(t, a)*95/100 {
		t.Errorf("only %d of %d bytes are common", prefix, fileSize(t, a))
	}
}

// A line of the application has changed. Only the paths that it makes different are read and compressed,
// and little has to be sent to those who have the former image.
func TestMediumChanges(t *testing.T) {
	dir := newDir(t)
	cache, other := filepath.Join(dir, "cache"), filepath.Join(dir, "other")
	medium, medium2 := os.Getenv("MEDIUM"), os.Getenv("MEDIUM2")
	before, after := closurePaths(t, "", medium), closurePaths(t, "", medium2)
	changed := slices.DeleteFunc(slices.Clone(after), func(p string) bool { return slices.Contains(before, p) })
	if len(changed) == 0 || len(changed) > 20 {
		t.Fatalf("%d of %d paths have changed: %q", len(changed), len(after), changed)
	}
	mustCompress(t, len(before), len(before), "--cache", cache, medium)
	output(t, "cp", "-a", cache, other)
	mustCompress(t, len(changed), len(after), "--cache", other, medium2)

	former, latter := filepath.Join(dir, "former.sif"), filepath.Join(dir, "latter.sif")
	buildTo(t, command("build", "-q", "--cache", cache, "-o", former, medium))
	cold := digest(t, build(t, "--sif", medium2))
	for _, args := range [][]string{{"--cache", cache}, {"--no-cache", "--reuse", former}} {
		files := opened(t, slices.Concat([]string{"build", "-q", "-o", latter}, args, []string{medium2})...)
		for _, file := range files {
			if !slices.ContainsFunc(changed, func(p string) bool { return file == p || strings.HasPrefix(file, p+"/") }) {
				t.Errorf("%q: opened %s", args, file)
			}
		}
		if digest(t, latter) != cold {
			t.Errorf("%q: other bytes", args)
		}
	}

	i := inspect(t, latter)
	var encoded, end int64
	for _, s := range i.Record.Segments {
		end = max(end, s.Offset+s.Size)
		if s.Name == "." || slices.Contains(changed, "/"+s.Name) {
			encoded += s.Size
		}
	}
	tables := fileSize(t, latter) - i.Partition.Offset - end
	copied := filepath.Join(dir, "copied.sif")
	output(t, "cp", former, copied)
	stats := output(t, "rsync", "--no-whole-file", "--ignore-times", "--stats", latter, copied)
	if digest(t, copied) != cold {
		t.Error("rsync: other bytes")
	}
	literal := regexp.MustCompile(`Literal data: ([0-9,]+) bytes`).FindStringSubmatch(stats)
	if literal == nil {
		t.Fatalf("rsync: %s", stats)
	}
	sent, err := strconv.ParseInt(strings.ReplaceAll(literal[1], ",", ""), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d paths have changed; of %d bytes, %d are segments that changed and %d tables; rsync sends %d",
		len(changed), len(after), fileSize(t, latter), encoded, tables, sent)
	if sent > 2*encoded+tables {
		t.Errorf("rsync sends %d bytes, more than twice the %d that changed and the %d of tables", sent, encoded, tables)
	}
}

// commonPrefix counts the bytes from which on two files differ, the superblock aside.
func commonPrefix(t testing.TB, a, b string) int64 {
	t.Helper()
	const superblock = 96
	var readers [2]*bufio.Reader
	for i, name := range []string{a, b} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.Seek(superblock, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		readers[i] = bufio.NewReaderSize(f, 1<<20)
	}
	for n := int64(superblock); ; n++ {
		x, errX := readers[0].ReadByte()
		y, errY := readers[1].ReadByte()
		if errX != nil || errY != nil || x != y {
			return n
		}
	}
}

// The closure with the CUDA libraries, as it is in the store and the same bytes for any worker count.
func TestLarge(t *testing.T) {
	s := defaultSubject("LARGE")
	sif := build(t, "--sif", s.root)
	checkStore(t, s, sif)
	mustEqual(t, diskTree(t, mounted(t, sif)), ownTree(t, partition(t, sif)), "squashfs.Open")
	if digest(t, sif) != digest(t, build(t, "--sif", "-j", "7", s.root)) {
		t.Error("other bytes with 7 workers")
	}
}

// A file of 5 GiB, all holes, and an image of more than 4 GiB are mounted and read back.
func TestPast4GiB(t *testing.T) {
	dir := newDir(t)
	store := filepath.Join(dir, "root")
	add := func(name string) string {
		t.Helper()
		p := strings.TrimSpace(output(t, "nix-store", "--store", store, "--add", filepath.Join(dir, name)))
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		return p
	}

	sparse, err := os.Create(filepath.Join(dir, "a-sparse"))
	if err != nil {
		t.Fatal(err)
	}
	const end = 5<<30 + 12345
	if _, err := sparse.WriteAt([]byte("end"), end-3); err != nil {
		t.Fatal(err)
	}
	sparse.Close()
	holes := add("a-sparse")

	noise, err := os.Create(filepath.Join(dir, "b-noise"))
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	const noiseSize = 4<<30 + 300<<20
	if _, err := io.CopyN(io.MultiWriter(noise, h), rand.NewChaCha8([32]byte{1}), noiseSize); err != nil {
		t.Fatal(err)
	}
	noise.Close()
	wantNoise := hex.EncodeToString(h.Sum(nil))
	noisy := add("b-noise")

	// data blocks and inodes that lie past 4 GiB
	if err := os.CopyFS(filepath.Join(dir, "c-last"), os.DirFS(filepath.Join(module, "testdata/closures"))); err != nil {
		t.Fatal(err)
	}
	last := add("c-last")

	image := build(t, "--squashfs", "--arch", "amd64", "--store", store, holes, noisy, last)
	if size := fileSize(t, image); size < 4<<30 || size > 4<<30+400<<20 {
		t.Errorf("the image has %d bytes", size)
	}
	root := mounted(t, image)
	mustEqual(t, diskTree(t, store+last), diskTree(t, root+last), "kernel")
	if got := digest(t, root+noisy); got != wantNoise {
		t.Error("noise: the kernel reads other bytes")
	}
	if digest(t, root+holes) != digest(t, store+holes) {
		t.Error("sparse file: the kernel reads other bytes")
	}
	mustEqual(t, diskTree(t, root), ownTree(t, partition(t, image)), "squashfs.Open")
}
