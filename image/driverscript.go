package image

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nix2img/nix2img/closure"
	"github.com/nix2img/nix2img/image/gpu"
)

// driverLibs are libraries by which a folder is known to have a driver: of NVIDIA's, and of AMD's.
var driverLibs = []string{"libcuda.so", "libnvidia-ml.so", "libnvrm_gpu.so", "libhsa-runtime64.so", "libdrm_amdgpu.so"}

// driverScript returns the script that has the last word on LD_LIBRARY_PATH.
//
// Its presence there, even without a driver, would let libraries of the host take the place of the closure's.
// So it names only folders that have a driver,
// and before them a folder with those libraries of the closure that the host's must not replace.
//
// In an image that was converted from OCI, the variable begins with what [Resolved.OCIEnv] has added.
// That goes, and only that: the user's part is what is before it.
//
// Apptainer adds the user's PREPEND_LD_LIBRARY_PATH and APPEND_LD_LIBRARY_PATH later,
// and only to a variable that is set. So for them it stays.
//
// It also names what the programs of an image look for in ways of their own: see [Resolved.hostFiles].
func (r *Resolved) driverScript() string {
	var patterns, unconvert, before string
	variables := "__n2i_user __n2i_found __n2i_dir __n2i_lib"
	for _, lib := range driverLibs {
		patterns += ` "$__n2i_dir"/` + lib + "*"
	}
	if r.NV {
		unconvert = `__n2i_user="${__n2i_user%:` + r.ociLibraryPath() + "}\"\n"
	}
	begin := ""
	if r.hasTriton() {
		begin = "__n2i_cuda=\n"
		variables += " __n2i_cuda"
	}
	if r.compat != nil {
		before += "$__n2i_compat"
		variables += " __n2i_compat"
	}
	if len(r.shield) > 0 {
		before += shieldDir + ":"
	}
	return `#!/bin/sh
# Sets LD_LIBRARY_PATH to where the host's GPU driver is, and unsets it where there is none.
# What the user has put into LD_LIBRARY_PATH stays in front.
__n2i_user=":${LD_LIBRARY_PATH:-}"
__n2i_user="${__n2i_user%:/` + libsDir + `}"
` + unconvert + `__n2i_user="${__n2i_user#:}"
__n2i_found=
` + begin + `for __n2i_dir in ` + strings.Join(r.driverDirs(), " ") + ` ` + r.toldDirs() + nixDriverDir + `; do
    if [ "$__n2i_dir" = ` + nixDriverDir + ` ] && [ -n "$__n2i_found" ]; then
        break # it leads to what has been found
    fi
` + r.oncePerDir() + `    for __n2i_lib in` + patterns + `; do
        if [ -e "$__n2i_lib" ]; then
            __n2i_found="$__n2i_found:$__n2i_dir"
` + r.noteLibcuda() + `            break
        fi
    done
done
` + r.compatScript() + `if [ -n "$__n2i_found" ]; then
    LD_LIBRARY_PATH="${__n2i_user:+$__n2i_user:}` + before + `${__n2i_found#:}"
    export LD_LIBRARY_PATH
elif [ -n "$__n2i_user${PREPEND_LD_LIBRARY_PATH:-}${APPEND_LD_LIBRARY_PATH:-}" ]; then
    LD_LIBRARY_PATH="${__n2i_user:+$__n2i_user:}/` + libsDir + `"
    export LD_LIBRARY_PATH
else
    unset LD_LIBRARY_PATH
fi
` + r.hostFiles() + `unset ` + variables + "\n"
}

// toldDirs returns folders that are known only when a container starts: the one that NVIDIA's toolkit tells,
// and where CDI shows the driver of a NixOS host. The image's own store must not have one like that.
func (r *Resolved) toldDirs() string {
	if !r.NV {
		return ""
	}
	dirs := `"${NVIDIA_CTK_LIBCUDA_DIR:-/` + libsDir + `}" ` // without, once more the first
	const store, driver = "/nix/store", "-nvidia-x11"
	if !slices.ContainsFunc(r.store.byName, func(p closure.Path) bool { return strings.Contains(string(p), driver) }) {
		dirs += store + "/*" + driver + "*/lib "
	}
	return dirs
}

// oncePerDir returns the lines that pass over a folder that has been found before.
func (r *Resolved) oncePerDir() string {
	if !r.NV {
		return ""
	}
	return `    case "$__n2i_found:" in
    *:"$__n2i_dir":*) continue ;;
    esac
`
}

// ownWays has the variables of programs that look for more than libraries, or in a way of their own:
// what they are set to if one of the patterns leads to a file, the first that does.
// Empty files are the image's own, for a runtime to bind the host's over them.
var ownWays = []struct {
	name     string // interface of package gpu
	variable string
	instead  string // another variable that says the same
	patterns string
	dir      bool // it is set to the file's folder
}{
	{gpu.Vulkan, "VK_DRIVER_FILES", "VK_ICD_FILENAMES", "/usr/share/vulkan/icd.d/nvidia*.json /etc/vulkan/icd.d/nvidia*.json " +
		"/run/opengl-driver/share/vulkan/icd.d/nvidia*.json", false},
	{gpu.EGL, "__EGL_VENDOR_LIBRARY_DIRS", "__EGL_VENDOR_LIBRARY_FILENAMES", "/usr/share/glvnd/egl_vendor.d/*nvidia*.json " +
		"/etc/glvnd/egl_vendor.d/*nvidia*.json /run/opengl-driver/share/glvnd/egl_vendor.d/*nvidia*.json", true},
	{gpu.OpenCL, "OCL_ICD_VENDORS", "OCL_ICD_FILENAMES", "/etc/OpenCL/vendors/nvidia*.icd /run/opengl-driver/etc/OpenCL/vendors/nvidia*.icd", true},
}

// hasTriton reports whether the image has Triton, which would ask ldconfig for the folder of libcuda.
func (r *Resolved) hasTriton() bool {
	return r.NV && r.Report != nil && r.Report.Framework("Triton") != nil
}

// noteLibcuda returns the line that notes, for Triton, in which folder libcuda is.
func (r *Resolved) noteLibcuda() string {
	if !r.hasTriton() {
		return ""
	}
	return `            if [ -e "$__n2i_dir/libcuda.so.1" ]; then
                __n2i_cuda="${__n2i_cuda:-$__n2i_dir}"
            fi
`
}

// hostFiles returns the lines that set variables for programs that do not look for libraries alone,
// if the closure has such programs, the host's files are there, and the user has not set them.
func (r *Resolved) hostFiles() string {
	if !r.NV || r.Report == nil {
		return ""
	}
	var b strings.Builder
	if r.hasTriton() {
		b.WriteString(`if [ -n "$__n2i_cuda" ]; then
    TRITON_LIBCUDA_PATH="${TRITON_LIBCUDA_PATH:-$__n2i_cuda}"
    export TRITON_LIBCUDA_PATH
fi
`)
	}
	for _, w := range ownWays {
		if !r.Report.Uses(w.name) {
			continue
		}
		value := "$__n2i_lib"
		if w.dir {
			value = "${__n2i_lib%/*}"
		}
		fmt.Fprintf(&b, `for __n2i_lib in %[3]s; do
    if [ -s "$__n2i_lib" ] && [ -z "${%[1]s:-}${%[2]s:-}" ]; then
        %[1]s="%[4]s"
        export %[1]s
    fi
done
`, w.variable, w.instead, w.patterns, value)
	}
	return b.String()
}
