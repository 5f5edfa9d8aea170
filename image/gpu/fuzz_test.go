package gpu_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

// FuzzFatbin reads anything as a library, and anything as what is in a section of one.
func FuzzFatbin(f *testing.F) {
	f.Add(gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80, Payload: gputest.SmallCubin(80)}, gputest.Entry{Kind: gputest.PTX, SM: 90, ISA: 78, Header: 88}))
	f.Add(gputest.Library(elftest.Object{Needed: []string{"libcuda.so.1"}}, gputest.SASS("sm_80"), "libcuda.so.1"))
	f.Add(slices.Concat(gputest.SASS("sm_80"), gputest.SASS("sm_90a")))
	f.Fuzz(fuzz("lib.so", ".nv_fatbin"))
}

// FuzzBundle does the same with ROCm bundles.
func FuzzBundle(f *testing.F) {
	f.Add(gputest.Bundle("gfx90a", "gfx1100"))
	for version := 1; version <= 3; version++ {
		f.Add(gputest.Compress(gputest.Bundle("gfx90a"), version, true))
		f.Add(gputest.Compress(gputest.Bundle("gfx90a"), version, false))
	}
	f.Fuzz(fuzz("kernel.co", ".hip_fatbin"))
}

func fuzz(name, section string) func(t *testing.T, data []byte) {
	return func(t *testing.T, data []byte) {
		o := elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: section, Flags: 2, Align: 4096, Data: data}}}
		m := fstest.MapFS{name: {Data: data}, "section.so": {Data: o.Bytes()}, "kernel.ptx": {Data: data}}
		facts := inspect(t, m)
		for _, f := range facts.Files {
			for _, c := range f.Code {
				if c.Sections > c.File || c.File > len(data) {
					t.Errorf("%s: %+v", f.Path, c)
				}
			}
			if containers(f) > len(data)/64+1 {
				t.Errorf("%s: %d containers", f.Path, containers(f))
			}
		}
		text, err := json.Marshal(facts)
		if err != nil {
			t.Fatal(err)
		}
		again := new(gpu.Facts)
		if err := json.Unmarshal(text, again); err != nil || !reflect.DeepEqual(again, facts) {
			t.Errorf("through JSON: %+v, %v, was %+v", again, err, facts)
		}
		gpu.New([]gpu.Tree{{At: "/", Facts: facts}}).Check(&gpu.Demand{Driver: "535.54.03"})
	}
}
