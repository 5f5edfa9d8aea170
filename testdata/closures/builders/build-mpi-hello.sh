# shellcheck shell=bash disable=SC2154 # the variables are Nix's
# Nix builder: a program that uses MPI, linked with DT_RUNPATH and with DT_RPATH, and links to tools.
#
# Environment, set by closures.nix: out, glibc, mpi (store paths), csrc (the sources),
# library (name of the MPI's library), headers (a directory of the system), tools (store paths).
set -eu
mkdir -p "$out/bin"
build() {
  gcc -O2 -s -Wl,--build-id=none "$2" -Wl,--dynamic-linker="$glibc/lib/ld-linux-x86-64.so.2" \
    -Wl,-rpath,"$mpi/lib:$glibc/lib" -Wl,--allow-shlib-undefined -I"$headers" \
    -o "$out/bin/$1" "$csrc/hello.c" -L"$mpi/lib" "-l:$library"
}
build mpi-hello -Wl,--enable-new-dtags
build mpi-hello-rpath -Wl,--disable-new-dtags
for tool in $tools; do
  for program in "$tool"/bin/*; do
    if [ -e "$program" ] && [ ! -e "$out/bin/${program##*/}" ]; then ln -s "$program" "$out/bin"; fi
  done
done
