#!/usr/bin/env bash
# Lint the protos, and check that what is generated from them (code, descriptor set, OpenAPI document) is up to date.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$PWD/.venv/bin
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
stale() { printf 'check_protos: %s is not what the protos say; run tools/protos.sh and commit\n' "$1" >&2; exit 1; }

tools/protos.sh "$fresh"
# The descriptor set rather than the files: their imports come from a wheel, where buf does not look.
"$bin/buf" lint "$fresh/wfe/wfe.binpb" --config protos/buf.yaml
diff -r --exclude=__pycache__ "$fresh" libs/protos/src >&2 || stale libs/protos/src
"$bin/python" tools/openapi.py "$fresh/openapi.json"
document=services/api-gateway/src/wfe_gateway/openapi.json
diff "$fresh/openapi.json" "$document" >&2 || stale "$document"
