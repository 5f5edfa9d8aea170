#!/bin/bash
# Makes large.txt: what cuobjdump lists in the CUDA libraries of the closure `large`, and how many
# containers lie in each file.
#
# usage: CUOBJDUMP=/usr/bin/cuobjdump image/gpu/testdata/make-large.sh >image/gpu/testdata/large.txt
#
# cuobjdump is in Debian's package nvidia-cuda-toolkit (non-free), version 11.8.89~11.8.0-5~deb12u1
# when the table was made.  No test needs it.  The closure is made by testdata/closures; its
# libraries are those of Debian's packages of the same version, and so is the table.
#
# Lines are: library, kind, target, entries in the sections; and library, "containers", "-",
# places in the file at a multiple of 8 where the header of a container begins.
set -euo pipefail
export LC_ALL=C
# shellcheck source=/dev/null
. "${CLOSURES_DIR:?}/closures.env"

nix-store -qR "$LARGE" | while read -r path; do
  find "$path" -type f -name '*.so*' | sort | while read -r file; do
    containers=$({ grep -obUaP '\x50\xed\x55\xba\x01\x00\x10\x00' "$file" || true; } | awk -F: '$1 % 8 == 0' | wc -l)
    [ "$containers" -gt 0 ] || continue
    echo "${file##*/} containers - $containers"
    for kind in elf ptx; do
      # Without such entries, cuobjdump says so, and fails if there is no section either.
      { "$CUOBJDUMP" "--list-$kind" "$file" 2>/dev/null || true; } |
        { grep -oE '\.sm_[0-9]+[a-z]?\.(cubin|ptx)$' || true; } | cut -d. -f2 | sort | uniq -c |
        while read -r count target; do
          echo "${file##*/} $kind $target $count"
        done
    done
  done
done | sort
