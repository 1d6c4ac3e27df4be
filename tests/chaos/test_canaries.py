"""Canaries in every place of a secret: nobody but the executor that needs it, and the other side, ever sees one."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from uuid import UUID

from aiohttp import web
from wfe_engine.state import CALLBACK
from wfe_scheduler.callbacks import Callbacks
from wfe_stack.rest import Rest
from wfe_stack.testing import TEST_SETTINGS
from wfe_stack.waiting import wait_for
from wfe_store import retention
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
  - id: fails
    http:
      method: POST
      url: "${{ vars.w }}/${{ run.id }}/fails?broken=1&k=${{ secrets.CANARY }}"
      json: {t: "${{ vars.token }}"}
"""


class Outside:
    """A receiver of webhooks and a collector of telemetry, which keeps all it is told."""

    def __init__(self) -> None:
        self.told: dict[str, list[bytes]] = defaultdict(list)
        self.url = ""

    async def __aenter__(self) -> Outside:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/{tail:.*}", self._keep)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _keep(self, request: web.Request) -> web.Response:
        # The body as it was before it was compressed.
        self.told[request.path] += [await request.read(), repr(request.raw_headers).encode()]
        return web.Response()

    def environment(self) -> dict[str, str]:
        """Of services that tell it everything."""
        return {
            "WFE_OTLP_ENDPOINT": self.url,
            "WFE_TRACE_RATIO": "1",
            "WFE_GATEWAY_OTLP_ENDPOINT": self.url,
            "WFE_GATEWAY_TRACE_RATIO": "1",
            "WFE_GATEWAY_ACCESS_LOG": "/dev/stdout",
            "WFE_LOG_LEVEL": "debug",
            "WFE_WEBHOOK_HTTP": "true",
            "WFE_EGRESS_ALLOW": "127.0.0.1",
        }


async def test_no_canary_is_found_where_it_has_no_business():
    folder = Path(tempfile.mkdtemp(prefix="wfe-canary-"))
    folder.chmod(0o755)
    (folder / "archive").mkdir()
    try:
        async with (
            Outside() as outside,
            make_bed(
                folder,
                lease_seconds=5.0,
                executors=1,
                postgres=TEST_SETTINGS,
                schedulers=1,
                listen=True,
                environment=outside.environment(),
            ) as bed,
        ):
            async with Rest(bed.stack.url, bed.keys["root"]) as root, Rest(bed.stack.url, bed.keys["sam"]) as sam:
                made = await sam.post("/api/v1/templates", {"source": SOURCE})
                await root.put("/api/v1/secrets/CANARY", {"value": SECRET})
                await sam.post(f"/api/v1/templates/{made['id']}/publish")
                webhook = await root.post("/api/v1/webhooks", {"url": f"{outside.url}/webhook", "event_types": ["*"]})
                hook = await sam.post("/api/v1/hooks", {"template_id": made["id"], "scheme": "github"})
                given = {"w": bed.witness_url, "token": SENSITIVE}
                run = await sam.start({"template_id": made["id"], "input": given})
                done = await sam.wait_ended(run["id"])
                assert (done["status"], done["error"]["code"]) == ("failed", "HTTP_422")
                lists = [await root.get(f"/api/v1/{name}") for name in ("secrets", "keys", "webhooks", "hooks")]
                shown = json.dumps([run, done, *lists])
                shown += json.dumps(await sam.get(f"/api/v1/workflows/{run['id']}/events"))
                await wait_for(lambda: _tells(outside.told["/webhook"], b"run.failed"), what="the last webhook")
                await wait_for(lambda: _tells(outside.told["/v1/traces"], run["id"].encode()), what="traces of the run")
            async with await bed.connect() as store:
                await store.execute("CHECKPOINT")
                later = dt.datetime.now(dt.UTC) + dt.timedelta(days=70)
                await store.set_autocommit(True)
                await retention.drop_old(store, older_than=dt.timedelta(days=1), archive=folder / "archive", now=later)
            urls = _callbacks(bed.stack.settings.folder / "seal.key", run["id"])
            canaries = {"secret": SECRET, "variable": SENSITIVE, "callback": urls}
            canaries |= {"webhook's secret": webhook["secret"], "hook's secret": hook["secret"]}
            canaries |= {f"key of {who}": key.rpartition("_")[0].rpartition("_")[2] for who, key in bed.keys.items()}
            canaries |= {
                f"password of {role}": bed.stack.nats_password(role) or "-" for role in ("scheduler", "executor")
            }
            await wait_for(lambda: "/v1/logs" in outside.told and "/v1/metrics" in outside.told, what="telemetry")
            places = {
                "answers": [shown.encode()],
                "logs": [path.read_bytes() for path in (folder / "data" / "logs").iterdir()],
                "database": [path.read_bytes() for path in (folder / "postgres").rglob("*") if path.is_file()],
                "connections to the database": [bytes(kept) for kept in bed.store.heard or ()],
                "archive": [path.read_bytes() for path in (folder / "archive").iterdir()],
                **outside.told,
            }
            bus = [bytes(kept) for kept in bed.bus.heard or ()]
            assert any(b"wfe.unseal" in kept for kept in bus)
            # What is looked through is what it is meant to be.
            for place in ("connections to the database", "archive", "/webhook", "/v1/traces"):
                assert _tells(places[place], run["id"].encode()), place
            assert _tells(places["database"], b"canaries")
            assert _tells(places["/v1/traces"], b"gateway")
            assert _tells(places["logs"], b"Callback")
        for what, canary in canaries.items():
            forms = {canary.encode(), canary.encode().hex().encode(), base64.b64encode(canary.encode())}
            for place, found in places.items():
                for form in forms:
                    assert not any(form in each for each in found), f"the {what} is in the {place}"
            # Executors log in to NATS with their passwords; a lease's secrets go to the executor that holds it alone.
            subjects = {subject for kept in bus for form in forms for subject in _subjects(kept, form)}
            expected = {"CONNECT"} if what.startswith("password") else {"_INBOX.executor"}
            assert subjects <= expected, f"the {what} is on the bus: {subjects}"
            if what in ("secret", "variable", "callback") or what.startswith("password"):
                assert subjects == expected, f"the {what} was not seen where it must be"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tells(kept: list[bytes], what: bytes) -> bool:
    return any(what in each for each in kept)


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
