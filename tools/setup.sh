#!/usr/bin/env bash
# Make .venv from requirements.lock with every package of this repository installed editable. Safe to repeat:
# does nothing while the lock and the manifests are those of the last time.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }
PYTHON=${PYTHON:-python3}
command -v "$PYTHON" >/dev/null || { say "setup: no $PYTHON on PATH; install Python 3.11 to 3.14"; exit 1; }
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
# Some packages of the lock, the database server among them, come ready-made for these versions only.
case $version in
  3.1[1-4]) ;;
  *) say "setup: Python 3.11 to 3.14 is needed, $PYTHON is $version; name another: PYTHON=python3.13 make run"; exit 1 ;;
esac
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || { say "setup: Python's venv is missing; on Debian: apt-get install python3-venv"; exit 1; }

stamp=.venv/.installed
want=$(cat requirements.lock libs/*/pyproject.toml services/*/pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)
[ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$want" ] && [ -e .venv/bin/wfe ] && exit 0

[ -w . ] || { say "setup: $PWD cannot be written, and .venv is made in it"; exit 1; }
say "setup: installing into .venv (once)"
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
grep -A20 '^uv==' requirements.lock | sed -n '1,/[^\\]$/p' > .venv/uv.lock.txt
.venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock.txt
export VIRTUAL_ENV="$PWD/.venv"
# The certificates of the system, not only those uv brings: networks with an authority of their own are common.
.venv/bin/uv pip sync --quiet --system-certs --require-hashes requirements.lock
members=()
for manifest in libs/*/pyproject.toml services/*/pyproject.toml; do members+=(-e "$(dirname "$manifest")"); done
.venv/bin/uv pip install --quiet --system-certs --no-deps --no-build-isolation "${members[@]}"
printf '%s' "$want" > $stamp
