#!/usr/bin/env bash
# Installs Debian packages, as root or through sudo; says what to do where neither works.
set -euo pipefail
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "please install: $*" >&2; exit 1; }
  as_root=(sudo)
fi
command -v apt-get >/dev/null || { echo "not a Debian system; please install what corresponds to: $*" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
echo "installing $*" >&2
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "$@" >&2
