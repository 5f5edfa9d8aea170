# shellcheck shell=bash disable=SC2154 # the variables are Nix's
# Nix builder: build-deb.py for packages with something odd.  To change that file itself would
# give all store paths other names, also those of closures that have been measured.
#
# Environment, set by closures.nix: that of build-deb.py, and buildDeb, which is that file.
set -eu
# A library that interposes others is no program.
sed 's/"INTERP" in text/" INTERP " in text/' "$buildDeb" >build-deb.py
python3 build-deb.py
# PSM has the name by which programs load it from update-alternatives.
if [ "$pname" = libpsm-infinipath1 ]; then
  ln -s libpsm1/libpsm_infinipath.so.1.16 "$out/lib/libpsm_infinipath.so.1"
fi
