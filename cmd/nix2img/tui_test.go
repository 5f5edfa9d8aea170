package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/oci/registry"
	"github.com/nix2img/nix2img/sif"
	"github.com/nix2img/nix2img/squashfs"
)

func TestExitCodes(t *testing.T) {
	wrap := func(err error) error {
		return fmt.Errorf("outer: %w", withHint(fmt.Errorf("inner: %w", err), "do something"))
	}
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("other"), 1},
		{wrap(syscall.ENOSPC), 1},
		{wrap(usagef("what")), 2},
		{wrap(&image.ConfigError{}), 2},
		{wrap(&closure.MissingError{}), 3},
		{wrap(&closure.CycleError{}), 3},
		{wrap(&closure.SyntaxError{}), 3},
		{wrap(&closure.ConflictError{}), 3},
		{wrap(&sourceError{fs.ErrPermission}), 3},
		{wrap(&closure.HashError{}), 5},
		{&sourceError{wrap(&closure.HashError{})}, 5},
		{wrap(&sif.ArchError{}), 6},
		{wrap(context.Canceled), 130},
		{&sourceError{context.Canceled}, 130},
		{wrap(&fs.PathError{Err: syscall.EPIPE}), 141},
		{errInterrupted, 130},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%T: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestHintIsTheMostSpecific(t *testing.T) {
	err := withHint(fmt.Errorf("write: %w", syscall.ENOSPC), "from the place")
	if got := hint(err); got != "from the place" {
		t.Errorf("hint %q", got)
	}
	for _, err := range []error{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG,
		&image.ArchError{},
	} {
		if hint(fmt.Errorf("op: %w", err)) == "" {
			t.Errorf("no hint for %v", err)
		}
	}
	for clear, want := range map[bool]string{true: "--insecure", false: "--authfile"} {
		if got := hint(&registry.Error{Err: &registry.RealmError{Realm: "http://auth.example.org", Clear: clear}}); !strings.Contains(got, want) {
			t.Errorf("hint %q", got)
		}
	}
	if got := hint(errors.New("other")); got != "" {
		t.Errorf("hint %q", got)
	}
}

func TestAdviceNamesTheStore(t *testing.T) {
	hash := &closure.HashError{Path: "/nix/store/x"}
	files := &closure.MissingError{Path: "/nix/store/x", Err: fs.ErrNotExist}
	metadata := &closure.MissingError{Path: "/nix/store/x", Referrer: "/nix/store/y"}
	for _, tt := range []struct {
		source source
		err    error
		want   string
	}{
		{source{store: "/"}, hash, "; try: nix-store --repair-path /nix/store/x"},
		{source{store: "/my store"}, hash, "; try: nix-store --store '/my store' --repair-path /nix/store/x"},
		{source{store: "/", from: []string{"-"}}, hash, ""},
		{source{store: "/mnt"}, files, " nix-store --store /mnt --realise /nix/store/x,"},
		{source{store: "/"}, metadata, "describe the whole closure"},
		{source{store: "/"}, fs.ErrNotExist, ""},
	} {
		got := hint(tt.source.advise(fmt.Errorf("op: %w", tt.err)))
		if !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%v in %+v: hint %q, want %q", tt.err, tt.source, got, tt.want)
		}
	}
}

func TestExplainTellsTheClosuresFilesFromOthers(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{&squashfs.SourceError{Tree: "nix/store/x", Err: io.ErrUnexpectedEOF}, exitClosure},
		{&squashfs.SourceError{Tree: ".", Err: &fs.PathError{Path: "mine", Err: fs.ErrPermission}}, exitFailed},
		{fmt.Errorf("look: %w", &fs.PathError{Path: "/nix/store/x", Err: fs.ErrPermission}), exitClosure},
		{fmt.Errorf("write: %w", &fs.PathError{Path: "out.sif", Err: syscall.EIO}), exitFailed},
		{errors.New("other"), exitFailed},
		{&squashfs.SourceError{Tree: "nix/store/x", Err: &closure.HashError{}}, exitVerify},
	} {
		if got := exitCode(explain("out.sif", tt.err)); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestNothingPlaysTricksOnTheTerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain /path":      "plain /path",
		"größe 大":          "größe 大",
		"a\nb\tc":          `a\nb\tc`,
		"\x1b[2Jgone":      `\x1b[2Jgone`,
		"bad \xff byte":    `bad \xff byte`,
		"\u202eright-left": `\u202eright-left`,
		"real \ufffd":      "real \ufffd",
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"a b": "a b", "a\nb": `"a\nb"`, `"q"`: `"\"q\""`, "": `""`, "x\xff": `"x\xff"`,
	} {
		if got := quoteName(in); got != want {
			t.Errorf("quoteName(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.00 kB", 9994: "9.99 kB", 9996: "10.0 kB", 99960: "100 kB",
		999499: "999 kB", 999500: "1.00 MB", 3230000000: "3.23 GB", 1<<63 - 1: "9.22 EB",
	} {
		if got := formatSize(n); got != want {
			t.Errorf("formatSize(%d) = %q, want %q", n, got, want)
		}
	}
	for s, want := range map[string]int64{
		"4096": 4096, "128K": 128 << 10, "128k": 128 << 10, "1M": 1 << 20, "1MiB": 1 << 20, "2GB": 2 << 30, "0": 0,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "K", "-1", "1X", "1.5M", "99999999999999999999", "9999999999T", "iB", "1 M"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", s, n)
		}
	}
}

func TestBar(t *testing.T) {
	half := image.Progress{Read: 1_600_000_000, Total: 3_200_000_000}
	for _, tt := range []struct {
		p     image.Progress
		rate  float64
		width int
		want  string
	}{
		{half, 200e6, 79, "[############............]   50 %  1.60 GB of 3.20 GB  200 MB/s  0:08 left"},
		{half, 0, 41, "[######......]   50 %  1.60 GB of 3.20 GB"},
		{half, 200e6, 20, " 50 %  1.60 GB of 3."},
		{half, 200e6, -1, ""},
		{image.Progress{Read: 5}, 0, 79, "5 B"},
		{image.Progress{Read: 4, Total: 3}, 1, 79, "[########################]  100 %  3 B of 3 B  1 B/s"},
	} {
		if got := bar(tt.p, tt.rate, tt.width); got != tt.want {
			t.Errorf("bar(%+v, %v, %d)\n got %q\nwant %q", tt.p, tt.rate, tt.width, got, tt.want)
		}
	}
}

func TestMeterForgets(t *testing.T) {
	var m meter
	now := time.Unix(0, 0)
	if m.perSecond() != 0 {
		t.Error("a rate of nothing")
	}
	var n int64
	for i := range 1000 {
		n += 100 // 1000 a second
		if i >= 500 {
			n += 900 // now 10000
		}
		now = now.Add(100 * time.Millisecond)
		m.add(now, n)
	}
	if got := m.perSecond(); got < 9999 || got > 10001 {
		t.Errorf("rate %v, want 10000", got)
	}
	if len(m.samples) > 20 {
		t.Errorf("%d samples", len(m.samples))
	}
}

func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		400 * time.Millisecond: "0:00", 8 * time.Second: "0:08", 754 * time.Second: "12:34", 3723 * time.Second: "1:02:03",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("formatDuration(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestShellWords(t *testing.T) {
	got := shellWords([]string{"python", "-m", "a b", "", "it's", "/nix/store/x-1.0"})
	if want := `python -m 'a b' '' 'it'\''s' /nix/store/x-1.0`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPathsInImages(t *testing.T) {
	for in, want := range map[string]string{
		"/": ".", "": ".", ".": ".", "//etc/": "etc", "etc/./passwd": "etc/passwd", "/../../x": "x", "a/../b": "b",
	} {
		if got := inImage(in); got != want {
			t.Errorf("inImage(%q) = %q, want %q", in, got, want)
		}
	}
	got := fmt.Sprint(topmost([]string{"etc/passwd", "nix/store", "etc", "nix/store/x/y", "etc", "etcetera"}))
	if want := "[etc etcetera nix/store]"; got != want {
		t.Errorf("topmost: %s, want %s", got, want)
	}
	if got := topmost([]string{"etc", "."}); len(got) != 1 || got[0] != "." {
		t.Errorf("topmost: %q", got)
	}
}

func TestModesLikeLs(t *testing.T) {
	for mode, want := range map[fs.FileMode]string{
		0o644:                                     "-rw-r--r--",
		fs.ModeDir | fs.ModeSticky | 0o777:        "drwxrwxrwt",
		fs.ModeDir | fs.ModeSticky | 0o770:        "drwxrwx--T",
		fs.ModeSymlink | 0o777:                    "lrwxrwxrwx",
		fs.ModeSetuid | 0o755:                     "-rwsr-xr-x",
		fs.ModeSetgid | 0o644:                     "-rw-r-Sr--",
		fs.ModeDevice | 0o600:                     "brw-------",
		fs.ModeDevice | fs.ModeCharDevice | 0o666: "crw-rw-rw-",
		fs.ModeNamedPipe | 0o600:                  "prw-------",
		fs.ModeSocket | 0o755:                     "srwxr-xr-x",
		fs.ModeIrregular:                          "?---------",
	} {
		if got := formatMode(mode); got != want {
			t.Errorf("formatMode(%v) = %s, want %s", mode, got, want)
		}
	}
}

// What is read can be made to lead to long messages. What is printed is shorter, and has both ends.
func TestMessagesAreShort(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	out, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	newUI(null, null, out).fail(errors.New("the begin " + strings.Repeat("x", 1<<20) + " the end"))
	text, err := os.ReadFile(out.Name())
	if s := string(text); err != nil || len(s) > 10_000 || !strings.Contains(s, "error: the begin") || !strings.HasSuffix(s, " the end\n") {
		t.Errorf("%d bytes, %v: %.200s", len(s), err, s)
	}
}
