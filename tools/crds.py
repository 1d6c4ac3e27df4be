"""Keep the schemas of the operators' custom resources beside the tests of the manifests, small enough to be committed.

Usage: python -m tools.crds FOLDER, with the operators' CustomResourceDefinitions as YAML files in it. Writes
deploy/tests/crds/KIND.json for every kind the manifests use: the newest stored version, without prose. Where each was
released is in deploy/tests/crds/README.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

TARGET = Path(__file__).resolve().parent.parent / "deploy" / "tests" / "crds"
_PROSE = {"description", "title", "externalDocs", "example"}


def bare(schema: Any) -> Any:
    """The schema without what is for people; a property may be called `description`, so only text is dropped."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: bare(value) for key, value in schema.items() if not (key in _PROSE and isinstance(value, str))}


def kept(definition: dict[str, Any]) -> dict[str, Any]:
    """Group, version, kind and schema of a definition."""
    spec = definition["spec"]
    version = next(one for one in spec["versions"] if one["storage"])
    return {
        "apiVersion": f"{spec['group']}/{version['name']}",
        "kind": spec["names"]["kind"],
        "schema": bare(version["schema"]["openAPIV3Schema"]),
    }


def main() -> int:
    """Write the files."""
    if len(sys.argv) != 2:
        sys.stderr.write(__doc__ or "")
        return 2
    TARGET.mkdir(exist_ok=True)
    for path in sorted(Path(sys.argv[1]).glob("*.yaml")):
        for definition in yaml.safe_load_all(path.read_text()):
            found = kept(definition)
            text = json.dumps(found, separators=(",", ":"), sort_keys=True)
            (TARGET / f"{found['kind'].lower()}.json").write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
