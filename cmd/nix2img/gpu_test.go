package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/closure/narhash"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

const gpuStore = "/nix/store/0000000000000000000000000000000"

// testObject is an object of a store for a test.
type testObject struct {
	name, references string // references are the first letters of names
	files            map[string][]byte
}

// gpuObjects are the objects of a store.
var gpuObjects = []testObject{
	{"a-cuda_cudart-12.4.127", "", map[string][]byte{
		"lib/libcudart.so.12.4.127": gputest.Library(elftest.Object{Soname: "libcudart.so.12", RunPath: "/run/opengl-driver/lib"}, nil, "libcuda.so.1"),
	}},
	{"b-nvidia-x11-550.54.14", "", map[string][]byte{
		"lib/libcuda.so.550.54.14": gputest.Library(elftest.Object{Soname: "libcuda.so.1"}, nil),
		"lib/libnvidia-ml.so.1":    gputest.Library(elftest.Object{Soname: "libnvidia-ml.so.1"}, nil),
	}},
	{"c-kernels-1.0", "a b", map[string][]byte{
		"lib/libkernels.so": gputest.Library(elftest.Object{Needed: []string{"libcudart.so.12"}, RunPath: "/run/opengl-driver/lib"},
			gputest.Fatbin(gputest.Entry{Kind: gputest.Cubin, SM: 80}, gputest.Entry{Kind: gputest.Cubin, SM: 90}, gputest.Entry{Kind: gputest.PTX, SM: 90, ISA: 84})),
		"lib/libhip.so": (&elftest.Object{Arch: "amd64", Sections: []elftest.Section{{Name: ".hip_fatbin", Align: 4096, Data: gputest.Bundle("gfx90a")}}}).Bytes(),
	}},
	{"d-app-1.0", "c", map[string][]byte{"bin/app": elftest.Program("amd64", "")}},
	{"f-plain-1.0", "", map[string][]byte{"bin/plain": elftest.Program("amd64", "")}},
	{"g-clean-1.0", "a", map[string][]byte{
		"lib/libclean.so": gputest.Library(elftest.Object{}, gputest.SASS("sm_90"), "libcuda.so.1"),
	}},
	{"h-compiler-1.0", "", map[string][]byte{"lib/libnvrtc.so.11.8.89": gputest.Library(elftest.Object{}, nil, "libcuda.so.1", "libnvidia-ml.so.1"),
		"lib/libuser.so": gputest.Library(elftest.Object{Needed: []string{"libcuda.so.1"}}, nil)}},
}

// TestGPUScript runs the scripts in testdata/gpu, in a directory with a store:
// store/nix/store has the objects above, store/path-info.json their metadata.
func TestGPUScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/gpu",
		Setup: func(env *testscript.Env) error {
			env.Setenv("STORE", gpuStore)
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/caches")
			return makeTestStore(env.WorkDir+"/store", gpuObjects)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"code": checkCode, "valid": checkSchema},
	})
}

// makeTestStore makes objects in a directory, and beside them path-info.json with their metadata.
func makeTestStore(dir string, objects []testObject) error {
	type info struct {
		Path       closure.Path   `json:"path"`
		NARHash    string         `json:"narHash"`
		NARSize    int64          `json:"narSize"`
		References []closure.Path `json:"references"`
	}
	var infos []info
	paths := make(map[string]closure.Path)
	for _, o := range objects {
		i := info{Path: closure.Path(gpuStore + o.name), References: []closure.Path{}}
		paths[o.name[:1]] = i.Path
		for ref := range strings.FieldsSeq(o.references) {
			i.References = append(i.References, paths[ref])
		}
		for name, data := range o.files {
			name = filepath.Join(dir, string(i.Path), name)
			if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(name, data, 0o755); err != nil {
				return err
			}
		}
		hash, size, err := narhash.Sum(context.Background(), closure.DirFS(dir+"/nix/store"), i.Path.Base())
		if err != nil {
			return err
		}
		i.NARHash, i.NARSize = hash.String(), size
		infos = append(infos, i)
	}
	data, err := json.Marshal(infos)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "path-info.json"), data, 0o666)
}

// A suspect is explained by a shortest way from a root, and one that is there for nobody is not.
func TestExplainSuspects(t *testing.T) {
	path := func(name string) closure.Path { return closure.Path(gpuStore + name) }
	refs := map[closure.Path][]closure.Path{
		path("a-root"): {path("a-root"), path("b-long"), path("c-short")},
		path("b-long"): {path("d-longer")}, path("d-longer"): {path("e-driver")}, path("c-short"): {path("e-driver")},
	}
	r := &gpu.Report{Suspects: []gpu.Suspect{{Tree: gpuStore + "e-driver"}, {Tree: gpuStore + "a-root"}, {Tree: ""}, {Tree: gpuStore + "f-other"}}}
	explainSuspects(r, []closure.Path{path("a-root")}, refs)
	for i, want := range []string{"a-root c-short e-driver", "a-root", "", ""} {
		if got := strings.ReplaceAll(strings.Join(r.Suspects[i].Why, " "), gpuStore, ""); got != want {
			t.Errorf("suspect %d: got %q, want %q", i, got, want)
		}
	}
}
