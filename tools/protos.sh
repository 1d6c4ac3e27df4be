#!/usr/bin/env bash
# Generate libs/protos from protos/, the descriptor set Envoy reads, and from that the OpenAPI document.
# Usage: tools/protos.sh [OUT_DIR]; OUT_DIR defaults to libs/protos/src. Into another one no document is made.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-libs/protos/src}
bin=$PWD/.venv/bin
includes=$("$bin/python" -c 'import google.api, pathlib; print(pathlib.Path(list(google.api.__path__)[0]).parents[1])')
builtin=$("$bin/python" -c 'import grpc_tools, pathlib; print(pathlib.Path(grpc_tools.__file__).parent / "_proto")')
mapfile -t files < <(cd protos && find wfe -name '*.proto' | LC_ALL=C sort)
mkdir -p "$out"
PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -Iprotos -I"$includes" -I"$builtin" \
  --python_out="$out" --grpc_python_out="$out" --mypy_out="quiet:$out" "${files[@]}"
# google/rpc/error_details.proto must be in the set: without it Envoy answers errors with an empty body.
"$bin/python" -m grpc_tools.protoc -Iprotos -I"$includes" -I"$builtin" --include_imports --include_source_info \
  --descriptor_set_out="$out/wfe/wfe.binpb" "${files[@]}" google/rpc/error_details.proto google/rpc/status.proto
[ $# -gt 0 ] || "$bin/python" tools/openapi.py
