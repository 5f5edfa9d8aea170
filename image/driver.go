package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/inspect"
)

// GPU says which drivers of the host an image serves.
//
// An image that serves one keeps libraries that runtimes bring along with it
// from taking the place of the closure's, as the package comment describes.
// One that serves NVIDIA's asks runtimes for it: see [Resolved.OCIEnv].
// The driver itself is never in the image, as it must be that of the host's kernel.
type GPU struct {
	NV   Choice // NVIDIA's, as by the flag --nv of SingularityCE and Apptainer
	ROCm Choice // AMD's, as by their flag --rocm

	// Waive has patterns for libraries that whoever accepts the image leaves out on purpose.
	// They are kept in the build record, and change nothing else.
	Waive []string
}

// None reports whether no driver is served, whatever the closure needs.
func (g GPU) None() bool { return g.NV == No && g.ROCm == No }

// A Choice is yes, no, or left to what the closure needs:
// yes if it has code for GPUs of that vendor, or a library to run such code with.
type Choice int

const (
	Auto Choice = iota
	Yes
	No
)

// libsDir is where SingularityCE and Apptainer bind the libraries of the host's driver.
const libsDir = ".singularity.d/libs"

// nixDriverDir is where programs of nixpkgs look for the driver.
// In an image it is a link to libsDir, unless a runtime mounts the host's over it, as NixOS has it.
const nixDriverDir = "/run/opengl-driver/lib"

// driverDirs returns where a container may have the libraries of the host's driver, in the order of preference:
// the folder of SingularityCE and Apptainer, then those that other runtimes and their hooks use.
func (r *Resolved) driverDirs() []string {
	dirs := []string{"/" + libsDir, "/usr/lib64"}
	multiarch := ""
	switch r.Arch {
	case "amd64":
		multiarch = "/usr/lib/x86_64-linux-gnu"
		dirs = append(dirs, multiarch, "/usr/lib/wsl/lib")
	case "arm64":
		multiarch = "/usr/lib/aarch64-linux-gnu"
		dirs = append(dirs, multiarch, multiarch+"/nvidia", multiarch+"/tegra")
	}
	if !r.NV && !r.ROCm {
		return dirs // somebody may have a library for videos that uses a driver
	}
	// CDI shows a driver where the host has it.
	if multiarch != "" {
		dirs = append(dirs, multiarch+"/nvidia/current") // Debian
	}
	dirs = append(dirs,
		"/usr/lib64/nvidia", "/usr/lib/nvidia", // older packages of Fedora, openSUSE and others
		"/usr/lib",                // Arch
		"/usr/local/nvidia/lib64") // Kubernetes on Google's machines
	if r.ROCm && !r.hasROCm() {
		dirs = append(dirs, "/opt/rocm/lib")
	}
	return dirs
}

// hasROCm reports whether the closure has the part of ROCm above the kernel. The host's must not take its place.
func (r *Resolved) hasROCm() bool {
	for _, facts := range r.facts {
		if slices.ContainsFunc(facts.Files, func(f gpu.File) bool { return strings.HasPrefix(f.Soname, "libhsa-runtime64.so") }) {
			return true
		}
	}
	return false
}

// resolveGPU settles which drivers the image serves, and what it has of the closure for that.
func (r *Resolved) resolveGPU(ctx context.Context) error {
	want := r.image.GPU
	if want.None() && r.rt.Accept == nil {
		return nil
	}
	all, err := r.factsOf(ctx, gpu.Inspector)
	if err != nil {
		return err
	}
	r.facts = make(map[closure.Path]*gpu.Facts)
	for _, p := range r.store.byName {
		if r.facts[p], err = gpu.FactsOf(all[p]); err != nil {
			return fmt.Errorf("image: %s: %w", p, err)
		}
	}
	trees := make([]gpu.Tree, len(r.store.byName))
	for i, p := range r.store.byName {
		trees[i] = gpu.Tree{At: string(p), Facts: r.facts[p]}
	}
	r.Report = gpu.New(trees)
	if r.rt.Accept != nil {
		if err := r.rt.Accept(r.Report); err != nil {
			return err
		}
	}
	nv, rocm := r.vendors()
	r.NV = want.NV == Yes || want.NV == Auto && nv
	r.ROCm = want.ROCm == Yes || want.ROCm == Auto && rocm
	r.addGPULabels()
	if r.NV || r.ROCm {
		if err := r.resolveShield(); err != nil {
			return err
		}
	}
	if r.NV {
		return r.resolveCompat()
	}
	return nil
}

// vendors reports whose GPUs the closure has something for.
func (r *Resolved) vendors() (nv, rocm bool) {
	for _, l := range r.Report.Libraries {
		for _, c := range l.Code {
			nv = nv || c.Kind != gpu.HIP
			rocm = rocm || c.Kind == gpu.HIP
		}
	}
	for _, n := range r.Report.Needs {
		nv = nv || n.Driver && len(n.Linked) > 0
	}
	for _, facts := range r.facts {
		for i := range facts.Files {
			soname := facts.Files[i].Soname
			nv = nv || strings.HasPrefix(soname, "libcudart.so")
			rocm = rocm || strings.HasPrefix(soname, "libamdhip64.so")
		}
	}
	return nv, rocm
}

// addGPULabels adds labels for those who look at the image. The user's stay.
func (r *Resolved) addGPULabels() {
	s := r.Report.Summary()
	if s.Use == gpu.UseNone {
		return
	}
	for _, l := range []struct{ key, value string }{
		{"gpu.use", string(s.Use)},
		{"cuda.version", strings.Join(s.CUDA, " ")},
		{"cuda.sass", strings.Join(s.SASS, " ")},
		{"cuda.ptx", s.PTX},
		{"cuda.driver", string(s.Driver)},
		{"cuda.min-driver", string(s.MinDriver)},
		{"rocm.targets", strings.Join(s.HIP, " ")},
	} {
		key := "org.nix2img." + l.key
		if _, set := r.Config.Labels[key]; set || l.value == "" {
			continue
		}
		if r.Config.Labels == nil {
			r.Config.Labels = make(map[string]string)
		}
		r.Config.Labels[key] = l.value
	}
}

// factsOf returns the facts about the closure's objects, completed by those of an inspector.
func (r *Resolved) factsOf(ctx context.Context, in inspect.Inspector) (map[closure.Path]inspect.Facts, error) {
	all := maps.Clone(r.rt.Facts)
	if all == nil {
		all = make(map[closure.Path]inspect.Facts)
	}
	list := []inspect.Inspector{in}
	var paths []closure.Path
	var trees []inspect.Tree
	for _, p := range r.store.byName {
		if len(all[p].Missing(list)) > 0 {
			paths, trees = append(paths, p), append(trees, inspect.Tree{Root: p.Base(), Inspectors: list})
		}
	}
	found, err := inspect.Find(ctx, r.store.files, trees, 0)
	if err != nil {
		return nil, wrap(err, "image: look into files")
	}
	for i, f := range found {
		all[paths[i]] = f
	}
	return all, nil
}

// OCIEnv returns the environment for runtimes that set variables and run no script:
// those of OCI images, enroot and Charliecloud.
//
// To [Config.Env] it adds, in an image that serves NVIDIA's driver:
//
//	NVIDIA_VISIBLE_DEVICES=all                   asks for the GPUs
//	NVIDIA_DRIVER_CAPABILITIES=compute,utility   and for the libraries to compute, and nvidia-smi;
//	                                             display, graphics and video as well if the closure uses those
//	NVIDIA_REQUIRE_CUDA=cuda>=12.0               has runtimes refuse an older driver; see below
//	LD_LIBRARY_PATH=...                          has the closure's own libraries before the host's,
//	                                             and all folders where runtimes put those
//
// The requirement is the CUDA that drivers must know: that of the closure if a library must be compiled by the driver,
// else the first of the same major version. There is none if the version is not known,
// or if the closure has CUDA's compatibility package, which runtimes do not take into account.
//
// Variables of the same names in Config.Env stay, but for LD_LIBRARY_PATH, which goes in front of the image's.
// What is added to that is taken away again by the scripts of the image,
// once SingularityCE or Apptainer have made a SIF of it.
func (r *Resolved) OCIEnv() []string {
	env := slices.Clone(r.Config.Env)
	if !r.NV {
		return env
	}
	add := []string{"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=" + strings.Join(append([]string{"compute", "utility"}, r.Report.Capabilities()...), ",")}
	if cuda := r.requiredCUDA(); cuda != "" {
		add = append(add, "NVIDIA_REQUIRE_CUDA=cuda>="+cuda)
	}
	for _, kv := range add {
		if key, _, _ := strings.Cut(kv, "="); envIndex(env, key) < 0 {
			env = append(env, kv)
		}
	}
	const key = "LD_LIBRARY_PATH"
	dirs := r.ociLibraryPath()
	if i := envIndex(env, key); i >= 0 && env[i] != key+"=" {
		dirs = strings.TrimPrefix(env[i], key+"=") + ":" + dirs
	}
	return setEnv(env, key+"="+dirs)
}

// requiredCUDA returns the version of CUDA that the driver must know, or "".
func (r *Resolved) requiredCUDA() string {
	if r.compat != nil || len(r.Report.CUDA) == 0 {
		return ""
	}
	v := r.Report.CUDA[len(r.Report.CUDA)-1].Version
	if !slices.ContainsFunc(r.Report.Suspects, func(s gpu.Suspect) bool { return s.Kind == gpu.PTXOnly }) {
		v.Minor = 0
	}
	return v.String()
}

// ociLibraryPath is what an OCI environment has to find the driver by.
// A folder that is not there, or empty, does no harm.
func (r *Resolved) ociLibraryPath() string {
	var dirs []string
	if len(r.shield) > 0 {
		dirs = append(dirs, shieldDir)
	}
	dirs = append(dirs, r.driverDirs()...)
	return strings.Join(append(dirs, nixDriverDir), ":")
}
