#!/bin/bash
# Asks a real NVIDIA GPU whether what `nix2img gpu --for` says of it comes true.
#
# usage: testdata/gpu-check.sh
#
# On Linux with an NVIDIA GPU and its driver, Go, a C compiler and glibc; as root, or where users
# may have namespaces of their own.  No CUDA and no Nix: the driver itself compiles the code.
#
# It makes images of small programs with code for this GPU, with PTX, with PTX that is newer than
# the driver, and with code for another GPU; unpacks them, binds the host's driver where --nv binds
# it, evaluates the image's scripts as a runtime does, runs the programs, and compares.
#
# DRIVER_LIBS=DIR has the libraries taken from there, and NVIDIA_SMI=PROGRAM says what to ask:
# for tests of this script, with stand-ins.
set -euo pipefail
[ "$(id -u)" = 0 ] || exec unshare --map-root-user --mount "$0" "$@"
[ -n "${GPU_CHECK_NAMESPACE:-}" ] || GPU_CHECK_NAMESPACE=1 exec unshare --mount "$0" "$@"
cd "$(dirname "$0")/.."
mount --make-rprivate / 2>/dev/null || true

die() { echo "gpu-check: $*" >&2; exit 2; }
for tool in go cc ldd ldconfig unshare; do command -v "$tool" >/dev/null || die "needs $tool"; done
smi=${NVIDIA_SMI:-nvidia-smi}
command -v "$smi" >/dev/null || die "there is no $smi: is this a machine with an NVIDIA GPU?"
W=$(mktemp -d)
trap 'grep -o " $W[^ ]*" /proc/self/mounts | tac | xargs -r -n 1 umount -l; rm -rf "$W"' EXIT

go build -o "$W/nix2img" ./cmd/nix2img
CGO_ENABLED=0 go build -o "$W/gpucheck" ./internal/foreign/gpucheck
probe() { cc -O1 -DFATBIN="\"$1\"" -o "$2" internal/foreign/testdata/gpuprobe.c -Wl,--no-as-needed "${@:3}" -ldl -lm -lpthread -lrt; }

# The driver's libraries, as SONAME=FILE.
libraries() {
  if [ -n "${DRIVER_LIBS:-}" ]; then
    for f in "$DRIVER_LIBS"/*.so.*; do echo "$(basename "$f")=$f"; done
    return
  fi
  ldconfig -p | awk '/^\t(libcuda|libnvidia-[a-z0-9-]*|libnvcuvid|libnvoptix|libcudadebugger)\.so\.[0-9]+ \(libc6,(x86-64|AArch64)/ { print $1 "=" $NF }'
}
libraries >"$W/libraries"
grep -q '^libcuda\.so\.1=' "$W/libraries" || die "ldconfig knows no libcuda.so.1"

# What is here, and code for it.
echo 0 >"$W/nothing"
probe "$W/nothing" "$W/host"
export LD_LIBRARY_PATH=${DRIVER_LIBS:-${LD_LIBRARY_PATH:-}}
read -r sm gpu < <("$W/host" describe) || die "the driver does not work: $("$W/host" describe)"
driver=$("$smi" --query-gpu=driver_version --format=csv,noheader | head -n 1)
echo "GPU: $gpu (sm_$sm), driver $driver"
ptx() { # VERSION
  cat <<END
.version $1
.target sm_50
.address_size 64
.visible .entry answer(.param .u64 out)
{
  .reg .u64 %p;
  .reg .u32 %v;
  ld.param.u64 %p, [out];
  cvta.to.global.u64 %p, %p;
  mov.u32 %v, 42;
  st.global.u32 [%p], %v;
  ret;
}
END
}
ptx 6.0 >"$W/answer.ptx"
ptx 9.9 >"$W/later.ptx"
"$W/host" link "$W/answer.ptx" "$W/answer.cubin" || die "the driver cannot compile: $("$W/host" link "$W/answer.ptx" "$W/answer.cubin")"
unset LD_LIBRARY_PATH
other=90; [ "${sm%?}" != 9 ] || other=80 # of another major version

quietly() { "$@" >"$W/log" 2>&1 || { cat "$W/log" >&2; die "$1 failed"; }; }

# image NAME ENTRY...: an image of a program with these entries in its container, unpacked as $W/NAME
image() {
  local name=$1 path=/nix/store/0000000000000000000000000000000a-gpu-check-$1
  local dir=$W/store-$name$path
  shift
  "$W/gpucheck" fatbin "$W/$name.fatbin" "$@"
  mkdir -p "$dir/bin" "$dir/lib"
  ldd "$W/host" | grep -o '/[^ ]*' | while read -r lib; do cp -L "$lib" "$dir/lib/"; done
  probe "$W/$name.fatbin" "$dir/bin/probe" -Wl,--enable-new-dtags -Wl,-rpath,"$path/lib" \
    -Wl,--dynamic-linker="$path/lib/$(basename "$(ldd "$W/host" | awk '/ld-linux/ { print $1 }')")"
  "$W/gpucheck" path-info "$W/store-$name" >"$W/$name.json"
  quietly "$W/nix2img" build -q --sif --no-cache --nv yes -o "$W/$name.sif" --store "$W/store-$name" --closure "$W/$name.json" "$path"
  quietly "$W/nix2img" extract "$W/$name.sif" "$W/$name"
  chmod -R u+w "$W/$name"
  while IFS='=' read -r soname file; do
    : >"$W/$name/.singularity.d/libs/$soname"
    mount --bind "$file" "$W/$name/.singularity.d/libs/$soname"
  done <"$W/libraries"
  for d in dev proc sys; do mount --rbind "/$d" "$W/$name/$d"; done
}

bad=0
# check NAME ENTRY...: what is said of the image, and what happens
check() {
  local name=$1 said happened rc=0
  image "$@"
  "$W/nix2img" gpu -q --json --for "$gpu" --driver "$driver" "$W/$name.sif" >"$W/$name.verdict" 2>/dev/null || [ $? = 6 ]
  said=$(sed -n '/"verdict"/,$s/^ *"outcome": "\(.*\)",*$/\1/p' "$W/$name.verdict" | head -n 1)
  happened=$("$W/gpucheck" exec "$W/$name" -- /nix/store/0000000000000000000000000000000a-gpu-check-"$name"/bin/probe 2>&1) || rc=$?
  case $said/$rc in
    runs/0 | jit/0 | fails/1) verdict="as said" ;;
    unknown/[01]) verdict="not known before" ;;
    *) verdict="NOT as said"; bad=1 ;;
  esac
  printf '%-8s said: %-8s happened: %-40s %s\n' "$name" "$said" "$happened" "$verdict"
}
check native "cubin:$sm:0:$W/answer.cubin" "ptx:50:60:$W/answer.ptx"
check jit "ptx:50:60:$W/answer.ptx"
check later "ptx:50:99:$W/later.ptx"
check other "cubin:$other:0:$W/answer.cubin"
exit $bad
