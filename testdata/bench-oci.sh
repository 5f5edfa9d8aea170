#!/bin/bash
# Measures "nix2img build --oci" beside "build --squashfs" of the same closure with the same codec, in the same run.
#
# usage: testdata/bench-oci.sh [KEY [CHANGED]]     (default: LARGE; MEDIUM MEDIUM2 for a change)
#
# KEY and CHANGED name roots of closures.env, which testdata/closures/make-closures.sh writes.
# Prints a line for each command: wall seconds, CPU seconds, peak memory and output in MB (10^6 bytes).
# The last lines are builds with a cache: of KEY, again, and of CHANGED.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures} LC_ALL=C.UTF-8
apt_install gawk gcc libc6-dev nix-bin time
# shellcheck source=/dev/null
. "$CLOSURES_DIR/closures.env"
key=${1:-LARGE} changed=${2:-}

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
go build -o "$scratch/nix2img" ./cmd/nix2img
mapfile -t paths < <(nix-store -qR "${!key}")
find "${paths[@]}" -type f -exec cat {} + >/dev/null

# measure TITLE ARG...: build with the given arguments; the output is $scratch/image.
measure() {
  local title=$1
  shift
  /usr/bin/time -o "$scratch/times" -f '%e %U %S %M' "$scratch/nix2img" build -q "$@" >/dev/null 2>"$scratch/log" ||
    { tail -n 20 "$scratch/log" >&2; exit 1; }
  awk -v title="$title" -v size="$(du -sb "$scratch/image" | cut -f1)" \
    '{ printf "%-34s %8.1f %8.1f %8.0f %8.1f\n", title, $1, $2 + $3, $4 * 1.024 / 1000, size / 1e6 }' "$scratch/times"
}

printf '%-34s %8s %8s %8s %8s\n' "$key" 'wall s' 'CPU s' 'peak MB' 'MB'
for codec in zstd:3 gzip; do
  measure "--squashfs, $codec" --no-cache --compression "$codec" --squashfs -o "$scratch/image" "${!key}"
  rm -rf "$scratch/image"
  measure "--oci, $codec" --no-cache --compression "$codec" --oci "$scratch/image" "${!key}"
  rm -rf "$scratch/image"
done
cached=(--cache "$scratch/cache" --compression zstd:3 --oci "$scratch/image")
measure '--oci, zstd:3, cold cache' "${cached[@]}" "${!key}"
measure '  again' "${cached[@]}" "${!key}"
[ -z "$changed" ] || measure "  $changed" "${cached[@]}" "${!changed}"
