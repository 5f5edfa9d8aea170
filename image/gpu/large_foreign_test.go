//go:build foreign && acceptance

package gpu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/internal/par"
)

// What is listed is what cuobjdump lists, and containers are as many as there are headers.
// testdata/make-large.sh has made the table.
func TestLargeCounts(t *testing.T) {
	table, err := os.ReadFile("testdata/large.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tree := range facts(t, objects(t, "LARGE_PATH_INFO")) {
		for _, f := range tree.Facts.Files {
			if n := containers(f); n > 0 {
				got = append(got, fmt.Sprintf("%s containers - %d", path.Base(f.Path), n))
			}
			for _, c := range f.Code {
				kind := map[gpu.Kind]string{gpu.SASS: "elf", gpu.PTXCode: "ptx"}[c.Kind]
				if kind != "" && c.Sections > 0 {
					got = append(got, fmt.Sprintf("%s %s %s %d", path.Base(f.Path), kind, c.Target, c.Sections))
				}
			}
		}
	}
	slices.Sort(got)
	want := strings.Split(strings.TrimSpace(string(table)), "\n")
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("not in the table: %s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("only in the table: %s", line)
		}
	}
}

func TestLarge(t *testing.T) {
	r := gpu.New(facts(t, objects(t, "LARGE_PATH_INFO")))
	summary, err := json.Marshal(r.Summary())
	want := `{"use":"gpu","cuda":["11.8"],"sass":["sm_35","sm_37","sm_50","sm_52","sm_60","sm_61","sm_70","sm_75","sm_80","sm_86","sm_89","sm_90"],` +
		`"driver":"520.61.05","minDriver":"450.80.02"}`
	if err != nil || string(summary) != want {
		t.Errorf("got  %s, %v\nwant %s", summary, err, want)
	}
	// libcupti has no PTX, but is a profiler, and NVRTC does not know sm_120.
	mustVerdicts(t, "large", r, "A100=runs H100=runs V100=runs sm_120=unknown Orin=fails MI250=fails")
	for driver, want := range map[gpu.Driver]gpu.Outcome{"520.61.05": gpu.Runs, "580.65.06": gpu.Runs, "450.36.06": gpu.WillFail} {
		if v := r.Check(&gpu.Demand{Targets: []*gpu.Target{target(t, "V100")}, Driver: driver}); v.Outcome != want {
			t.Errorf("driver %s: got %s, want %s: %+v", driver, v.Outcome, want, v.Targets)
		}
	}
	if got := ways(r, "cuda-probe", "libcuda.so.1"); got != "ENV ENV RUNPATH RUNPATH - RUNPATH" {
		t.Errorf("cuda-probe: %s", got)
	}
	// libcufft keeps most of its code outside of the section, and of the rest has an empty container.
	i := slices.IndexFunc(r.Libraries, func(l gpu.Library) bool { return strings.Contains(l.Path, "/libcufft.so") })
	if c := r.Libraries[i].Coverage(target(t, "A100")); c.Native+c.JIT+c.None+c.Empty != 22366 || c.Native == 0 {
		t.Errorf("libcufft on A100: %+v", c)
	}
}

// BenchmarkLarge reads all files of the closure, and inspects them:
//
//	go test -tags foreign,acceptance -run '^$' -bench Large ./image/gpu
func BenchmarkLarge(b *testing.B) {
	list := objects(b, "LARGE_PATH_INFO")
	files := closure.DirFS("/nix/store")
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			size, err := readAll(files, list)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
		}
	})
	var trees []gpu.Tree
	b.Run("inspect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			trees = facts(b, list)
		}
	})
	b.Run("report from kept facts", func(b *testing.B) {
		var kept [][]byte
		for _, t := range trees {
			data, err := json.Marshal(t.Facts)
			if err != nil {
				b.Fatal(err)
			}
			kept = append(kept, data)
		}
		for b.Loop() {
			for i, data := range kept {
				trees[i].Facts = new(gpu.Facts)
				if err := json.Unmarshal(data, trees[i].Facts); err != nil {
					b.Fatal(err)
				}
			}
			gpu.New(trees)
		}
	})
}

// readAll reads every file in pieces of 1 MiB, on as many goroutines as inspecting does.
func readAll(files fs.FS, objects []closure.Object) (size int64, err error) {
	names := func(yield func(string, error) bool) {
		for _, o := range objects {
			var walk func(name string, d fs.DirEntry) bool
			walk = func(name string, d fs.DirEntry) bool {
				if d == nil || d.IsDir() {
					entries, err := fs.ReadDir(files, name)
					if err != nil && d != nil {
						return yield("", err)
					}
					for _, e := range entries {
						if !walk(name+"/"+e.Name(), e) {
							return false
						}
					}
					return true
				}
				return d.Type() != 0 || yield(name, nil)
			}
			if !walk(o.Path.Base(), nil) {
				return
			}
		}
	}
	buffers := sync.Pool{New: func() any { return new([1 << 20]byte) }}
	read := func(_ context.Context, name string) (int64, error) {
		f, err := files.Open(name)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		var n int64
		buf := buffers.Get().(*[1 << 20]byte)
		defer buffers.Put(buf)
		for {
			k, err := f.Read(buf[:])
			n += int64(k)
			if err == io.EOF {
				return n, nil
			} else if err != nil {
				return n, err
			}
		}
	}
	for n, err := range par.Map(context.Background(), par.Workers(0), 1024, names, read) {
		if err != nil {
			return 0, err
		}
		size += n
	}
	return size, nil
}
