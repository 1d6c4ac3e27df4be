"""Canaries in every place of a secret: nobody but the executor that needs it, and the other side, ever sees one."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

from wfe_engine.state import CALLBACK
from wfe_scheduler.callbacks import Callbacks
from wfe_stack.rest import Rest
from wfe_stack.testing import TEST_SETTINGS
from wfe_store.sealing import read_keys

from tools.chaos.bed import make_bed

SECRET, SENSITIVE = "canary-of-a-secret-8d1f", "canary-of-a-variable-52ae"
SOURCE = """
name: canaries
variables: {w: {type: string, required: true}, token: {type: string, sensitive: true}}
steps:
  - id: tell
    http:
      method: POST
      url: "${{ vars.w }}/${{ run.id }}/tell"
      auth: {bearer: "${{ secrets.CANARY }}"}
      json: {token: "${{ vars.token }}", callback: "${{ run.callbacks.scan }}"}
  - {id: scanned, wait_for: {callback: scan, timeout: {after: 1m}}}
  - {id: fails, http: {method: POST, url: "${{ vars.w }}/${{ run.id }}/fails?broken=1", json: {t: "${{ vars.token }}"}}}
"""


async def test_no_canary_is_found_where_it_has_no_business():
    folder = Path(tempfile.mkdtemp(prefix="wfe-canary-"))
    folder.chmod(0o755)
    try:
        async with make_bed(
            folder, lease_seconds=5.0, executors=1, postgres=TEST_SETTINGS, schedulers=1, listen=True
        ) as bed:
            async with Rest(bed.stack.url, bed.keys["root"]) as root, Rest(bed.stack.url, bed.keys["sam"]) as sam:
                made = await sam.post("/api/v1/templates", {"source": SOURCE})
                await root.put("/api/v1/secrets/CANARY", {"value": SECRET})
                await sam.post(f"/api/v1/templates/{made['id']}/publish")
                given = {"w": bed.witness_url, "token": SENSITIVE}
                run = await sam.start({"template_id": made["id"], "input": given})
                done = await sam.wait_ended(run["id"])
                assert (done["status"], done["error"]["code"]) == ("failed", "HTTP_422")
                shown = json.dumps([run, done, await root.get("/api/v1/secrets"), await root.get("/api/v1/keys")])
                shown += json.dumps(await sam.get(f"/api/v1/workflows/{run['id']}/events"))
            async with await bed.connect() as store:
                await store.execute("CHECKPOINT")
            urls = _callbacks(bed.stack.settings.folder / "seal.key", run["id"])
            canaries = {"secret": SECRET, "variable": SENSITIVE, "callback": urls}
            canaries |= {f"key of {who}": key.rpartition("_")[0].rpartition("_")[2] for who, key in bed.keys.items()}
            canaries |= {
                f"password of {role}": bed.stack.nats_password(role) or "-" for role in ("scheduler", "executor")
            }
            places = {
                "answers": [shown.encode()],
                "logs": [path.read_bytes() for path in (folder / "data" / "logs").iterdir()],
                "database": [path.read_bytes() for path in (folder / "postgres").rglob("*") if path.is_file()],
                "connections to the database": [bytes(kept) for kept in bed.store.heard or ()],
            }
            bus = [bytes(kept) for kept in bed.bus.heard or ()]
            assert any(b"wfe.unseal" in kept for kept in bus)
            assert any(b"canaries" in kept for kept in places["database"])
        for what, canary in canaries.items():
            forms = {canary.encode(), canary.encode().hex().encode()}
            for place, found in places.items():
                for form in forms:
                    assert not any(form in each for each in found), f"the {what} is in the {place}"
            # Executors log in to NATS with their passwords; a lease's secrets go to the executor that holds it alone.
            subjects = {subject for kept in bus for form in forms for subject in _subjects(kept, form)}
            expected = {"CONNECT"} if what.startswith("password") else {"_INBOX.executor"}
            assert subjects <= expected, f"the {what} is on the bus: {subjects}"
            if not what.startswith("key"):
                assert subjects == expected, f"the {what} was not seen where it must be"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _callbacks(key_file: Path, run: str) -> str:
    """The token of the run's callback."""
    return Callbacks(read_keys(key_file), "").url(UUID(run), CALLBACK + "scan").rpartition("/")[2]


def _subjects(kept: bytes, form: bytes) -> list[str]:
    """Where on the bus some bytes are: the first two words of the subject, or the protocol's own word."""
    found = []
    for place in re.finditer(re.escape(form), kept):
        heads = list(re.finditer(rb"(?:^|\r\n)(?:H?MSG|H?PUB) (\S+)|(CONNECT) ", kept[: place.start()]))
        subject = (heads[-1][1] or heads[-1][2]).decode()
        found.append(".".join(subject.split(".")[:2]))
    return found
