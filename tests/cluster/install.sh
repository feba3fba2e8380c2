#!/bin/bash
# Installs Debian packages where a program is missing: install.sh PROGRAM PACKAGE...
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
program=$1; shift
command -v "$program" >/dev/null && exit 0
as_root=$([ "$(id -u)" = 0 ] || echo "sudo -n")
$as_root apt-get update -qq >&2 &&
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2 ||
  { echo "$program is missing and cannot be installed (apt-get install $*)" >&2; exit 1; }
