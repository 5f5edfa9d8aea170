//go:build foreign

package foreign

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// random returns a source of randomness. Its seed is in the log;
// NIX2IMG_SEED repeats a run, as far as the moments at which processes die can be repeated.
func random(t testing.TB) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("NIX2IMG_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal("NIX2IMG_SEED:", err)
		}
	}
	t.Logf("NIX2IMG_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// entries lists the files that hold the segments of a cache.
func entries(t testing.TB, cache string) []string {
	t.Helper()
	var files []string
	for _, name := range list(t, filepath.Join(cache, "v2")) {
		if strings.HasSuffix(name, ".segment") {
			files = append(files, name)
		}
	}
	return files
}

// mustBeSound decodes all that is in a cache, and looks for what should not be there.
func mustBeSound(t testing.TB, cache string) {
	t.Helper()
	if left := list(t, filepath.Join(cache, "tmp"))[1:]; len(left) > 0 {
		t.Errorf("temporary files in the cache: %q", left)
	}
	r := run(t, command("cache", "verify", "--cache", cache))
	if r.code != 0 || !strings.Contains(r.stdout, "what they should be") {
		t.Errorf("cache verify: exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// mustCompress runs "nix2img warm" and checks how many store paths it had to compress.
func mustCompress(t testing.TB, want, of int, args ...string) {
	t.Helper()
	r := run(t, command(append([]string{"warm"}, args...)...))
	if said := fmt.Sprintf("compressed %d of %d store path", want, of); r.code != 0 || !strings.Contains(r.stderr, said) {
		t.Errorf("warm: exit code %d, and not %q:\n%s", r.code, said, r.stderr)
	}
}

// An image has the same bytes wherever its segments come from.
func TestSameBytesFromSegments(t *testing.T) {
	s := defaultSubject("SMALL")
	for _, format := range [][]string{
		{"--sif"},
		{"--squashfs", "--compression", "zstd:3", "--block-size", "256K"},
	} {
		t.Run(strings.Join(format, " "), func(t *testing.T) {
			dir := newDir(t)
			format := append(format, s.args...)
			plain := build(t, format...)
			want := digest(t, plain)
			check := func(name string, args ...string) {
				t.Helper()
				file := filepath.Join(dir, "image")
				args = append(args, format...)
				buildTo(t, command(append([]string{"build", "-q", "-o", file}, args...)...))
				if digest(t, file) != want {
					t.Errorf("%s: other bytes", name)
				}
				r := run(t, command(append([]string{"build", "-q", "-o", "-"}, args...)...))
				if r.code != 0 || digestOf(t, strings.NewReader(r.stdout)) != want {
					t.Errorf("%s, to standard output: exit code %d, or other bytes\n%s", name, r.code, r.stderr)
				}
			}
			fresh := func(name string) string { return filepath.Join(dir, name) }
			paths := len(s.paths(t))
			encoding := slices.Concat(format[1:len(format)-1], s.args)

			check("no cache", "--no-cache")
			cache := fresh("cache")
			for _, jobs := range []string{"1", "2", "7"} {
				cold := fresh("cold " + jobs)
				check("cold and then warm, "+jobs+" workers", "--cache", cold, "-j", jobs)
				check("warm, "+jobs+" workers", "--cache", cold, "-j", jobs)
				cache = cold
			}

			sharded := fresh("sharded")
			var shards []*exec.Cmd
			for i := range 3 {
				cmd := command(append([]string{"warm", "--cache", sharded, "--shard", fmt.Sprintf("%d/3", i)}, encoding...)...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				shards = append(shards, cmd)
			}
			for _, cmd := range shards {
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}
			mustCompress(t, 0, paths, append([]string{"--cache", sharded}, encoding...)...)
			check("warmed in shards", "--cache", sharded)

			check("--cache-from", "--no-cache", "--cache-from", cache)
			check("--cache-from and own cache", "--cache", fresh("from"), "--cache-from", cache)
			check("--cache-from, trusted", "--no-cache", "--cache-from", cache, "--trust-cache")

			for name, other := range map[string]string{"SIF": "--sif", "squashfs": "--squashfs"} {
				old := build(t, append([]string{other}, format[1:]...)...)
				check("--reuse "+name, "--no-cache", "--reuse", old)
				check("--reuse "+name+", trusted", "--no-cache", "--reuse", old, "--trust-cache")
				own := fresh("reused " + name)
				mustCompress(t, paths, paths, append([]string{"--cache", fresh("unused " + name)}, encoding...)...)
				check("--reuse "+name+" and own cache", "--cache", own, "--reuse", old)
				mustCompress(t, 0, paths, append([]string{"--cache", own}, encoding...)...)
			}

			for i, name := range entries(t, cache) {
				if i%2 == 0 {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			check("half warm", "--cache", cache)
			mustBeSound(t, cache)
		})
	}
}

// opened runs nix2img and returns which files of the store it opened.
func opened(t testing.TB, args ...string) []string {
	t.Helper()
	trace := filepath.Join(newDir(t), "trace")
	cmd := command()
	cmd.Path = "/usr/bin/strace"
	cmd.Args = slices.Concat([]string{"strace", "-f", "-y", "-qq", "-e", "trace=open,openat,openat2,execve", "-o", trace, nix2img}, args)
	buildTo(t, cmd)
	var files []string
	// -y has strace say what a descriptor stands for: openat(...) = 5</nix/store/...>
	for _, m := range regexp.MustCompile(`= \d+<(/[^>]*)>`).FindAllStringSubmatch(string(readFile(t, trace)), -1) {
		if strings.Contains(m[1], "/nix/store/") {
			files = append(files, m[1])
		}
	}
	return files
}

// A build that finds everything in a cache, or in an earlier image, opens no file of any store path.
func TestWarmBuildOpensNoStoreFile(t *testing.T) {
	s := defaultSubject("SMALL")
	dir := newDir(t)
	cache, image, old := filepath.Join(dir, "cache"), filepath.Join(dir, "image.sif"), filepath.Join(dir, "old.sif")
	traced := func(args ...string) []string {
		t.Helper()
		if !slices.Contains(args, "-o") {
			args = append([]string{"-o", image}, args...)
		}
		return opened(t, slices.Concat([]string{"build", "-q", "--sif"}, args, s.args)...)
	}
	if cold := traced("--cache", cache); len(cold) < 1000 {
		t.Fatalf("the cold build opened only %d files: the trace is of no use", len(cold))
	}
	output(t, "cp", image, old)
	for _, args := range [][]string{
		{"--cache", cache},
		{"--cache", cache, "-o", "-"},
		{"--no-cache", "--cache-from", cache},
		{"--no-cache", "--reuse", old},
		{"--cache", filepath.Join(dir, "own"), "--reuse", old},
	} {
		if files := traced(args...); len(files) > 0 {
			t.Errorf("%q: opened %d files of the store, such as %s", args, len(files), files[0])
		}
	}
}

// A store that has lost all contents since still gives the image, if the cache has them.
func TestWarmBuildWithoutStoreFiles(t *testing.T) {
	store, cache := copyStore(t), filepath.Join(newDir(t), "cache")
	want := digest(t, build(t, "--sif", "--store", store, hello))
	mustCompress(t, 6, 6, "--cache", cache, "--store", store, hello)
	output(t, "find", store+"/nix/store", "-type", "f", "-exec", "truncate", "-s", "0", "{}", "+")
	image := filepath.Join(newDir(t), "image.sif")
	buildTo(t, command("build", "-q", "--cache", cache, "--store", store, "-o", image, hello))
	if digest(t, image) != want {
		t.Error("other bytes")
	}
}

// changedHello copies the shipped closure's store and changes its root, which gets another name.
// It returns the store, what describes its closure, and the new root.
func changedHello(t testing.TB) (store, description, root string) {
	t.Helper()
	store = copyStore(t)
	root = "/nix/store/" + strings.Repeat("1", 32) + strings.TrimPrefix(hello, "/nix/store/")[32:]
	output(t, "mv", store+hello, store+root)
	greet := store + root + "/share/changed"
	writeFile(t, greet, []byte("This is new.\n"))

	nar := output(t, "nix-store", "--dump", store+root)
	var b strings.Builder
	field := 0 // of the path that the lines are about
	mine := false
	for line := range strings.Lines(output(t, "nix-store", append([]string{"--store", helloDir, "--dump-db"}, closurePaths(t, helloDir, hello)...)...)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "/nix/store/") && field != 3 && !mine {
			field, mine = 0, line == hello
		}
		switch {
		case mine && field == 1:
			line = fmt.Sprintf("%x", sha256.Sum256([]byte(nar)))
		case mine && field == 2:
			line = strconv.Itoa(len(nar))
		}
		field++
		b.WriteString(strings.ReplaceAll(line, hello, root) + "\n")
	}
	description = filepath.Join(newDir(t), "dump-db")
	writeFile(t, description, []byte(b.String()))
	return store, description, root
}

// If one path of a closure has changed, only that one is read and compressed.
func TestSmallChange(t *testing.T) {
	store, description, root := changedHello(t)
	dir := newDir(t)
	changed := []string{"--store", store, "--closure", description}
	want := digest(t, build(t, append([]string{"--sif"}, changed...)...))
	old := build(t, "--sif", "--store", helloDir, hello)
	for name, args := range map[string][]string{
		"cache":      {"--cache", filepath.Join(dir, "cache")},
		"cache-from": {"--no-cache", "--cache-from", filepath.Join(dir, "cache")},
		"reuse":      {"--no-cache", "--reuse", old},
	} {
		if name != "reuse" {
			if err := os.RemoveAll(filepath.Join(dir, "cache")); err != nil {
				t.Fatal(err)
			}
			mustCompress(t, 6, 6, "--cache", filepath.Join(dir, "cache"), "--store", helloDir, hello)
		}
		image := filepath.Join(dir, "image.sif")
		files := opened(t, slices.Concat([]string{"build", "-q", "-o", image}, args, changed)...)
		if digest(t, image) != want {
			t.Errorf("%s: other bytes", name)
		}
		for _, file := range files {
			if !strings.HasPrefix(file+"/", store+root+"/") {
				t.Errorf("%s: opened %s", name, file)
			}
		}
		if len(files) == 0 {
			t.Errorf("%s: opened nothing of what has changed", name)
		}
	}
	mustCompress(t, 6, 6, "--cache", filepath.Join(dir, "other"), "--store", helloDir, hello)
	mustCompress(t, 1, 6, append([]string{"--cache", filepath.Join(dir, "other")}, changed...)...)
}

// Two builds share a cache, and both are killed, each at a moment of its own.
// No image and no entry is bad afterwards, and the next build is right and leaves nothing behind.
func TestKilledBuildsSharingCache(t *testing.T) {
	r := random(t)
	dir := newDir(t)
	cache, out := filepath.Join(dir, "cache"), filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	encoding := []string{"--compression", "lz4", os.Getenv("SMALL")}
	want := digest(t, build(t, append([]string{"--sif"}, encoding...)...))
	start := func(name string) *exec.Cmd {
		t.Helper()
		cmd := command(append([]string{"build", "-q", "-j", "1", "--cache", cache, "-o", filepath.Join(out, name)}, encoding...)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	begin := time.Now()
	for _, cmd := range []*exec.Cmd{start("a.sif"), start("b.sif")} {
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)

	killed, rounds := 0, 0
	for killed < kills {
		if rounds++; rounds > 5*kills {
			t.Fatalf("only %d builds killed in %d rounds", killed, rounds)
		}
		// With a full cache, they would always be killed while they write the image.
		keep := r.Float64()
		for _, name := range entries(t, cache) {
			if r.Float64() > keep {
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
		builds := []*exec.Cmd{start("a.sif"), start("b.sif")}
		for _, cmd := range builds {
			timer := time.AfterFunc(time.Duration(r.Int64N(int64(took)/2)), func() { cmd.Process.Kill() })
			defer timer.Stop()
		}
		for _, cmd := range builds {
			if cmd.Wait() != nil {
				killed++
			}
		}
		for _, name := range []string{"a.sif", "b.sif"} {
			name = filepath.Join(out, name)
			if _, err := os.Stat(name); err == nil && digest(t, name) != want {
				t.Errorf("round %d: a bad image", rounds)
			}
			os.Remove(name)
		}
		next := filepath.Join(out, "next.sif")
		buildTo(t, command(append([]string{"build", "-q", "--cache", cache, "-o", next}, encoding...)...))
		if digest(t, next) != want {
			t.Errorf("round %d: the next build gives other bytes", rounds)
		}
		if left := list(t, out)[1:]; !slices.Equal(left, []string{next}) {
			t.Errorf("round %d: beside the next image, there is %q", rounds, left)
		}
		os.Remove(next)
		mustBeSound(t, cache)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("killed %d of %d builds", killed, 2*rounds)
}

// A byte that flips anywhere in a cached segment is noticed, the segment made again, and the image right.
func TestFlippedBytesInCache(t *testing.T) {
	r := random(t)
	dir := newDir(t)
	cache, image := filepath.Join(dir, "cache"), filepath.Join(dir, "image")
	encoding := []string{"--sif", "--compression", "lz4", os.Getenv("SMALL")}
	want := digest(t, build(t, encoding...))
	buildTo(t, command(append([]string{"build", "-q", "--cache", cache, "-o", image}, encoding...)...))
	names := entries(t, cache)
	for i := range flips {
		name := names[r.IntN(len(names))]
		content := readFile(t, name)
		at := r.IntN(len(content))
		if i%4 == 0 { // the index and the footer are small, but must be hit as well
			at = len(content) - 1 - r.IntN(min(len(content), 1024))
		}
		flipped := bytes.Clone(content)
		flipped[at] ^= 1 << r.IntN(8)
		writeFile(t, name, flipped)

		out := image
		if i%2 == 1 {
			out = "-"
		}
		b := run(t, command(append([]string{"build", "--cache", cache, "-o", out}, encoding...)...))
		got := ""
		if out == "-" {
			got = digestOf(t, strings.NewReader(b.stdout))
		} else {
			got = digest(t, image)
		}
		if b.code != 0 || got != want {
			t.Errorf("byte %d of %d: -o %s: exit code %d, or other bytes\n%s", at, len(content), out, b.code, b.stderr)
		}
		if strings.Count(b.stderr, "it is made again") != 1 {
			t.Errorf("byte %d of %d: -o %s: not one note in\n%s", at, len(content), out, b.stderr)
		}
		if !bytes.Equal(readFile(t, name), content) {
			t.Errorf("byte %d of %d: -o %s: the entry is not what it was", at, len(content), out)
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	mustBeSound(t, cache)
}

// A byte that flips in the cache of others, or in an earlier image, never gets into an image.
func TestFlippedBytesElsewhere(t *testing.T) {
	r := random(t)
	dir := newDir(t)
	cache, image := filepath.Join(dir, "cache"), filepath.Join(dir, "image.sqsh")
	format := []string{"--squashfs", "--store", helloDir, hello}
	old := build(t, format...)
	want := digest(t, old)
	mustCompress(t, 6, 6, append([]string{"--cache", cache}, format[1:]...)...)
	names := entries(t, cache)
	for range flips {
		flipped := old
		args := []string{"--no-cache", "--reuse", old}
		if r.IntN(2) == 0 {
			flipped = names[r.IntN(len(names))]
			args = []string{"--no-cache", "--cache-from", cache}
			if r.IntN(2) == 0 {
				args = append(args, "--trust-cache") // then there are still the checksums
			}
		}
		content := readFile(t, flipped)
		at, bit := r.IntN(len(content)), byte(1)<<r.IntN(8)
		content[at] ^= bit
		writeFile(t, flipped, content)

		b := run(t, command(slices.Concat([]string{"build", "-o", image}, args, format)...))
		switch {
		case b.code == exitFailed && flipped == old && strings.Contains(b.stderr, "--reuse "+old+": "):
			// Not even the build record could be read.
		case b.code != 0 || digest(t, image) != want:
			t.Errorf("%q, byte %d: exit code %d, or other bytes\n%s", args, at, b.code, b.stderr)
		case flipped != old && strings.Count(b.stderr, "note: ") != 1:
			t.Errorf("%q, byte %d: not one note in\n%s", args, at, b.stderr)
		}
		content[at] ^= bit
		if flipped != old && bytes.Equal(readFile(t, flipped), content) {
			t.Errorf("%q: the cache of others was changed", args)
		}
		writeFile(t, flipped, content)
	}
}

// "cache verify" finds flipped bytes as well, and removes what they are in.
func TestVerifyFindsFlippedBytes(t *testing.T) {
	r := random(t)
	cache := filepath.Join(newDir(t), "cache")
	mustCompress(t, 6, 6, "--cache", cache, "--store", helloDir, hello)
	for _, name := range entries(t, cache) {
		content := readFile(t, name)
		content[r.IntN(len(content))] ^= 1 << r.IntN(8)
		writeFile(t, name, content)
	}
	v := run(t, command("cache", "verify", "--cache", cache))
	if v.code != exitVerify || !strings.Contains(v.stderr, "6 of 6 entries were damaged") {
		t.Errorf("exit code %d\n%s", v.code, v.stderr)
	}
	if left := entries(t, cache); len(left) > 0 {
		t.Errorf("still there: %q", left)
	}
}

// What has changed in the store since Nix registered it does not get into the cache.
func TestChangedFilesAreNotCached(t *testing.T) {
	store, out := copyStore(t), newDir(t)
	cache := filepath.Join(newDir(t), "cache")
	changed := storePath(t, "tale-1.0")
	file := store + changed + "/share/tale.txt"
	content := readFile(t, file)
	content[len(content)/2] ^= 1
	writeFile(t, file, content)
	args := []string{"--cache", cache, "--store", store, hello}
	mustFail(t, command(append([]string{"build", "-o", filepath.Join(out, "image.sif")}, args...)...), out, exitVerify, changed)
	mustFail(t, command(append([]string{"warm"}, args...)...), out, exitVerify, changed)
	mustBeSound(t, cache)
	content[len(content)/2] ^= 1
	writeFile(t, file, content)
	image := filepath.Join(out, "image.sif")
	buildTo(t, command(append([]string{"build", "-q", "-o", image}, args...)...))
	if digest(t, image) != digest(t, build(t, "--sif", "--store", helloDir, hello)) {
		t.Error("other bytes")
	}
}

// Where the cache has no room, a build says so and goes on without, and the cache stays in order.
func TestFullCache(t *testing.T) {
	disk, out := mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=8m"), newDir(t)
	cache, image := filepath.Join(disk, "cache"), filepath.Join(out, "image.sif")
	small := os.Getenv("SMALL")
	want := digest(t, build(t, "--sif", small))
	cached := func(full bool, args ...string) {
		t.Helper()
		cmd := command(append([]string{"build", "--cache", cache}, args...)...)
		cmd.Env = append(cmd.Env, "TMPDIR="+out)
		var file *os.File
		if args[0] == "-o-" {
			var err error
			if file, err = os.Create(image); err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			cmd.Stdout = file
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		err := cmd.Run()
		said := strings.Count(stderr.String(), "no space left on device; nothing more is kept there")
		if err != nil || full != (said == 1) || said > 1 {
			t.Errorf("%q: %v\n%s", args, err, &stderr)
		}
		mustBeSound(t, cache)
	}
	for _, to := range []string{"-o" + image, "-o-"} { // what a pipe needs before its first byte is in temporary files
		cached(true, to, "--sif", small)
		if digest(t, image) != want {
			t.Errorf("%s: other bytes", to)
		}
	}
	if len(entries(t, cache)) == 0 {
		t.Error("nothing of what was complete is left")
	}
	cached(true, "--oci="+filepath.Join(out, "layout"), small)
	if index := readFile(t, filepath.Join(out, "layout/index.json")); !bytes.Equal(index, readFile(t, filepath.Join(layoutOf(t, small), "index.json"))) {
		t.Error("other layers")
	}
	w := run(t, command("warm", "--cache", cache, small)) // this does nothing else, so it fails
	if w.code != exitFailed || !strings.Contains(w.stderr, "no space left on device") {
		t.Errorf("warm: exit code %d\n%s", w.code, w.stderr)
	}
	mustBeSound(t, cache)

	if p := run(t, command("cache", "prune", "--cache", cache, "--keep", "1M")); p.code != 0 {
		t.Errorf("prune: %s", p.stderr)
	}
	cached(false, "-o"+image, "--sif", "--store", helloDir, hello)
	if digest(t, image) != digest(t, build(t, "--sif", "--store", helloDir, hello)) {
		t.Error("other bytes")
	}
	output(t, "mount", "-o", "remount,size=200m", disk)
	cached(false, "-o"+image, "--sif", small)
	if digest(t, image) != want {
		t.Error("other bytes")
	}
}

// layoutOf builds an OCI layout without a cache.
func layoutOf(t testing.TB, root string) string {
	t.Helper()
	dir := filepath.Join(newDir(t), "layout")
	buildTo(t, command("build", "-q", "--no-cache", "--oci", dir, root))
	return dir
}

// Where the image has no room, the build says so, and the cache stays in order.
func TestFullOutputLeavesCache(t *testing.T) {
	disk, dir := mount(t, "tmpfs", "-t", "tmpfs", "-o", "size=256k"), newDir(t)
	cache := filepath.Join(dir, "cache")
	args := []string{"--sif", "--store", helloDir, hello}
	full := filepath.Join(disk, "image.sif")
	fail := func(words ...string) {
		t.Helper()
		mustFail(t, command(append([]string{"build", "--cache", cache, "-o", full}, args...)...),
			disk, exitFailed, append(words, full, "no space left on device")...)
		mustBeSound(t, cache)
	}
	fail() // cold
	fail() // perhaps not quite as cold
	buildTo(t, command("warm", "--cache", cache, "--store", helloDir, hello))
	fail("the image has", "are free") // before anything is written

	devFull, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer devFull.Close()
	var stderr bytes.Buffer
	cmd := command(append([]string{"build", "--cache", cache, "-o", "-"}, args...)...)
	cmd.Stdout, cmd.Stderr = devFull, &stderr
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(stderr.String(), "standard output: no space left on device") {
		t.Errorf("-o - to a full device: exit code %d\n%s", code, stderr.Bytes())
	}

	// Without a cache, what is compressed for a pipe is kept in TMPDIR.
	cmd = command(append([]string{"build", "--no-cache", "-o", "-"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+disk)
	mustFail(t, cmd, disk, exitFailed, "temporary file in "+disk+": no space left on device")

	image := filepath.Join(dir, "image.sif")
	buildTo(t, command(append([]string{"build", "--cache", cache, "-o", image}, args...)...))
	if digest(t, image) != digest(t, build(t, args...)) {
		t.Error("other bytes")
	}
	mustBeSound(t, cache)
}
