#!/bin/bash
# Measures builds from binary caches on loopback beside the build from the store.
#
# usage: testdata/bench-cache.sh [-n RUNS] [KEY]      (default: 1 run, of MEDIUM)
#
# KEY names a root of closures.env, which testdata/closures/make-closures.sh writes.  The caches are
# made by nix copy, with zstd and with xz at its default level, which takes a while; with
# BENCH_CACHES=DIR they are kept there, and used by the next run.
# Prints a line for each command: wall seconds, CPU seconds and peak memory in MB; the last two lines
# are what a build from xz cannot save.  Commands take turns, so that all see the same machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures} LC_ALL=C.UTF-8
# shellcheck source=/dev/null
. "$CLOSURES_DIR/closures.env"
apt_install gawk gcc libc6-dev nix-bin time

runs=1
while getopts n: opt; do
  case $opt in
    n) runs=$OPTARG ;;
    *) exit 2 ;;
  esac
done
shift $((OPTIND - 1))
key=${1:-MEDIUM}
root=${!key}

scratch=$(mktemp -d "${BENCH_DIR:-/var/tmp}/nix2img-bench.XXXXXX")
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$scratch"' EXIT
cat >"$scratch/serve.go" <<'GO'
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	panic(http.Serve(l, http.FileServer(http.Dir(os.Args[1]))))
}
GO
cat >"$scratch/unxz.go" <<'GO'
package main

import (
	"bufio"
	"io"
	"os"

	"github.com/mikelolasagasti/xz"
)

func main() {
	for _, name := range os.Args[1:] {
		f, err := os.Open(name)
		if err != nil {
			panic(err)
		}
		r, err := xz.NewReader(bufio.NewReader(f), 0)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			panic(err)
		}
		f.Close()
	}
}
GO
go build -o "$scratch/nix2img" ./cmd/nix2img
go build -o "$scratch/floor" ./internal/floor
go build -o "$scratch/serve" "$scratch/serve.go"
go build -o "$scratch/unxz" "$scratch/unxz.go"

caches=${BENCH_CACHES:-$scratch/caches}
mkdir -p "$caches"
[ -e "$caches/secret" ] || nix-store --generate-binary-cache-key bench-1 "$caches/secret" "$caches/public"
for codec in zstd xz; do
  nix copy --to "file://$caches/$codec?compression=$codec&secret-key=$caches/secret" "$root" 2>/dev/null
done
"$scratch/serve" "$caches" >"$scratch/address" &
server=$!
while ! [ -s "$scratch/address" ]; do sleep 0.1; done
url=http://$(cat "$scratch/address")
mapfile -t paths < <(nix-store -qR "$root")
find "${paths[@]}" -type f -exec cat {} + >/dev/null

build=("$scratch/nix2img" build -q --squashfs --no-cache --compression zstd:3 -o "$scratch/image")
keys=(--trusted-public-keys "$(cat "$caches/public")")
mapfile -t nars < <(
  for path in "${paths[@]}"; do
    name=${path##*/}
    sed -n "s|^URL: |$caches/xz/|p" "$caches/xz/${name%%-*}.narinfo"
  done
)
titles=(store 'cache, zstd' 'cache, xz' 'codec and SHA-256 alone' 'unpacking xz alone')
for ((i = 0; i < runs; i++)); do
  for ((k = 0; k < ${#titles[@]}; k++)); do
    # A processor is faster when it has had little to do before.
    title=${titles[$((i % 2 ? ${#titles[@]} - 1 - k : k))]}
    case $title in
      store) run=("${build[@]}" "$root") ;;
      *zstd) run=("${build[@]}" --from "$url/zstd" "${keys[@]}" "$root") ;;
      'cache, xz') run=("${build[@]}" --from "$url/xz" "${keys[@]}" "$root") ;;
      codec*) run=(chrt -b 0 "$scratch/floor" -compression zstd:3 "${paths[@]}") ;;
      unpacking*) run=(chrt -b 0 "$scratch/unxz" "${nars[@]}") ;;
    esac
    /usr/bin/time -a -o "$scratch/times.$title" -f '%e %U %S %M' "${run[@]}" >"$scratch/log" 2>&1 ||
      { tail -n 20 "$scratch/log" >&2; exit 1; }
    case $title in *cache* | store) sha256sum <"$scratch/image" >>"$scratch/sums" ;; esac
  done
done
[ "$(sort -u "$scratch/sums" | wc -l)" = 1 ] || { echo "the images differ" >&2; exit 1; }

sed -n 's/^model name\s*: //p' /proc/cpuinfo | sed -n 1p
echo "$(nproc) cores, $(uname -sr), $(go version | cut -d' ' -f3), $("$scratch/nix2img" version | head -n 1)"
printf '%s: %s paths\n%-26s %8s %8s %8s\n' "$key" "${#paths[@]}" '' 'wall s' 'CPU s' 'peak MB'
for title in "${titles[@]}"; do
  awk -v title="$title" '
    { wall[NR] = $1; cpu[NR] = $2 + $3; if ($4 > peak) peak = $4 }
    function median(a) { asort(a); return a[int((NR + 1) / 2)] }
    END { printf "%-26s %8.1f %8.1f %8.0f\n", title, median(wall), median(cpu), peak * 1.024 / 1000 }' "$scratch/times.$title"
done
