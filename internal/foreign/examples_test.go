//go:build foreign

package foreign

import (
	"encoding/json"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// The examples are at least what their languages take.
func TestExamplesParse(t *testing.T) {
	checked := make(map[string]int)
	err := filepath.WalkDir(filepath.Join(module, "examples"), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ext := filepath.Ext(name)
		switch ext {
		case ".nix":
			output(t, "nix-instantiate", "--parse", name)
		case ".sbatch", ".sh":
			output(t, "bash", "-n", name)
		case ".py":
			output(t, "python3", "-c", "import ast, sys; ast.parse(open(sys.argv[1]).read())", name)
		}
		checked[ext]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked[".nix"] < 4 || checked[".sbatch"] < 4 || checked[".sh"] < 1 || checked[".py"] < 2 {
		t.Errorf("files by ending: %v", checked)
	}
}

// nixpkgs is a stand-in that gives back what it was asked for.
const nixpkgs = `
{ system ? null, config ? { }, overlays ? [ ] }:
let
  apply = builtins.foldl' (old: f: old // f final old);
  final = apply {
    pythonPackagesExtensions = [ ];
    cudaPackages.saxpy = { inherit system config; };
    python3.withPackages = f: { inherit system config; packages = f python; };
  } overlays;
  python = builtins.foldl' (old: f: old // f python old) {
    setuptools = "setuptools";
    torch = "torch";
    buildPythonPackage = args: args // { src = toString args.src; };
    callPackage = file: args:
      let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) python // args);
  } final.pythonPackagesExtensions;
in
final
`

func TestExamplesEvaluate(t *testing.T) {
	dir := newDir(t)
	writeFile(t, dir+"/default.nix", []byte(nixpkgs))
	var got struct {
		System string
		Config struct {
			CUDASupport      bool
			CUDACapabilities []string
		}
		Packages []struct {
			Pname        string
			Src          string
			Dependencies []string
		}
		Image struct {
			Name  string
			For   []string
			Roots int
		}
	}
	evaluate := func(example string, args ...string) {
		t.Helper()
		args = append([]string{"--eval", "--strict", "--json", filepath.Join(module, "examples", example), "--arg", "nixpkgs", dir,
			"--arg", "nix2img", "{ pkgs }: { buildSif = args: { image = { inherit (args) name for; roots = builtins.length args.roots; }; }; }"}, args...)
		if err := json.Unmarshal([]byte(output(t, "nix-instantiate", args...)), &got); err != nil {
			t.Fatal(err)
		}
	}
	evaluate("edm", "--arg", "cudaCapabilities", `[ "9.0" ]`)
	if got.System != "x86_64-linux" || !got.Config.CUDASupport || strings.Join(got.Config.CUDACapabilities, " ") != "9.0" {
		t.Errorf("edm: %+v", got)
	}
	if p := got.Packages; len(p) != 1 || p[0].Pname != "edm" || strings.Join(p[0].Dependencies, " ") != "torch" ||
		p[0].Src != filepath.Join(module, "examples/edm/src") {
		t.Errorf("edm: %+v", p)
	}
	if i := got.Image; i.Name != "edm" || i.Roots != 1 || strings.Join(i.For, " ") != "A100 H100" {
		t.Errorf("edm: %+v", i)
	}
	evaluate("jetson")
	if i := got.Image; i.Name != "saxpy" || strings.Join(i.For, " ") != "Orin" {
		t.Errorf("jetson: %+v", i)
	}
	if got.System != "aarch64-linux" || strings.Join(got.Config.CUDACapabilities, " ") != "8.7" {
		t.Errorf("jetson: %+v", got)
	}
}
