# shellcheck shell=bash
# Sourced by the scripts of this directory: installing Debian packages.

# apt_install PACKAGE...: install those that are missing.
apt_install() {
  local package missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *" installed" ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  [ "$(id -u)" = 0 ] || { echo "missing packages, and not root: ${missing[*]}" >&2; return 1; }
  apt-get -q update >&2
  DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "${missing[@]}" >&2
}
