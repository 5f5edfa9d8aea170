#!/bin/bash
# Measures nix2img beside mksquashfs on the same files, in the same run.
#
# usage: testdata/bench.sh [-n RUNS] [-q] [KEY...]      (default: 1 run, of LARGE)
#
# With several runs, the medians are printed.  -q leaves out what takes minutes.
# NEW_MKSQUASHFS=PATH measures another mksquashfs as well.
# KEY names a root of closures.env, which testdata/closures/make-closures.sh writes, or is SYNTHETIC:
# a tree shaped like a closure, which is made on the spot and needs no Nix.  Prints a line for each
# command: wall seconds, CPU seconds, peak memory and image size in MB (10^6 bytes).
# Files are read once before, so that all of them find them in the page cache.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures} LC_ALL=C.UTF-8
apt_install gawk gcc libc6-dev nix-bin squashfs-tools squashfs-tools-ng time

runs=1 slow=1
while getopts n:q opt; do
  case $opt in
    n) runs=$OPTARG ;;
    q) slow= ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
# shellcheck source=/dev/null
[ "$*" = SYNTHETIC ] || . "$CLOSURES_DIR/closures.env"

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/nix2img" ./cmd/nix2img
go build -o "$scratch/floor" ./internal/floor
image=$scratch/image

# measure TITLE COMMAND...: the median of each column over all runs.
# $before is run before each.
before=
measure() {
  local title=$1 i
  shift
  : >"$scratch/times"
  for ((i = 0; i < runs; i++)); do
    rm -f "$image"
    eval "$before"
    /usr/bin/time -a -o "$scratch/times" -f '%e %U %S %M' "$@" >"$scratch/log" 2>&1 ||
      { tail -n 20 "$scratch/log" >&2; exit 1; }
  done
  awk -v title="$title" -v size="$(stat -c %s "$image")" -v all="$bytes" '
    { wall[NR] = $1; cpu[NR] = $2 + $3; if ($4 > peak) peak = $4 }
    function median(a) { asort(a); return a[int((NR + 1) / 2)] }
    END {
      w = median(wall)
      printf "%-34s %8.1f %8.1f %8.0f %8.1f %8.0f\n",
        title, w, median(cpu), peak * 1.024 / 1000, size / 1e6, all / w / 1e6 }' "$scratch/times"
}

sed -n 's/^model name\s*: //p' /proc/cpuinfo | sed -n 1p
echo "$(nproc) cores, $(uname -sr), $(go version | cut -d' ' -f3), $("$scratch/nix2img" version | head -n 1)"
mksquashfs -version | sed -n 1p || true
for key in "${@:-LARGE}"; do
  if [ "$key" = SYNTHETIC ]; then
    go run ./internal/synth -bytes 1000000000 "$scratch/synthetic"
    paths=("$scratch"/synthetic/nix/store/*)
    root=(--arch amd64 --store "$scratch/synthetic" --closure "$scratch/synthetic/registration")
  else
    root=("${!key}")
    mapfile -t paths < <(nix-store -qR "${root[0]}")
  fi
  bytes=$(find "${paths[@]}" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
  find "${paths[@]}" -type f -exec cat {} + >/dev/null
  echo
  echo "$key: ${#paths[@]} paths, $((bytes / 1000000)) MB"
  printf '%-34s %8s %8s %8s %8s %8s\n' command 'wall s' 'CPU s' 'peak MB' 'image MB' 'MB/s'
  n=("$scratch/nix2img" build -q -o "$image")
  m=(mksquashfs "${paths[@]}" "$image" -quiet -no-progress -all-root -no-xattrs)
  zstd=(--squashfs --compression zstd:3 --block-size 256K)
  measure 'nix2img --sif' "${n[@]}" --no-cache --sif "${root[@]}"
  before=': >"$image"'
  measure '  codec and SHA-256 alone' chrt -b 0 "$scratch/floor" "${paths[@]}"
  before=
  [ -z "$slow" ] || measure 'mksquashfs' "${m[@]}"
  measure 'mksquashfs zstd 3, 256K' "${m[@]}" -comp zstd -Xcompression-level 3 -b 256K
  [ -z "${NEW_MKSQUASHFS:-}" ] ||
    measure 'newer mksquashfs zstd 3, 256K' "$NEW_MKSQUASHFS" "${m[@]:1}" -comp zstd -Xcompression-level 3 -b 256K
  # gensquashfs cannot take several trees, but its sister can.
  measure 'tar2sqfs zstd 3, 256K' sh -c \
    'image=$0; tar -c "$@" | tar2sqfs -q -c zstd -X level=3 -b 262144 "$image"' "$image" "${paths[@]}"
  measure 'nix2img zstd:3, 256K' "${n[@]}" --no-cache "${zstd[@]}" "${root[@]}"
  for ((j = 1; j < $(nproc); j *= 2)); do
    measure "  -j $j" "${n[@]}" --no-cache -j "$j" "${zstd[@]}" "${root[@]}"
  done
  before=': >"$image"'
  measure '  codec and SHA-256 alone' chrt -b 0 "$scratch/floor" -compression zstd:3 -block-size 262144 "${paths[@]}"
  before='rm -rf "$scratch/cache"'
  measure '  into a new cache' "${n[@]}" --cache "$scratch/cache" "${zstd[@]}" "${root[@]}"
  before=
  measure '  out of the cache' "${n[@]}" --cache "$scratch/cache" "${zstd[@]}" "${root[@]}"
  cp "$image" "$scratch/finished"
  measure '  cp of the image, and sync of it' sh -c 'cp "$0" "$1" && sync "$1"' "$scratch/finished" "$image"
  rm -rf "$scratch/cache" "$scratch/finished"
  measure 'nix2img zstd-go, 256K' "${n[@]}" --no-cache --squashfs --compression zstd-go --block-size 256K "${root[@]}"
  measure 'nix2img lz4' "${n[@]}" --no-cache --squashfs --compression lz4 "${root[@]}"
  measure 'mksquashfs lz4' "${m[@]}" -comp lz4
  measure 'nix2img none' "${n[@]}" --no-cache --squashfs --compression none "${root[@]}"
done
