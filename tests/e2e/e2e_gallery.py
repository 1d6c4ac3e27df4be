"""Handlers the gallery's templates name; executors import them. What each gives is asked of the stage."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from wfe_sdk import RetryableError, StepContext, TerminalError, handler

NAMES = (
    "answer_ticket", "comment", "embed", "index_pages", "mend_code", "merge", "mitigate", "open_account", "page",
    "propose_mitigation", "read_deploys", "read_logs", "read_metrics", "read_page", "refund", "release", "reserve",
    "review_code", "run_lint", "run_tests", "search_papers", "search_web", "send_contract", "send_letter", "send_mail",
    "split_pages", "store_leads", "transfer", "write_brief", "write_report",
)  # fmt: skip


def register(name: str) -> None:
    @handler(name)
    async def ask(value: Any, ctx: StepContext) -> Any:
        url = f"{os.environ['WFE_E2E_STAGE']}/handlers/{name}"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"input": value, "step": ctx.step, "attempt": ctx.attempt}) as answer,
        ):
            told = await answer.json()
        if answer.status != 200:
            raise TerminalError("NOT_PLAYED", str(told))
        if "error" not in told:
            return told["output"]
        raise (RetryableError if told["error"]["retryable"] else TerminalError)(told["error"]["code"], "as it was told")


for _name in NAMES:
    register(_name)
