package image_test

import (
	"context"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image"
	"github.com/nix2img/nix2img/image/gpu"
	"github.com/nix2img/nix2img/image/gpu/gputest"
	"github.com/nix2img/nix2img/image/inspect"
	"github.com/nix2img/nix2img/internal/elf/elftest"
)

var (
	mesa   = object("libglvnd-1.7.0")
	mesa2  = object("libglvnd-1.10.0")
	drm    = object("libdrm-2.4.123")
	jetson = object("cuda_compat-12.2")
)

// lib is what is known of a library.
func lib(file, arch, soname string) gpu.File {
	return gpu.File{Path: file, Format: gpu.ELF, Arch: arch, Soname: soname}
}

// knownFacts has the facts about objects of closures for tests, whose files are not what they seem.
var knownFacts = make(map[*closure.Closure]map[closure.Path]inspect.Facts)

// gpuImage has libraries that the host may bring along as well.
// What it has of a compatibility package is added.
func gpuImage(arch string, compat ...gpu.File) *image.Image {
	facts := map[string][]gpu.File{
		mesa: {
			lib("lib/libGL.so.1.7.0", arch, "libGL.so.1"),
			lib("lib/libGLX_indirect.so", arch, "libGLX_mesa.so.0"),
			lib("lib/libOpenGL.so.0.0.0", arch, "libOpenGL.so.0"),
			lib("lib/stubs/libEGL.so", arch, "libEGL.so.1"),
			lib("lib/libGLX.so.0.0.0", "386", "libGLX.so.0"),
			lib("lib/libcuda.so.550.1", arch, "libcuda.so.1"),
			lib("lib/libOpenCL.so.1", arch, "../libOpenCL.so.1"),
		},
		mesa2: {lib("lib/libGL.so.1.7.0", arch, "libGL.so.1"), lib("lib/libOpenGL.so.0.0.0-odd", arch, "libOpenGL.so.0")},
		drm:   {lib("lib/libdrm.so.2.123.0", arch, "libdrm.so.2"), lib("lib/old/libdrm.so.2.99.0", arch, "libdrm.so.2")},
	}
	if compat != nil {
		facts[jetson] = compat
	}
	f := files{hello + "/bin/hello": elfFile(arch, "")}
	img := &image.Image{GPU: image.GPU{NV: image.Yes, ROCm: image.No}}
	known := make(map[closure.Path]inspect.Facts)
	for p, list := range facts {
		for _, file := range list {
			f[p+"/"+file.Path] = "a library"
		}
		found, err := inspect.Of(gpu.Inspector, &gpu.Facts{Files: list})
		if err != nil {
			panic(err)
		}
		known[closure.Path(p)] = found
	}
	img.Closure = closureOf(f, hello)
	knownFacts[img.Closure] = known
	return img
}

var dataCentre = []gpu.File{
	lib("compat/libcuda.so.560.35.03", "amd64", "libcuda.so.1"),
	lib("compat/libnvidia-ptxjitcompiler.so.560.35.03", "amd64", "libnvidia-ptxjitcompiler.so.1"),
	lib("lib/libother.so", "amd64", "libother.so"),
}

var tegra = []gpu.File{lib("compat/libcuda.so.1.1", "arm64", "libcuda.so.1")}

const (
	libs   = "/.singularity.d/libs"
	shield = "/.nix2img/shield"
	compat = "/.nix2img/compat"
	tesla  = "Model: \t\t NVIDIA A100-SXM4-40GB\nIRQ:   \t\t 42\n"
	rtx    = "Model: \t\t NVIDIA GeForce RTX 3090\nIRQ:   \t\t 43\n"
)

func driver(version string) string {
	return "NVRM version: NVIDIA UNIX x86_64 Kernel Module  " + version + "  Thu Apr  3 02:29:38 UTC 2026\nGCC version:  gcc version 12.2.0\n"
}

func openDriver(version string) string {
	return "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  " + version + "  Release Build  (root)\n"
}

// host is what the script sees of a host: "libs=libcuda.so.1" for a library, and files of its own.
type host map[string]string

func with(dir string, names ...string) host {
	h := make(host)
	for _, name := range names {
		h[dir+"/"+name] = ""
	}
	return h
}

func (h host) with(name, text string) host {
	h[name] = text
	return h
}

// scriptCase is one evaluation of the environment.
type scriptCase struct {
	name string
	img  *image.Image // nil: one that serves no GPU
	host host
	env  string // KEY=value that is set by the user, right after 99-base.sh
	want string // LD_LIBRARY_PATH; "-": not set
}

const (
	version = "/proc/driver/nvidia/version"
	gpu0    = "/proc/driver/nvidia/gpus/0000:01:00.0/information"
	gpu1    = "/proc/driver/nvidia/gpus/0000:02:00.0/information"
)

func scriptCases() []scriptCase {
	gl, cc, orin := gpuImage("amd64"), gpuImage("amd64", dataCentre...), gpuImage("arm64", tegra...)
	cuda := func() host { return with(libs, "libcuda.so.1", "libGL.so.1") }
	const set = "LD_LIBRARY_PATH="
	cases := []scriptCase{
		{"no driver", nil, host{}, "", "-"},
		{"no driver, but libraries", nil, with(libs, "libGL.so.1"), "", "-"},
		{"no driver, user's", nil, host{}, set + "/my lib:" + libs, "/my lib:" + libs},
		{"no driver, empty", nil, host{}, set, "-"},
		{"runtime's", nil, cuda(), "", libs},
		{"runtime's, user's", nil, cuda(), set + "/my lib:" + libs, "/my lib:" + libs},
		{"user's with the folder inside", nil, cuda(), set + libs + ":/x:" + libs, libs + ":/x:" + libs},
		{"runtime's, empty", nil, cuda(), set, libs},
		{"hook's", nil, with("/usr/lib64", "libcuda.so.550.1"), "", "/usr/lib64"},
		{"CDI's on Debian", nil, with("/usr/lib/x86_64-linux-gnu", "libnvidia-ml.so.550.1"), "", "/usr/lib/x86_64-linux-gnu"},
		{"NixOS's", nil, with("/run/opengl-driver/lib", "libcuda.so.1"), "", "/run/opengl-driver/lib"},
		{"WSL's", nil, with("/usr/lib/wsl/lib", "libcuda.so.1"), "", "/usr/lib/wsl/lib"},
		{"Jetson's", gpuImage("arm64"), with("/usr/lib/aarch64-linux-gnu/tegra", "libnvrm_gpu.so"), "", shield + ":/usr/lib/aarch64-linux-gnu/tegra"},
		{"AMD's", nil, with(libs, "libdrm_amdgpu.so.1"), "", libs},
		{"several", nil, with("/usr/lib64", "libnvidia-ml.so.1").with(libs+"/libcuda.so.1", ""), "", libs + ":/usr/lib64"},
		{"several, NixOS's", nil, with("/run/opengl-driver/lib", "libcuda.so.1").with(libs+"/libcuda.so.1", ""), "", libs},
		{"a name alike", nil, with("/usr/lib64", "libcudart.so.12"), "", "-"},

		{"shield", gl, cuda(), "", shield + ":" + libs},
		{"shield, user's", gl, cuda(), set + "/a:/b c:" + libs, "/a:/b c:" + shield + ":" + libs},
		{"shield, no driver", gl, host{}, "", "-"},
		{"shield, no driver, user's", gl, host{}, set + "/a:" + libs, "/a:" + libs},

		{"old driver", cc, cuda().with(version, driver("535.54.03")).with(gpu0, tesla), "", compat + ":" + shield + ":" + libs},
		{"old open driver", cc, cuda().with(version, openDriver("550.1")).with(gpu0, tesla), "", compat + ":" + shield + ":" + libs},
		{"driver of the same branch", cc, cuda().with(version, driver("560.28.03")).with(gpu0, tesla), "", shield + ":" + libs},
		{"newer driver", cc, cuda().with(version, driver("1000.2")).with(gpu0, tesla), "", shield + ":" + libs},
		{"old driver, consumer GPU", cc, cuda().with(version, driver("535.54.03")).with(gpu0, rtx), "", shield + ":" + libs},
		{"old driver, one consumer GPU of two", cc, cuda().with(version, driver("535.54.03")).with(gpu0, rtx).with(gpu1, tesla), "", shield + ":" + libs},
		{"driver of unknown version", cc, cuda().with(gpu0, tesla), "", shield + ":" + libs},
		{"unknown GPU", cc, cuda().with(version, driver("535.54.03")), "", shield + ":" + libs},
		{"newer driver, yes", cc, cuda().with(version, driver("575.1")).with(gpu0, tesla), "NIX2IMG_CUDA_COMPAT=yes", compat + ":" + shield + ":" + libs},
		{"old driver, no", cc, cuda().with(version, driver("535.54.03")).with(gpu0, tesla), "NIX2IMG_CUDA_COMPAT=no", shield + ":" + libs},
		{"no driver, yes", cc, host{}, "NIX2IMG_CUDA_COMPAT=yes", "-"},
		{"Jetson", orin, with("/usr/lib/aarch64-linux-gnu/tegra", "libcuda.so.1.1", "libnvrm_gpu.so"), "", compat + ":" + shield + ":/usr/lib/aarch64-linux-gnu/tegra"},
		{"Jetson, no", orin, with(libs, "libcuda.so.1", "libnvrm_gpu.so"), "NIX2IMG_CUDA_COMPAT=no", shield + ":" + libs},
		{"not a Jetson", orin, cuda().with(version, driver("535.1")).with(gpu0, tesla), "", shield + ":" + libs},
	}
	const debian, nixos = "/usr/lib/x86_64-linux-gnu/nvidia/current", "/nix/store/rkzrjkzrj0kzrjkzrjkzrjkzrjkzrjkz-nvidia-x11-580.95.05-6.12.1/lib"
	for _, dir := range []string{debian, "/usr/lib64/nvidia", "/usr/lib/nvidia", "/usr/lib", "/usr/local/nvidia/lib64", nixos} {
		cases = append(cases, scriptCase{dir, gl, with(dir, "libcuda.so.1"), "", shield + ":" + dir},
			scriptCase{dir + ", user's", gl, with(dir, "libcuda.so.1"), set + "/my lib:" + libs, "/my lib:" + shield + ":" + dir},
			scriptCase{dir + ", nothing for a GPU", nil, with(dir, "libcuda.so.1"), "", "-"})
	}
	baked := gpuImage("amd64")
	baked.Closure = closureOf(files{hello + "/bin/hello": elfFile("amd64", ""), object("nvidia-x11-550.1") + "/lib/libcuda.so.1": "a driver"}, hello)
	rocm, whole := gpuImage("amd64"), gpuImage("amd64", lib("lib/libhsa-runtime64.so.1", "amd64", "libhsa-runtime64.so.1"))
	rocm.GPU, whole.GPU = image.GPU{NV: image.No, ROCm: image.Yes}, image.GPU{NV: image.No, ROCm: image.Yes}
	const told = "NVIDIA_CTK_LIBCUDA_DIR="
	cases = append(cases,
		scriptCase{"what CDI tells", gl, with("/odd/my lib", "libcuda.so.1"), told + "/odd/my lib", shield + ":/odd/my lib"},
		scriptCase{"what CDI tells is known", gl, with("/usr/lib", "libcuda.so.1"), told + "/usr/lib", shield + ":/usr/lib"},
		scriptCase{"what CDI tells is not there", gl, host{}, told + "/usr/lib", "-"},
		scriptCase{"NixOS by CDI and by its link", gl, with(nixos, "libcuda.so.1").with("/run/opengl-driver/lib/libcuda.so.1", ""), "", shield + ":" + nixos},
		scriptCase{"the driver of the closure", baked, with(strings.TrimSuffix(object("nvidia-x11-550.1"), "/")+"/lib", "libcuda.so.1"), "", "-"},
		scriptCase{"ROCm of the host", rocm, with("/opt/rocm/lib", "libhsa-runtime64.so.1"), "", shield + ":/opt/rocm/lib"},
		scriptCase{"ROCm of the closure", whole, with("/opt/rocm/lib", "libhsa-runtime64.so.1"), "", "-"})
	// Apptainer adds these afterwards, but only to what is set.
	for _, key := range []string{"PREPEND", "APPEND"} {
		cases = append(cases, scriptCase{key, gl, host{}, key + "_LD_LIBRARY_PATH=/added", libs},
			scriptCase{key + ", driver", gl, cuda(), key + "_LD_LIBRARY_PATH=/added", shield + ":" + libs})
	}
	return cases
}

// text is what a runtime evaluates of the environment.
func (c *scriptCase) text(t *testing.T) string {
	img := c.img
	if img == nil {
		img = goldenImages()["hello"]
	}
	fsys := base(t, img)
	user := ""
	if key, value, ok := strings.Cut(c.env, "="); ok {
		user = "export " + key + "='" + value + "'\n"
	}
	text := readFile(t, fsys, ".singularity.d/env/10-nix2img.sh") + readFile(t, fsys, ".singularity.d/env/99-base.sh") + user +
		readFile(t, fsys, ".singularity.d/env/99-nix2img.sh")
	if mpi, err := fs.ReadFile(fsys, ".singularity.d/env/99-nix2img_mpi.sh"); err == nil {
		text += string(mpi)
	}
	return text
}

func readFile(t *testing.T, fsys fs.FS, name string) string {
	t.Helper()
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// evaluate has the interpreter that SingularityCE and Apptainer embed evaluate a script,
// in a file system of the given files, and returns the exported variables.
// It fails if the script starts a program, prints something, or leaves variables of its own.
func evaluate(t *testing.T, text string, files host) map[string]string {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name[1:]] = &fstest.MapFile{Data: []byte(text)}
	}
	var said strings.Builder
	r, err := interp.New(
		interp.StdIO(nil, &said, &said),
		interp.Env(expand.ListEnviron()),
		interp.Dir("/"),
		interp.StatHandler(func(_ context.Context, name string, _ bool) (fs.FileInfo, error) { return fsys.Stat(name[1:]) }),
		interp.ReadDirHandler2(func(_ context.Context, name string) ([]fs.DirEntry, error) {
			return fsys.ReadDir(strings.TrimSuffix(name[1:], "/"))
		}),
		interp.OpenHandler(func(_ context.Context, name string, _ int, _ os.FileMode) (io.ReadWriteCloser, error) {
			f, err := fsys.Open(name[1:])
			return readOnly{f}, err
		}),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(_ context.Context, args []string) error {
				t.Errorf("the script starts %q", args)
				return interp.ExitStatus(127)
			}
		}),
	)
	if err != nil {
		t.Fatal(err)
	}
	file, err := syntax.NewParser().Parse(strings.NewReader(text), "script")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	if said.Len() > 0 {
		t.Errorf("the script says %q", said.String())
	}
	env := make(map[string]string)
	for name, v := range r.Vars {
		if strings.HasPrefix(name, "__n2i") && v.IsSet() {
			t.Errorf("the script leaves %s=%s", name, v)
		}
		if v.Exported && v.IsSet() {
			env[name] = v.String()
		}
	}
	return env
}

type readOnly struct{ fs.File }

func (readOnly) Write([]byte) (int, error) { return 0, fs.ErrPermission }

// The names of files do not get into the script.
func TestScriptTakesNoNames(t *testing.T) {
	img := gpuImage("amd64", lib("compat/libcuda.so.560.1\ntouch /x", "amd64", "libcuda.so.1"))
	evaluate(t, (&scriptCase{img: img}).text(t), host{})
}

func TestDriverScript(t *testing.T) {
	for _, c := range scriptCases() {
		got, ok := evaluate(t, c.text(t), c.host)["LD_LIBRARY_PATH"]
		if !ok {
			got = "-"
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// converted returns the environment scripts that SingularityCE 4.5.1 makes of an OCI image with the given environment,
// as far as they have to do with us: see insertEnv in its conveyorPacker_oci.go.
func converted(env []string) string {
	var b strings.Builder
	for _, kv := range env {
		key, value, _ := strings.Cut(kv, "=")
		value = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "`", "\\`", `$`, `\$`).Replace(value)
		if key == "PATH" {
			b.WriteString("export PATH=\"" + value + "\"\n")
		} else {
			b.WriteString("export " + key + "=\"${" + key + ":-\"" + value + "\"}\"\n")
		}
	}
	return b.String()
}

// convertedBase is the 99-base.sh that they put in the place of ours.
const convertedBase = `if [ -z "$LD_LIBRARY_PATH" ]; then
    LD_LIBRARY_PATH="/.singularity.d/libs"
else
    LD_LIBRARY_PATH="$LD_LIBRARY_PATH:/.singularity.d/libs"
fi
PS1="Singularity> "
export LD_LIBRARY_PATH PS1
`

// TestConvertedFromOCI gives all cases to an image that was an OCI image once.
func TestConvertedFromOCI(t *testing.T) {
	for _, own := range []string{"", "/opt/lib", "/opt/lib:/with space"} {
		for _, c := range scriptCases() {
			if c.img == nil {
				continue
			}
			img := *c.img
			if own != "" {
				img.Config.Env = []string{"LD_LIBRARY_PATH=" + own}
			}
			c.img = &img
			text := c.text(t)
			begin, end := strings.Index(text, "#!/bin/sh\n# Lets"), strings.Index(text, "export LD_LIBRARY_PATH\n")
			text = converted(resolve(t, &img).OCIEnv()) + text[:begin] + convertedBase + text[end:]
			got, ok := evaluate(t, text, c.host)["LD_LIBRARY_PATH"]
			if !ok {
				got = "-"
			}
			want := c.want
			if own != "" && !strings.HasPrefix(c.env, "LD_LIBRARY_PATH=") {
				switch want {
				case "-", libs:
					want = own + ":" + libs
				default:
					want = own + ":" + want
				}
			}
			if got != want {
				t.Errorf("%s, %q: got %q, want %q", c.name, own, got, want)
			}
		}
	}
}

func TestOCIEnv(t *testing.T) {
	const more = "/nvidia/current:/usr/lib64/nvidia:/usr/lib/nvidia:/usr/lib:/usr/local/nvidia/lib64:/run/opengl-driver/lib"
	const dirs = "/.singularity.d/libs:/usr/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib/wsl/lib:/usr/lib/x86_64-linux-gnu" + more
	const arm = "/.singularity.d/libs:/usr/lib64:/usr/lib/aarch64-linux-gnu:/usr/lib/aarch64-linux-gnu/nvidia:/usr/lib/aarch64-linux-gnu/tegra:/usr/lib/aarch64-linux-gnu" + more
	const all, compute = "NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
	for _, test := range []struct {
		name string
		img  *image.Image
		env  []string
		want []string // beside what the image sets without a GPU
	}{
		{"no GPU", goldenImages()["hello"], nil, nil},
		{"no GPU, user's", goldenImages()["hello"], []string{"LD_LIBRARY_PATH=/x"}, []string{"LD_LIBRARY_PATH=/x"}},
		{"GPU", gpuImage("amd64"), nil, []string{all, compute, "LD_LIBRARY_PATH=" + shield + ":" + dirs}},
		{"arm64", gpuImage("arm64"), nil, []string{all, compute, "LD_LIBRARY_PATH=" + shield + ":" + arm}},
		{"user's", gpuImage("amd64"), []string{"LD_LIBRARY_PATH=/x", "NVIDIA_VISIBLE_DEVICES=none"},
			[]string{"LD_LIBRARY_PATH=/x:" + shield + ":" + dirs, "NVIDIA_VISIBLE_DEVICES=none", compute}},
		{"empty", gpuImage("amd64"), []string{"LD_LIBRARY_PATH="}, []string{"LD_LIBRARY_PATH=" + shield + ":" + dirs, all, compute}},
	} {
		test.img.Config.Env = test.env
		r := resolve(t, test.img)
		got := slices.DeleteFunc(r.OCIEnv(), func(kv string) bool {
			return strings.HasPrefix(kv, "PATH=") || strings.HasPrefix(kv, "PYTHON")
		})
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		fsys := base(t, test.img)
		lines := strings.Join(r.OCIEnv(), "\n") + "\n"
		for _, file := range []string{"etc/environment", "ch/environment"} {
			if got := readFile(t, fsys, file); got != lines {
				t.Errorf("%s: %s has %q, want %q", test.name, file, got, lines)
			}
		}
		if script := readFile(t, fsys, ".singularity.d/env/10-nix2img.sh"); test.env == nil && strings.Contains(script, "LD_LIBRARY_PATH") {
			t.Errorf("%s: what a SIF sets before the user does has LD_LIBRARY_PATH:\n%s", test.name, script)
		}
	}
}

// Programs that look in ways of their own are told where the host's files are, if there are some.
func TestOwnWays(t *testing.T) {
	const nvidia = "nvidia_icd.x86_64.json"
	user := hello + "/lib/libuser.so"
	img := func(names ...string) *image.Image {
		f := files{hello + "/bin/hello": elfFile("amd64", ""), user: string(gputest.Library(elftest.Object{Soname: "libuser.so"}, nil, names...))}
		if len(names) == 0 {
			f[object("triton-3.0")+"/lib/libtriton.so"] = elfFile("amd64", "")
		}
		return &image.Image{Closure: closureOf(f, hello), GPU: image.GPU{NV: image.Yes}}
	}
	cuda := func() host { return with(libs, "libcuda.so.1") }
	for _, test := range []struct {
		img      *image.Image
		host     host
		env      string
		variable string
		want     string // "-": not set
	}{
		{img(), cuda(), "", "TRITON_LIBCUDA_PATH", libs},
		{img(), with("/usr/lib64", "libnvidia-ml.so.1").with("/usr/lib/libcuda.so.1", ""), "", "TRITON_LIBCUDA_PATH", "/usr/lib"},
		{img(), host{}, "", "TRITON_LIBCUDA_PATH", "-"},
		{img(), cuda(), "TRITON_LIBCUDA_PATH=/mine", "TRITON_LIBCUDA_PATH", "/mine"},
		{img("libvulkan.so.1"), cuda(), "", "TRITON_LIBCUDA_PATH", "-"},
		{img("libvulkan.so.1"), cuda().with("/usr/share/vulkan/icd.d/"+nvidia, "{}"), "", "VK_DRIVER_FILES", "/usr/share/vulkan/icd.d/" + nvidia},
		{img("libvulkan.so.1"), cuda().with("/usr/share/vulkan/icd.d/"+nvidia, "{}").with("/etc/vulkan/icd.d/"+nvidia, "{}"), "", "VK_DRIVER_FILES", "/usr/share/vulkan/icd.d/" + nvidia},
		{img("libvulkan.so.1"), cuda(), "", "VK_DRIVER_FILES", "-"},
		{img("libvulkan.so.1"), cuda().with("/usr/share/vulkan/icd.d/nvidia_icd.json", "").with("/etc/vulkan/icd.d/"+nvidia, "{}"), "", "VK_DRIVER_FILES", "/etc/vulkan/icd.d/" + nvidia},
		{img("libEGL.so.1"), cuda().with("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", ""), "", "__EGL_VENDOR_LIBRARY_DIRS", "-"},
		{img("libvulkan.so.1"), cuda().with("/etc/vulkan/icd.d/"+nvidia, "{}"), "VK_ICD_FILENAMES=/mine", "VK_DRIVER_FILES", "-"},
		{img("libOpenCL.so.1"), cuda().with("/usr/share/vulkan/icd.d/"+nvidia, "{}"), "", "VK_DRIVER_FILES", "-"},
		{img("libEGL.so.1"), cuda().with("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "{}"), "", "__EGL_VENDOR_LIBRARY_DIRS", "/usr/share/glvnd/egl_vendor.d"},
		{img("libEGL.so.1"), cuda().with("/run/opengl-driver/share/glvnd/egl_vendor.d/10_nvidia.json", "{}"), "", "__EGL_VENDOR_LIBRARY_DIRS",
			"/run/opengl-driver/share/glvnd/egl_vendor.d"},
		{img("libOpenCL.so.1"), cuda().with("/etc/OpenCL/vendors/nvidia.icd", "libnvidia-opencl.so.1"), "", "OCL_ICD_VENDORS", "/etc/OpenCL/vendors"},
		{img("libOpenCL.so.1"), cuda().with("/etc/OpenCL/vendors/pocl.icd", "libpocl.so"), "", "OCL_ICD_VENDORS", "-"},
	} {
		got, ok := evaluate(t, (&scriptCase{img: test.img, host: test.host, env: test.env}).text(t), test.host)[test.variable]
		if !ok {
			got = "-"
		}
		if got != test.want {
			t.Errorf("%s with %v, %q: got %q, want %q", test.variable, test.host, test.env, got, test.want)
		}
	}
}

// A runtime is asked for all parts of the driver that the closure uses, and no others.
func TestCapabilities(t *testing.T) {
	for names, want := range map[string]string{
		"libcuda.so.1":                     "compute,utility",
		"libnvcuvid.so.1":                  "compute,utility,video",
		"libGL.so.1 libnvidia-encode.so.1": "compute,utility,display,graphics,video",
		"libEGL.so.1":                      "compute,utility,graphics",
	} {
		f := files{hello + "/bin/hello": elfFile("amd64", ""), hello + "/lib/libx.so": string(gputest.Library(elftest.Object{}, nil, strings.Fields(names)...))}
		env := resolve(t, &image.Image{Closure: closureOf(f, hello), GPU: image.GPU{NV: image.Yes}}).OCIEnv()
		if !slices.Contains(env, "NVIDIA_DRIVER_CAPABILITIES="+want) {
			t.Errorf("%s: got %q, want %s", names, env, want)
		}
	}
}

// links lists the links in a folder of the base tree.
func links(t *testing.T, fsys fs.FS, dir string) map[string]string {
	t.Helper()
	m := make(map[string]string)
	entries, _ := fs.ReadDir(fsys, dir[1:])
	for _, e := range entries {
		target, err := fs.ReadLink(fsys, dir[1:]+"/"+e.Name())
		if err != nil {
			t.Error(err)
		}
		m[e.Name()] = target
	}
	return m
}

func equalMaps(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
		return
	}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
}

func TestShield(t *testing.T) {
	img := gpuImage("amd64", dataCentre...)
	nv := map[string]string{
		"libGL.so.1":     mesa2 + "/lib/libGL.so.1.7.0",
		"libOpenGL.so.0": mesa2 + "/lib/libOpenGL.so.0.0.0-odd", // the object's version decides
	}
	fsys := base(t, img)
	equalMaps(t, "--nv", links(t, fsys, shield), nv)
	equalMaps(t, "compat", links(t, fsys, compat), map[string]string{
		"libcuda.so.1":                  jetson + "/compat/libcuda.so.560.35.03",
		"libnvidia-ptxjitcompiler.so.1": jetson + "/compat/libnvidia-ptxjitcompiler.so.560.35.03",
	})
	notes := strings.Join(resolve(t, img).Notes, "\n")
	for _, want := range []string{"2 libraries libGL.so.1: where there is a GPU driver, all programs use " + nv["libGL.so.1"], "2 libraries libOpenGL.so.0"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes do not have %q:\n%s", want, notes)
		}
	}

	img.GPU = image.GPU{NV: image.No, ROCm: image.Yes}
	fsys = base(t, img)
	equalMaps(t, "--rocm", links(t, fsys, shield), map[string]string{"libdrm.so.2": drm + "/lib/libdrm.so.2.123.0"})
	equalMaps(t, "--rocm, compat", links(t, fsys, compat), nil)

	img.GPU = image.GPU{NV: image.No, ROCm: image.No}
	equalMaps(t, "neither", links(t, base(t, img), shield), nil)
}
