#!/bin/bash
# usage: run.sh IMAGE PROGRAM [ARGUMENT...]
#
# Runs a program of an image on a Jetson board.  --nv of SingularityCE 4.5 and Apptainer 1.5 does not
# know the libraries of these boards, so their folders are bound where the image looks for them.
set -euo pipefail
binds=()
for dir in /usr/lib/aarch64-linux-gnu/{nvidia,tegra}; do
  if [ -d "$dir" ]; then
    binds+=(--bind "$dir")
  fi
done
if [ ${#binds[@]} = 0 ]; then
  echo "run.sh: no driver of a Jetson board in /usr/lib/aarch64-linux-gnu" >&2
  exit 1
fi
exec "${RUNTIME:-singularity}" exec "${binds[@]}" "$@"
