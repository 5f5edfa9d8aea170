#!/bin/bash
# Measures how builds grow faster, and larger in memory, with the number of workers.
#
# usage: testdata/bench-scale.sh [-n RUNS] [-b BYTES] [CODEC...]     (default: 3 runs, 4e9, zstd:3 gzip)
#
# Needs Go, a C compiler for zstd, and no Nix: the closure is synthetic (internal/synth).  Prints a
# Markdown table for docs/benchmarks.md: medians of wall seconds, speed against one worker, CPU
# seconds and the largest peak of memory, for 1, 2, 4 ... workers up to the number of cores; beside
# mksquashfs with as many processors, if it is there.  All images of a codec must have the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

runs=3 size=4e9
while getopts n:b: opt; do
  case $opt in
    n) runs=$OPTARG ;;
    b) size=$OPTARG ;;
    *) sed -n '4s/^# //p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
(($#)) || set -- zstd:3 gzip
size=$(printf '%.0f' "$size")

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-scale.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/nix2img" ./cmd/nix2img
go build -o "$scratch/rusage" ./internal/floor/rusage
go run ./internal/synth -bytes "$size" "$scratch/store"
find "$scratch/store" -type f -exec cat {} + >/dev/null # into the page cache

# measure COMMAND...: sets wall and cpu to the medians of all runs, in seconds, and peak to the largest, in MB.
measure() {
  local i
  : >"$scratch/times"
  for ((i = 0; i < runs; i++)); do
    rm -f "$scratch/image"
    "$scratch/rusage" "$@" 2>>"$scratch/times" || { cat "$scratch/times" >&2; exit 1; }
  done
  read -r wall cpu peak < <(sort -n "$scratch/times" | awk '{ w[NR] = $1; c[NR] = $2; if ($3 > p) p = $3 }
    END { print w[int((NR + 1) / 2)], c[int((NR + 1) / 2)], p }')
}

row() { awk -v c="$1" -v w="$wall" -v one="$2" -v cpu="$cpu" -v peak="$peak" -v bytes="$size" \
  'BEGIN { printf "| %s | %.1f | %.1f x | %.1f | %.0f | %.0f |\n", c, w, one / w, cpu, peak, bytes / w / 1e6 }'; }

sed -n 's/^model name\s*: //p' /proc/cpuinfo | sed -n 1p
echo "$(nproc) cores, $(uname -sr), $(go version | cut -d' ' -f3), $("$scratch/nix2img" version | head -n 1)"
printf '\n| command | wall s | speed | CPU s | peak MB | MB/s |\n|---|---:|---:|---:|---:|---:|\n'
for codec; do
  digest= one=
  for ((workers = 1; workers <= $(nproc); workers *= 2)); do
    measure "$scratch/nix2img" build -q --no-cache --squashfs --arch amd64 --nv no --rocm no -j "$workers" --compression "$codec" \
      -o "$scratch/image" --store "$scratch/store" --closure "$scratch/store/registration"
    one=${one:-$wall}
    row "\`nix2img\`, $codec, $workers" "$one"
    now=$(sha256sum <"$scratch/image")
    [ "${digest:=$now}" = "$now" ] || { echo "bench-scale.sh: other bytes with $workers workers" >&2; exit 1; }
  done
  case $codec in
    zstd:*) comp=(-comp zstd -Xcompression-level "${codec#*:}" -b 256K) ;;
    gzip*) comp=(-comp gzip -b 128K) ;;
    *) continue ;;
  esac
  command -v mksquashfs >/dev/null || continue
  one=
  for ((workers = 1; workers <= $(nproc); workers *= 2)); do
    measure mksquashfs "$scratch/store/nix" "$scratch/image" "${comp[@]}" -processors "$workers" -no-progress -quiet
    one=${one:-$wall}
    row "\`mksquashfs\`, $codec, $workers" "$one"
  done
done
