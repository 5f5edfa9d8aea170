#!/bin/bash
# Every check of the project.  A tool that is missing is an error.  Only the look for known
# vulnerabilities is skipped, and says so, where its database cannot be reached.
#
# usage: testdata/test.sh [acceptance | fuzz]
#
# On Debian 12 (amd64) with Go, as root, in a machine or container that may mount.  Debian
# packages that are missing are installed with apt; real closures are built by Nix into /nix/store
# and $CLOSURES_DIR (.closures in the checkout).  "acceptance" adds the closures `medium` and
# `large` (3.2 GB), files and images of more than 4 GiB, Docker, and a Slurm: it wants 40 GB of disk.
# "fuzz" runs every fuzz target for $FUZZTIME (10m), and nothing else; their seeds are part of all other runs.
#
# Only want to know whether the Go code works?  `go test ./...` needs nothing but Go.
set -euo pipefail
cd "$(dirname "$0")/.."
. testdata/apt.sh
export LC_ALL=C.UTF-8 CLOSURES_DIR=${CLOSURES_DIR:-$PWD/.closures}

closures=(tiny small mpi)
tags=foreign packages=()
case $* in
  "" | fuzz) ;;
  acceptance) closures+=(medium large) tags+=,acceptance packages=(docker.io libpmix2 mpich openmpi-bin rsync slurm-wlm slurm-wlm-basic-plugins) ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

die() {
  echo "test.sh: $*" >&2
  exit 1
}

# step TITLE COMMAND...: run the command and say how long it took.
step() {
  local title=$1 start=$SECONDS
  shift
  echo "== $title" >&2
  "$@"
  echo "== $title: $((SECONDS - start)) s" >&2
}

install_tools() {
  # gcc: cgo, for libzstd and the race detector.  nix-bin: the judge of stores and databases.
  # The rest read the images that are written, write those that are read, or keep them: docker-registry.
  apt_install ca-certificates containerd docker-registry fuse3 gcc libc6-dev man-db musl-tools nix-bin podman python3 qemu-user runc skopeo \
    squashfs-tools squashfs-tools-ng squashfuse strace umoci util-linux xfsprogs zstd "${packages[@]}"
  GOBIN=$tools go install honnef.co/go/tools/cmd/staticcheck@v0.8.2
  GOBIN=$tools go install golang.org/x/vuln/cmd/govulncheck@v1.9.0
  GOBIN=$tools go install github.com/sylabs/sif/v2/cmd/siftool@v2.24.2
}

# The kernel is the judge that matters most: say at once if it cannot be asked.
may_mount() {
  mkdir -p "$scratch/mount/tree" "$scratch/mount/point"
  mksquashfs "$scratch/mount/tree" "$scratch/mount/image" -quiet -no-progress
  mount -t squashfs -o loop,ro "$scratch/mount/image" "$scratch/mount/point" ||
    die "cannot mount a squashfs here: it takes root and loop devices (docker run --privileged)"
  umount "$scratch/mount/point"
}

static_checks() {
  local unformatted
  unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
  [ -z "$unformatted" ] || die "gofmt would change: $unformatted"
  go vet ./...
  go vet -tags foreign,acceptance ./...
  "$tools/staticcheck" -tags foreign,acceptance ./...
  CGO_ENABLED=0 go build ./...
}

# The one check that may be skipped: what is known of vulnerabilities lies elsewhere, and not every machine may ask.
known_vulnerabilities() {
  local log=$scratch/govulncheck.log
  if "$tools/govulncheck" ./... >"$log" 2>&1; then
    return
  fi
  cat "$log" >&2
  grep -q '^govulncheck: fetching vulnerabilities: ' "$log" || die "govulncheck has found something, or failed"
  echo "SKIPPED: known vulnerabilities: govulncheck cannot reach its database" >&2
}

# Packages that start goroutines.  -short: some tables of tests, all of which have been run before, by halves.
race() {
  local packages
  mapfile -t packages < <(grep -rlE --include='*.go' '^\s*go func|sync\.|par\.' . | xargs -n 1 dirname | sort -u)
  go test -race -short -timeout 30m "${packages[@]}"
}

fuzz() {
  local package target
  # `go test -list` names the targets, then their package: "ok  	PACKAGE	0.01s"
  go test -list '^Fuzz' ./... | awk '
    /^Fuzz/ { targets = targets " " $1 }
    /^ok/ { n = split(targets, t, " "); for (i = 1; i <= n; i++) print $2, t[i]; targets = "" }' |
    while read -r package target; do
      fuzz_target "$package" "$target" </dev/null
    done
}

# Now and then `go test` takes the end of the time that it was given for a failure.
# A real one comes with the input that failed.
fuzz_target() {
  local log=$scratch/fuzz.log
  echo "$2" >&2
  if ! go test -run '^$' -timeout 0 -fuzz "^$2\$" -fuzztime "${FUZZTIME:-10m}" "$1" >"$log" 2>&1; then
    cat "$log" >&2
    grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input' "$log"
  fi
}

# Packages with tests that have other programs as judges.
foreign() {
  local list
  mapfile -t list < <(grep -rl --include='*_test.go' '^//go:build foreign' . | xargs -n 1 dirname | sort -u | grep -v '^./internal/foreign$')
  go test -count=1 -timeout 60m -tags "$tags" "${list[@]}"
  case $tags in
    *acceptance*) go test -count=1 ./cmd/nix2img -run ManyPaths -paths 5000 ;; # the plain test has fewer
  esac
  # Most of them lie in one package, and wait for others more than they compute: several parts of it run at a time.
  go test -c -tags "$tags" -o "$scratch/foreign.test" ./internal/foreign
  cd internal/foreign
  export -f part
  "$scratch/foreign.test" -test.list . |
    awk -v parts=12 '/^Test/ { part[NR % parts] = part[NR % parts] "|" $1 } END { for (i in part) print substr(part[i], 2) }' |
    xargs -P 3 -d '\n' -I {} bash -c 'part "$@"' part "$scratch/foreign.test" {}
  cd ../..
}

# part BINARY TESTS: run some tests, and then print what they have to say.
part() {
  local log status=0
  log=$(mktemp "${1%/*}/part-XXXXXX")
  "$1" -test.timeout 60m -test.run "^($2)\$" >"$log" 2>&1 || status=$?
  if ((status)); then cat "$log"; else echo "ok $2"; fi >&2
  return "$status"
}

[ "$(id -u)" = 0 ] || die "must run as root, to mount and to write to /nix/store"
command -v apt-get >/dev/null || die "needs Debian 12: there is no apt-get here"
command -v go >/dev/null || die "needs Go"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# No cache but Go's own outlives this, and none of the user's is touched.
GOCACHE=$(go env GOCACHE)
export GOCACHE XDG_CACHE_HOME=$scratch/cache
tools=$CLOSURES_DIR/bin
mkdir -p "$tools"
export PATH=$tools:$PATH

step "tools" install_tools
step "mount" may_mount
if [ "$*" = fuzz ]; then
  step "fuzz" fuzz
  exit
fi
step "static checks" static_checks
step "known vulnerabilities" known_vulnerabilities
step "go test" go test ./...
step "race detector" race
step "closures" testdata/closures/make-closures.sh "${closures[@]}"
set -a # for the tests
# shellcheck source=/dev/null
. "$CLOSURES_DIR/closures.env"
set +a
step "foreign readers" foreign
