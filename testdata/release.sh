#!/bin/bash
# Makes the files of a release, the same bytes for the same commit wherever it runs.
#
# usage: testdata/release.sh VERSION [DIR]        (default: dist in the checkout)
#
# On Debian 12 (amd64) with Go, as root; missing Debian packages are installed with apt, those for
# arm64 as a foreign architecture.  What it makes:
#
#   nix2img-VERSION-PLATFORM.tar.gz   the command with man pages, completions, LICENSE and NOTICE:
#                                     static for linux-amd64 and linux-arm64 (musl, with libzstd);
#                                     darwin-amd64 and darwin-arm64 (without cgo, so without "zstd")
#   nix2img_VERSION_ARCH.deb, nix2img-VERSION.ARCH.rpm
#   nix2img-VERSION-oci.tar           a container image of the command, made by itself, for both
#   nix2img-VERSION.cdx.json          bill of materials, CycloneDX
#   SHA256SUMS
#
# PLATFORMS: which of them to make (default: "linux/amd64 linux/arm64 darwin/amd64 darwin/arm64")
set -euo pipefail

die() {
  echo "release.sh: $*" >&2
  exit 1
}

usage() { sed -n '4s/^# //p' "$0" >&2; exit 2; }

cd "$(dirname "$0")/.."
(($# == 1 || $# == 2)) || usage
version=$1
dist=$(realpath -m -- "${2:-dist}")
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}
grep -q "^const Version = \"$version\"\$" image/record.go || die "image.Version is not $version"
[ -z "$(git status --porcelain)" ] || die "there are changes that are not committed"
. testdata/apt.sh

export LC_ALL=C TZ=UTC GOFLAGS=-trimpath SOURCE_DATE_EPOCH
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) # of everything that has a time
umask 022
scratch=$(mktemp -d)
trap 'chmod -R u+w "$scratch"; rm -rf "$scratch"' EXIT

install_tools() {
  apt_install ca-certificates gcc libc6-dev musl-tools nix-bin python3
  case $platforms in
    *linux/arm64*)
      dpkg --print-foreign-architectures | grep -qx arm64 || dpkg --add-architecture arm64
      apt_install gcc-aarch64-linux-gnu musl-dev:arm64
      ;;
  esac
  GOBIN=$scratch/bin go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
  GOBIN=$scratch/bin go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
  PATH=$scratch/bin:$PATH
}

# compiler ARCH: the C compiler that makes static programs of musl.
compiler() {
  local cpu=x86_64
  [ "$1" = amd64 ] || cpu=aarch64
  printf '#!/bin/sh\nexec %s-linux-gnu-gcc "$@" -specs /usr/lib/%s-linux-musl/musl-gcc.specs\n' "$cpu" "$cpu" >"$scratch/cc-$1"
  chmod 755 "$scratch/cc-$1"
  echo "$scratch/cc-$1"
}

# binary OS ARCH FILE
binary() {
  local ldflags="-s -w -buildid="
  export GOOS=$1 GOARCH=$2 CGO_ENABLED=0 CGO_CFLAGS="-O2 -g0" CC=cc
  if [ "$1" = linux ]; then
    CGO_ENABLED=1
    CC=$(compiler "$2")
    ldflags+=" -linkmode=external -extldflags=-static"
  fi
  go build -buildvcs=false -tags netgo,osusergo -ldflags "$ldflags" -o "$3" ./cmd/nix2img
  unset GOOS GOARCH CGO_ENABLED CGO_CFLAGS CC
}

# pack DIR FILE: an archive of a folder that says nothing of who made it, and when.
pack() {
  tar -C "${1%/*}" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -cf - "${1##*/}" |
    gzip -9n >"$2"
}

# documents DIR: what goes with every binary.
documents() {
  mkdir -p "$1/man" "$1/completions"
  cp LICENSE NOTICE README.md "$1"
  cp docs/man/*.1 "$1/man"
  local shell
  for shell in bash fish zsh; do
    "$native" completion "$shell" >"$1/completions/nix2img.$shell"
  done
  # musl is part of the static programs.
  printf '\n%s\nmusl: COPYRIGHT\n\n' "----------------------------------------------------------------------------------------------------" >>"$1/NOTICE"
  cat /usr/share/doc/musl-dev/copyright >>"$1/NOTICE"
}

# package ARCH BINARY: .deb and .rpm
package() {
  local dir=$scratch/package-$1 page format
  mkdir -p "$dir"
  for page in docs/man/*.1; do
    gzip -9nc "$page" >"$dir/${page##*/}.gz"
  done
  find "$dir" "$2" "$share" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  cat >"$dir/nfpm.yaml" <<END
name: nix2img
arch: $1
platform: linux
version: $version
release: 1
section: utils
maintainer: The nix2img authors <nix2img@users.noreply.github.com>
description: Turns Nix closures into SIF, squashfs and OCI images for GPU clusters.
homepage: https://github.com/nix2img/nix2img
license: Apache-2.0
mtime: $(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
rpm: {buildhost: localhost}
contents:
  - {src: $2, dst: /usr/bin/nix2img, file_info: {mode: 0755}}
  - {src: $dir/*.gz, dst: /usr/share/man/man1/}
  - {src: $share/completions/nix2img.bash, dst: /usr/share/bash-completion/completions/nix2img}
  - {src: $share/completions/nix2img.fish, dst: /usr/share/fish/vendor_completions.d/nix2img.fish}
  - {src: $share/completions/nix2img.zsh, dst: /usr/share/zsh/vendor-completions/_nix2img}
  - {src: $share/NOTICE, dst: /usr/share/doc/nix2img/NOTICE}
  - {src: LICENSE, dst: /usr/share/doc/nix2img/copyright}
END
  for format in deb rpm; do
    nfpm package -f "$dir/nfpm.yaml" -p "$format" -t "$dist/" >&2
  done
}

# container BINARY ARCH: adds the image of the command to a layout.
container() {
  local tree=$scratch/tool-$2/nix2img-$version path
  mkdir -p "$tree/bin"
  cp "$1" "$tree/bin/nix2img"
  path=$(NIX_CONF_DIR=$scratch nix-store --option build-users-group "" --store "$scratch/store" --add "$tree")
  "$native" build -q --no-cache --store "$scratch/store" --oci "$scratch/layout" --tag "$version" \
    --entrypoint nix2img --label "org.opencontainers.image.source=https://github.com/nix2img/nix2img" \
    --label "org.opencontainers.image.version=$version" --created "$SOURCE_DATE_EPOCH" --arch "$2" "$path" >&2
}

install_tools
rm -rf "$dist"
mkdir -p "$dist"
native=$scratch/native
CGO_ENABLED=0 go build -buildvcs=false -o "$native" ./cmd/nix2img
share=$scratch/share
documents "$share"
for platform in $platforms; do
  os=${platform%/*} arch=${platform#*/}
  name=nix2img-$version-$os-$arch
  mkdir "$scratch/$name"
  cp -r "$share/." "$scratch/$name"
  binary "$os" "$arch" "$scratch/$name/nix2img"
  pack "$scratch/$name" "$dist/$name.tar.gz"
  if [ "$os" = linux ]; then
    package "$arch" "$scratch/$name/nix2img"
    container "$scratch/$name/nix2img" "$arch"
  fi
done
if [ -d "$scratch/layout" ]; then
  tar -C "$scratch/layout" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode=go=rX,u+rw \
    -cf "$dist/nix2img-$version-oci.tar" .
fi
# Of the program that was built last, without what says when and by which program the list was made.
cyclonedx-gomod bin -json -noserial -version "v$version" "$scratch/$name/nix2img" |
  python3 -c 'import json, sys; bom = json.load(sys.stdin); [bom["metadata"].pop(k) for k in ("timestamp", "tools")]; json.dump(bom, sys.stdout, indent=2)' \
    >"$dist/nix2img-$version.cdx.json"
cd "$dist"
sha256sum -- * >"$scratch/SHA256SUMS"
mv "$scratch/SHA256SUMS" .
cat SHA256SUMS
