//go:build foreign

package gpu_test

import (
	"context"
	"os"
	"testing"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	insp "github.com/nix2img/nix2img/image/inspect"
)

// objects returns the closure that Nix describes in the file that a variable names.
// testdata/test.sh sets it.
func objects(t testing.TB, variable string) []closure.Object {
	t.Helper()
	f, err := os.Open(os.Getenv(variable))
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	defer f.Close()
	objects, err := closure.ReadObjects(f)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// facts inspects a closure in the store of this machine.
func facts(t testing.TB, objects []closure.Object) []gpu.Tree {
	t.Helper()
	survey := insp.Survey{Inspectors: []insp.Inspector{gpu.Inspector}}
	all, err := survey.Complete(context.Background(), objects, closure.DirFS("/nix/store"))
	if err != nil {
		t.Fatal(err)
	}
	var trees []gpu.Tree
	for _, o := range objects {
		facts, err := gpu.FactsOf(all[o.Path])
		if err != nil {
			t.Fatal(err)
		}
		trees = append(trees, gpu.Tree{At: string(o.Path), Facts: facts})
	}
	return trees
}

// A Python environment without anything for GPUs.
func TestSmall(t *testing.T) {
	trees := facts(t, objects(t, "SMALL_PATH_INFO"))
	files := 0
	for _, tree := range trees {
		files += len(tree.Facts.Files)
		for _, f := range tree.Facts.Files {
			if f.Damaged != "" {
				t.Errorf("%s/%s: %s", tree.At, f.Path, f.Damaged)
			}
		}
	}
	r := gpu.New(trees)
	if files < 100 || r.Arch != "amd64" || r.Use != gpu.UseNone || len(r.Libraries)+len(r.Lookups)+len(r.Suspects)+len(r.CUDA) > 0 {
		t.Errorf("%d files, %+v", files, r)
	}
	if v := r.Check(&gpu.Demand{Targets: []*gpu.Target{target(t, "H100"), target(t, "MI300X")}, Driver: "450.80.02", CPU: true}); v.Outcome != gpu.Runs {
		t.Errorf("%+v", v)
	}
}
