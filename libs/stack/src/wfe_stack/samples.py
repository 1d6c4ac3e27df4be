"""Publishes the samples: templates a folder holds, where they are missing or have changed."""

from __future__ import annotations

import re
from pathlib import Path

from wfe_stack.faults import StackFault
from wfe_stack.rest import Refused, Rest

_NAME = re.compile(r"^name:\s*[\"']?([A-Za-z0-9._-]+)", re.MULTILINE)


async def publish_samples(url: str, key: str, folder: Path) -> list[str]:
    """Create and publish every template of a folder whose newest version is not its source. Safe to repeat.

    Args:
        url: Base URL of the REST API.
        key: Key of somebody with the role author.
        folder: Holds the sources, *.yaml.

    Returns:
        Names of the templates that were published now.

    Raises:
        StackFault: A sample was refused.
    """
    published = []
    sources = {path: path.read_text() for path in sorted(folder.glob("*.yaml"))}  # noqa: ASYNC240 - small files
    async with Rest(url, key) as rest:
        for path, source in sources.items():
            try:
                if name := await _publish(rest, source):
                    published.append(name)
            except Refused as fault:
                more = [
                    f": {v.field} {v.description}" for v in fault.violations[:1] if v.description not in fault.message
                ]
                raise StackFault(f"the sample {path} was refused: {fault.message}{''.join(more)}") from fault
    return published


async def _publish(rest: Rest, source: str) -> str | None:
    """The template's name, if it had to be published."""
    found = _NAME.search(source)
    name = found[1] if found else ""
    listed = await rest.get("/api/v1/templates", name=name) if name else {}
    known = (listed.get("templates") or [None])[0]
    if known is None:
        template = await rest.post("/api/v1/templates", {"source": source})
    else:
        path = f"/api/v1/templates/{known['id']}"
        if latest := known.get("latest_version"):
            version = await rest.get(f"{path}/versions/{latest}")
            if version["source"] == source:
                return None
        template = await rest.put(path, {"source": source})
    await rest.post(f"/api/v1/templates/{template['id']}/publish")
    return name or str(template["name"])
