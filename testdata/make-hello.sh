#!/bin/bash
# Makes hello.export, the closure that ships with nix2img, with Nix from the sources in hello/.
#
# usage: make-hello.sh [OUTPUT]       (default: hello.export beside this script)
#
# On Debian 12 (amd64), as root; missing tools are installed with apt.  The closure is built twice
# in a store of its own below a temporary directory: /nix/store is neither needed nor touched.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
output=$(realpath -m -- "${1:-$here/hello.export}")
. "$here/apt.sh"

apt_install gcc libc6-dev musl-tools nix-bin

work=$(mktemp -d)
trap 'chmod -R u+w "$work" && rm -rf "$work"' EXIT
mkdir "$work/etc"
cat >"$work/etc/nix.conf" <<'END'
build-users-group =
sandbox = true
sandbox-paths = /bin /etc/alternatives /lib /lib64 /usr
substituters =
experimental-features = nix-command
END
export NIX_CONF_DIR=$work/etc XDG_CACHE_HOME=$work/cache LC_ALL=C.UTF-8
unset NIX_PATH NIX_REMOTE NIX_CONFIG NIX_USER_CONF_FILES

# make NAME: build the closure in the store NAME and export it from there.
make() {
  local store=(--store "$work/$1") hello paths
  hello=$(nix-build -Q "${store[@]}" "$here/hello/hello.nix" --no-out-link \
    --argstr muslLib /lib/x86_64-linux-musl/libc.so \
    --argstr muslCopyright /usr/share/doc/musl/copyright)
  mapfile -t paths < <(nix-store "${store[@]}" -qR "$hello")
  nix-store "${store[@]}" --export "${paths[@]}" >"$work/$1.export"
  echo "$hello: ${#paths[@]} paths"
}
make first
make second
cmp "$work/first.export" "$work/second.export"

size=$(stat -c %s "$work/first.export")
if ((size > 2000000)); then
  echo "make-hello.sh: $size bytes are too much: at most 2,000,000" >&2
  exit 1
fi
mv "$work/first.export" "$output"
echo "$output: $size bytes"
