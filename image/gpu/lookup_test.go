package gpu_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

const link = "/run/opengl-driver/lib"

// ways returns the ways of a lookup under --nv, the hook and NixOS: first with the script, then without.
func ways(r *gpu.Report, base, library string) string {
	for _, l := range r.Lookups {
		if strings.HasSuffix(l.Path, "/"+base) && l.Library == library {
			var words []string
			for _, m := range []map[string]gpu.Way{l.Script, l.Bare} {
				for _, rt := range []string{gpu.ByNV, gpu.ByHook, gpu.ByLink} {
					word := string(m[rt])
					if word == "" {
						word = "-"
					}
					words = append(words, strings.ReplaceAll(word, "LD_LIBRARY_PATH", "ENV"))
				}
			}
			return strings.Join(words, " ")
		}
	}
	return "no lookup"
}

func TestLookups(t *testing.T) {
	user := func(o elftest.Object) []byte { return gputest.Library(o, nil, "libcuda.so.1") }
	program := func(o elftest.Object, needed string) []byte {
		o.Arch, o.Type, o.Interp, o.Needed = "amd64", 2, "/nix/store/x/ld.so", []string{needed}
		return o.Bytes()
	}
	closed := store + "c-stubs/lib/stubs"
	for _, test := range []struct {
		name  string
		files map[string][]byte
		want  string
	}{
		{"nothing", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{})}, "ENV ENV - - - -"},
		{"RUNPATH", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RunPath: "/nix/store/y:" + link + "/"})}, "ENV ENV RUNPATH RUNPATH - RUNPATH"},
		{"RPATH", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RPath: link})}, "RPATH ENV RPATH RPATH - RPATH"},
		{"RPATH and RUNPATH", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RPath: link, RunPath: "/nix/store/y"})}, "ENV ENV - - - -"},
		{"both", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RPath: "/nix/store/y", RunPath: link})}, "ENV ENV RUNPATH RUNPATH - RUNPATH"},
		{"distribution", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RunPath: "/usr/lib64"})}, "ENV ENV - - RUNPATH -"},
		// DT_RPATH is inherited, DT_RUNPATH is not.
		{"RPATH of the program", map[string][]byte{
			"a-x/lib/x.so": user(elftest.Object{Soname: "x.so"}), "b-y/bin/y": program(elftest.Object{RPath: link}, "x.so")},
			"RPATH ENV RPATH RPATH - RPATH"},
		{"RPATH of the program, two steps away", map[string][]byte{
			"a-x/lib/x.so": user(elftest.Object{}), "a-x/lib/z.so": gputest.Library(elftest.Object{Needed: []string{"x.so"}}, nil),
			"b-y/bin/y": program(elftest.Object{RPath: link}, "z.so")},
			"RPATH ENV RPATH RPATH - RPATH"},
		{"RPATH of the program, but own RUNPATH", map[string][]byte{
			"a-x/lib/x.so": user(elftest.Object{RunPath: "/nix/store/z"}), "b-y/bin/y": program(elftest.Object{RPath: link}, "x.so")},
			"ENV ENV - - - -"},
		{"RUNPATH of the program", map[string][]byte{
			"a-x/lib/x.so": user(elftest.Object{}), "b-y/bin/y": program(elftest.Object{RunPath: link}, "x.so")},
			"ENV ENV - - - -"},
		// What is in the closure.
		{"stubs in RUNPATH", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RunPath: closed + ":" + link}), "c-stubs/lib/stubs/libcuda.so.1": user(elftest.Object{})},
			"ENV ENV closure closure closure closure"},
		{"stubs in RPATH", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RPath: closed + ":" + link}), "c-stubs/lib/stubs/libcuda.so.1": user(elftest.Object{})},
			"closure closure closure closure closure closure"},
		{"own directory", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{RunPath: "$ORIGIN/../drv"}), "a-x/drv/libcuda.so.1": user(elftest.Object{})},
			"ENV ENV closure closure closure closure"},
		// Programs of a distribution have its ld.so.cache.
		{"foreign image", map[string][]byte{"a-x/lib/x.so": user(elftest.Object{}),
			"b-y/bin/y": (&elftest.Object{Arch: "amd64", Type: 2, Interp: "/lib64/ld-linux-x86-64.so.2"}).Bytes()}, "ENV ENV - - ld.so.cache -"},
	} {
		if got := ways(report(t, test.files), "x.so", "libcuda.so.1"); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestNeeds(t *testing.T) {
	r := report(t, map[string][]byte{
		"a-x/lib/x.so": gputest.Library(elftest.Object{Needed: []string{"libcuda.so.1", "libcudart.so.12", "libc.so.6"}}, nil, "libnvidia-ml.so.1", "libcuda.so.1"),
		"a-x/lib/y.so": gputest.Library(elftest.Object{}, nil, "libcuda.so", "libcuda.so.1", "libamdhip64.so.6", "libnvidia-container.so.1"),
	})
	var got []string
	for _, n := range r.Needs {
		got = append(got, strings.Join([]string{n.Library, map[bool]string{true: "driver", false: "-"}[n.Driver],
			strings.Repeat("L", len(n.Linked)) + strings.Repeat("N", len(n.Named))}, " "))
	}
	want := []string{"libamdhip64.so.6 - N", "libcuda.so driver N", "libcuda.so.1 driver LN", "libcudart.so.12 - L",
		"libnvidia-container.so.1 - N", "libnvidia-ml.so.1 driver N"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	var looked []string
	for _, l := range r.Lookups {
		looked = append(looked, l.Library)
	}
	if want := []string{"libcuda.so.1", "libnvidia-ml.so.1", "libcuda.so.1"}; !slices.Equal(looked, want) {
		t.Errorf("looked for %q, want %q", looked, want)
	}
}

func TestSuspects(t *testing.T) {
	plain := gputest.Library(elftest.Object{}, nil)
	linked := elftest.Object{RunPath: link}
	good := gputest.Library(linked, gputest.SASS("sm_80"), "libcuda.so.1")
	for _, test := range []struct {
		name  string
		files map[string][]byte
		want  string // kind/severity/count
	}{
		{"none", map[string][]byte{"a-x/lib/x.so": good}, ""},
		{"driver", map[string][]byte{"a-nvidia-x11-550/lib/libcuda.so.550.54.14": plain, "a-nvidia-x11-550/lib/libnvidia-ml.so.1": plain,
			"b-y/lib/libEGL.so": gputest.Library(elftest.Object{Soname: "libEGL_nvidia.so.0"}, nil)}, "driver-inside/error/2 driver-inside/error/1"},
		{"what is not", map[string][]byte{"a-x/lib/stubs/libcuda.so": plain, "b-cuda_compat-12.4/compat/libcuda.so.1": plain,
			"c-y/lib/libnvidia-container.so.1": plain, "d-z/lib/libOpenCL.so.1": plain, "f-z/lib/libcudart.so.12.4.1": plain}, ""},
		{"stubs", map[string][]byte{"a-x/lib/x.so": gputest.Library(elftest.Object{RunPath: "/nix/store/y/lib/stubs:" + link}, nil)}, "stubs-on-path/error/1"},
		{"no RUNPATH", map[string][]byte{"a-x/lib/x.so": gputest.Library(elftest.Object{}, nil, "libcuda.so.1"),
			"a-x/lib/y.so": gputest.Library(elftest.Object{}, nil, "libcuda.so.1", "libnvidia-ml.so.1")}, "only-by-env/note/2"},
		{"PTX only", map[string][]byte{"a-x/lib/x.so": gputest.Library(linked, gputest.Fatbin(gputest.Entry{Kind: gputest.PTX, SM: 80, ISA: 70}))}, "ptx-only/warning/1"},
		{"other CPU", map[string][]byte{"a-x/bin/x": elftest.Program("amd64", ""), "a-x/bin/y": elftest.Program("amd64", ""),
			"a-x/bin/z": elftest.Program("arm64", "")}, "other-cpu/note/1"},
		{"in front of the host's", map[string][]byte{"a-x/lib/x.so": gputest.Library(elftest.Object{RunPath: "$ORIGIN"}, nil, "libcuda.so.1"), "a-x/lib/libcuda.so.1": plain},
			"driver-inside/error/1 shadows-driver/warning/1"},
		{"hidden", map[string][]byte{"a-x/lib/x.so": gputest.Library(linked, gputest.Fatbin(gputest.Entry{Kind: 9, SM: 80}))}, "hidden-code/note/1"},
	} {
		r := report(t, test.files)
		var words []string
		for _, s := range r.Suspects {
			words = append(words, strings.Join([]string{string(s.Kind), string(s.Severity), string(rune('0' + s.Count))}, "/"))
			if !strings.HasPrefix(s.Path, s.Tree+"/") || s.Tree[:len(store)] != store || s.Text == "" {
				t.Errorf("%s: %+v", test.name, s)
			}
		}
		if got := strings.Join(words, " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// An image as a whole gives what its trees give.
func TestWholeImage(t *testing.T) {
	m := fstest.MapFS{
		store[1:] + "a-cuda_cudart-12.4.127/lib/libcudart.so.12": {Data: gputest.Library(elftest.Object{Soname: "libcudart.so.12"}, nil, "libcuda.so.1")},
		store[1:] + "b-x/lib/libcuda.so.550.54.14":               {Data: gputest.Library(elftest.Object{}, nil)},
		"opt/x.so": {Data: gputest.Library(elftest.Object{}, gputest.SASS("sm_80"))},
	}
	facts, err := gpu.Inspect(context.Background(), m, ".", nil)
	if err != nil {
		t.Fatal(err)
	}
	r := gpu.New([]gpu.Tree{{At: "/", Facts: facts}})
	if len(r.CUDA) != 1 || r.CUDA[0].Version != (gpu.Version{Major: 12, Minor: 4}) || r.Libraries[0].Path != "/opt/x.so" {
		t.Errorf("%+v, %+v", r.CUDA, r.Libraries)
	}
	if s := r.Suspects[0]; s.Kind != gpu.DriverInside || s.Tree != store+"b-x" {
		t.Errorf("%+v", r.Suspects)
	}
}
