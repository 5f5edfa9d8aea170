package gpu

import (
	"path"
	"slices"
	"strings"
)

// Interface is a way to use a GPU beside CUDA and ROCm.
type Interface struct {
	Name  string   `json:"name"`  // [Vulkan] and so on
	Users []string `json:"users"` // paths of files that load one of its libraries, linked or by name
}

// Interfaces that are recognised.
const (
	Vulkan    = "Vulkan"
	EGL       = "EGL"
	OpenGL    = "OpenGL" // on an X server: GLX
	OptiX     = "OptiX"
	NVENC     = "NVENC"
	NVDEC     = "NVDEC"
	OpenCL    = "OpenCL"
	LevelZero = "Level Zero"
)

// interfaces says by which libraries each is known, and what runtimes must be asked for to bring NVIDIA's part of it:
// words of NVIDIA_DRIVER_CAPABILITIES, by the lists of libnvidia-container. OpenCL's comes with that for computing.
var interfaces = []struct {
	name         string
	libraries    string
	capabilities string
}{
	{Vulkan, "libvulkan.", "graphics"},
	{EGL, "libEGL. libEGL_nvidia.", "graphics"},
	{OpenGL, "libGL. libGLX. libGLX_nvidia.", "graphics display"},
	{OptiX, "libnvoptix.", "graphics"},
	{NVENC, "libnvidia-encode.", "video"},
	{NVDEC, "libnvcuvid.", "video"},
	{OpenCL, "libOpenCL. libnvidia-opencl.", ""},
	{LevelZero, "libze_loader. libze_intel_gpu.", ""},
}

// dispatchers begin the names of libraries that belong to an interface themselves: that they load each other says nothing.
var dispatchers = []string{
	"libvulkan.", "libEGL", "libGL.", "libGLX", "libGLdispatch.", "libOpenGL.", "libGLES", "libOpenCL.", "libze_", "libgallium", "libnvidia-", "libcuda.",
}

// interfaceOf returns the index of the interface that a library belongs to, or -1.
func interfaceOf(library string) int {
	for i := range interfaces {
		for prefix := range strings.FieldsSeq(interfaces[i].libraries) {
			if strings.HasPrefix(library, prefix) {
				return i
			}
		}
	}
	return -1
}

// findInterfaces says what uses which interface. Profilers look at all, and use none.
func (r *Report) findInterfaces() {
	users := make([][]string, len(interfaces))
	for _, n := range r.Needs {
		i := interfaceOf(n.Library)
		if i < 0 {
			continue
		}
		for _, user := range slices.Concat(n.Linked, n.Named) {
			base := path.Base(user)
			if !isAuxiliary(user) && !slices.ContainsFunc(dispatchers, func(prefix string) bool { return strings.HasPrefix(base, prefix) }) {
				users[i] = append(users[i], user)
			}
		}
	}
	for i, list := range users {
		if len(list) > 0 {
			slices.Sort(list)
			r.Interfaces = append(r.Interfaces, Interface{interfaces[i].name, slices.Compact(list)})
		}
	}
}

// Uses reports whether something in the image uses an interface.
func (r *Report) Uses(name string) bool {
	return slices.ContainsFunc(r.Interfaces, func(i Interface) bool { return i.Name == name })
}

// Capabilities returns what runtimes must be asked for, beside computing and nvidia-smi,
// to bring all of NVIDIA's driver that the image uses: words of NVIDIA_DRIVER_CAPABILITIES, sorted.
func (r *Report) Capabilities() []string {
	words := make(map[string]bool)
	for _, i := range interfaces {
		for word := range strings.FieldsSeq(i.capabilities) {
			words[word] = words[word] || r.Uses(i.name)
		}
	}
	return slices.DeleteFunc([]string{"display", "graphics", "video"}, func(word string) bool { return !words[word] })
}
