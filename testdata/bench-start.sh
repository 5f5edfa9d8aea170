#!/bin/bash
# Measures how compression decides the time that a program takes to start from an image.
#
# usage: testdata/bench-start.sh [-n RUNS] [COMPRESSION/BLOCK-SIZE...]
#
# Builds images of the closure `medium`, mounts them by the kernel and by squashfuse, and starts
# Python there with large modules: cold, after the page cache has been dropped, and again.
# Prints the medians in seconds.  As root.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures} LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. "$CLOSURES_DIR/closures.env"
apt_install fuse3 gcc libc6-dev squashfuse time

runs=3
while getopts n: opt; do
  case $opt in
    n) runs=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- gzip/128K gzip/256K zstd:3/128K zstd:3/256K zstd:3/1M lz4/128K

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-start.XXXXXX")
unmount() { umount -R "$scratch/root" 2>/dev/null || true; }
trap 'unmount; rm -rf "$scratch"' EXIT
mkdir "$scratch/root"
go build -o "$scratch/nix2img" ./cmd/nix2img

# start [drop]: seconds that Python takes in the mounted image.
start() {
  [ -z "${1:-}" ] || { sync; echo 3 >/proc/sys/vm/drop_caches; }
  /usr/bin/time -o "$scratch/time" -f %e chroot "$scratch/root" \
    "$MEDIUM/bin/python" -c 'import torch, scipy.linalg, torchvision'
  cat "$scratch/time"
}

median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }

printf '%-14s %8s %8s %12s %12s %12s\n' image 'build s' MB 'kernel cold' 'kernel warm' 'fuse cold'
for spec; do
  image=$scratch/image
  /usr/bin/time -o "$scratch/build" -f %e "$scratch/nix2img" build -q --no-cache --squashfs \
    --compression "${spec%/*}" --block-size "${spec#*/}" -o "$image" "$MEDIUM" >/dev/null
  for how in kernel fuse; do
    : >"$scratch/$how.cold" >"$scratch/$how.warm"
    for ((i = 0; i < runs; i++)); do
      case $how in
        kernel) mount -t squashfs -o loop,ro "$image" "$scratch/root" ;;
        fuse) squashfuse -o allow_other "$image" "$scratch/root" ;;
      esac
      mount --bind /proc "$scratch/root/proc"
      mount --bind /dev "$scratch/root/dev"
      start drop >>"$scratch/$how.cold"
      start >>"$scratch/$how.warm"
      unmount
    done
  done
  printf '%-14s %8.1f %8.0f %12.1f %12.1f %12.1f\n' "$spec" "$(cat "$scratch/build")" \
    "$(($(stat -c %s "$image") / 1000000))" "$(median <"$scratch/kernel.cold")" \
    "$(median <"$scratch/kernel.warm")" "$(median <"$scratch/fuse.cold")"
done
