package image

import "strings"

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
func (r *Resolved) driverScript() string {
	var patterns, unconvert, before string
	variables := "__n2i_user __n2i_found __n2i_dir __n2i_lib"
	for _, lib := range driverLibs {
		patterns += ` "$__n2i_dir"/` + lib + "*"
	}
	if r.NV {
		unconvert = `__n2i_user="${__n2i_user%:` + r.ociLibraryPath() + "}\"\n"
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
for __n2i_dir in ` + strings.Join(r.driverDirs(), " ") + ` ` + nixDriverDir + `; do
    if [ "$__n2i_dir" = ` + nixDriverDir + ` ] && [ -n "$__n2i_found" ]; then
        break # it leads to what has been found
    fi
    for __n2i_lib in` + patterns + `; do
        if [ -e "$__n2i_lib" ]; then
            __n2i_found="$__n2i_found:$__n2i_dir"
            break
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
unset ` + variables + "\n"
}
