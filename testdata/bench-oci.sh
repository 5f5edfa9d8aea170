#!/bin/bash
# Measures "nix2img build --oci" beside "build --squashfs" of the same closure with the same codec, in the same run.
#
# usage: testdata/bench-oci.sh [-n RUNS] [KEY [CHANGED]]      (default: 1 run, of LARGE)
#
# With several runs, the medians are printed.
# KEY and CHANGED name roots of closures.env, which testdata/closures/make-closures.sh writes.
# CHANGED is what KEY has become, such as MEDIUM2 of MEDIUM: it is built into the cache and the layout of KEY.
# Prints a line for each command: wall seconds, CPU seconds, peak memory, output in MB (10^6 bytes),
# and how much of it was written.  "No GPU" leaves out what looks for GPU code, which reads the files once more.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures} LC_ALL=C.UTF-8
apt_install gawk gcc jq libc6-dev nix-bin time

runs=1
while getopts n: opt; do
  case $opt in
    n) runs=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
# shellcheck source=/dev/null
. "$CLOSURES_DIR/closures.env"
key=${1:-LARGE} changed=${2:-}

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/nix2img" ./cmd/nix2img
mapfile -t paths < <(nix-store -qR "${!key}")
find "${paths[@]}" -type f -exec cat {} + >/dev/null

# measure TITLE ARG...: the median of each column over all builds with the given arguments.
# The output is $scratch/image.  $before is run before each.
before=
measure() {
  local title=$1 i
  shift
  : >"$scratch/times"
  for ((i = 0; i < runs; i++)); do
    eval "$before"
    /usr/bin/time -a -o "$scratch/times" -f '%e %U %S %M' "$scratch/nix2img" build -q --json "$@" \
      >"$scratch/result" 2>"$scratch/log" || { tail -n 20 "$scratch/log" >&2; exit 1; }
  done
  awk -v title="$title" -v size="$(jq .size "$scratch/result")" -v written="$(jq '.written // .size' "$scratch/result")" '
    { wall[NR] = $1; cpu[NR] = $2 + $3; if ($4 > peak) peak = $4 }
    function median(a) { asort(a); return a[int((NR + 1) / 2)] }
    END {
      printf "%-34s %8.2f %8.2f %8.0f %8.1f %8.1f\n",
        title, median(wall), median(cpu), peak * 1.024 / 1000, size / 1e6, written / 1e6 }' "$scratch/times"
}

sed -n 's/^model name\s*: //p' /proc/cpuinfo | sed -n 1p
echo "$(nproc) cores, $(uname -sr), $(go version | cut -d' ' -f3), $("$scratch/nix2img" version | head -n 1)"
printf '%-34s %8s %8s %8s %8s %8s\n' "$key" 'wall s' 'CPU s' 'peak MB' 'MB' 'written'
before='rm -rf "$scratch/image"'
# pair TITLE FLAG...: both kinds of image with the same flags.
pair() {
  local title=$1
  shift
  measure "--squashfs, $title" --no-cache "$@" --squashfs -o "$scratch/image" "${!key}"
  measure "--oci, $title" --no-cache "$@" --oci "$scratch/image" "${!key}"
}
pair zstd:3 --compression zstd:3
pair 'zstd:3, no GPU' --compression zstd:3 --nv no --rocm no
pair gzip:6 --compression gzip:6
args=(--cache "$scratch/cache" --compression zstd:3 --oci "$scratch/image")
before='rm -rf "$scratch/image" "$scratch/cache"'
measure '--oci, zstd:3, into a new cache' "${args[@]}" "${!key}"
before='rm -rf "$scratch/image"'
measure '  out of the cache' "${args[@]}" "${!key}"
before=
measure '  again, into the same layout' "${args[@]}" "${!key}"
if [ -n "$changed" ]; then
  cp -r "$scratch/cache" "$scratch/kept"
  cp -r "$scratch/image" "$scratch/layout"
  before='rm -rf "$scratch/image" "$scratch/cache"; cp -r "$scratch/kept" "$scratch/cache"; cp -r "$scratch/layout" "$scratch/image"; sync'
  measure "  $changed, into the same layout" "${args[@]}" "${!changed}"
fi
