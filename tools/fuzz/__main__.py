"""`make fuzz`: all of it, for FUZZ_EXAMPLES calls of each operation and identity (20) and FUZZ_SECONDS a target (60).

Exit code 1 when anything was answered with 5xx, UNKNOWN or INTERNAL, did not answer, or raised.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from wfe_stack.rest import Rest
from wfe_stack.settings import StackSettings
from wfe_stack.stack import Stack

from tools.fuzz import wire
from tools.fuzz.install import HOME, PYTHON, install
from tools.fuzz.logs import unexpected
from tools.fuzz.rest import KEYS, identities, schemathesis
from tools.fuzz.targets import TARGETS


def atheris(name: str, seconds: int) -> tuple[str, bool, str]:
    """Fuzz one target: what it says of its progress, whether all was well, and the end of what it said."""
    corpus = HOME / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, text in enumerate(TARGETS[name][1]):
        (corpus / f"seed-{number}").write_bytes(text)
    ended = subprocess.run(
        [str(PYTHON), "-m", "tools.fuzz.guided", name, str(corpus), f"-max_total_time={seconds}", "-timeout=10",
         "-max_len=2000", f"-artifact_prefix={HOME}/{name}-", "-print_final_stats=1"],
        capture_output=True, text=True, errors="replace", check=False, timeout=10 * seconds + 300,
    )  # fmt: skip
    said = ended.stdout + ended.stderr
    ran = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    return ran[1] if ran else "?", ended.returncode == 0, said[-3000:]


async def main() -> int:
    """Do it, and say what came of it."""
    examples = int(os.environ.get("FUZZ_EXAMPLES", "20"))
    seconds = int(os.environ.get("FUZZ_SECONDS", "60"))
    seed_ = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(1 << 31))
    print(f"seed {seed_}", flush=True)
    await asyncio.to_thread(install)
    folder = Path(tempfile.mkdtemp(prefix="wfe-fuzz-"))
    await asyncio.to_thread(folder.chmod, 0o755)
    well, total = True, 0
    try:
        settings = StackSettings(folder=folder / "data", postgres={"fsync": "off"}, restarts=False)
        async with Stack(settings) as stack:
            keys = await identities(stack)
            # Two at once, each alone in its process: its threads do not always get along.
            room = asyncio.Semaphore(2)

            async def as_one(who: str, key: str | None, *more: str) -> tuple[str, int, bool, str]:
                async with room:
                    return who, *await schemathesis(stack, who, key, examples, seed_, *more)

            for done in asyncio.as_completed([as_one(who, key, *KEYS) for who, key in keys.items()]):
                who, count, passed, text = await done
                total += count
                print(f"REST as {who}: {count} cases, {'well' if passed else 'NOT WELL'}", flush=True)
                well &= passed
                if not passed:
                    print(*(line[:400] for line in text.splitlines()[-120:]), sep="\n", flush=True)
            count, passed, _ = await schemathesis(
                stack, "keys", keys["all"], examples, seed_, "--include-operation-id-regex", "Key$"
            )
            total += count
            print(f"REST, calls about keys: {count} cases, {'well' if passed else 'NOT WELL'}", flush=True)
            well &= passed
            keys = await identities(stack)
            targets = {"gateway": stack.grpc, "scheduler": stack.service("scheduler")}
            targets["approvals"] = stack.service("approvals")
            sent, faults = await wire.fuzz(targets, keys, 400 * examples, seed_)
            print(f"gRPC: {sent} broken messages, {len(faults)} faults", *faults[:20], sep="\n  ", flush=True)
            well &= not faults
            async with Rest(stack.url, keys["all"]) as rest:
                await rest.get("/api/v1/self")
                print(f"afterwards: {json.dumps(await rest.get('/readyz'))}", flush=True)
            inside = unexpected(folder / "data" / "logs")
            print(f"errors in the logs: {len(inside)}", *inside[:10], sep="\n  ", flush=True)
            well &= not inside
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"cases over REST: {total}")
    for name in TARGETS:
        ran, passed, said = await asyncio.to_thread(atheris, name, seconds)
        print(f"{name}: {ran} inputs, {'well' if passed else 'NOT WELL: ' + said}", flush=True)
        well &= passed
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
