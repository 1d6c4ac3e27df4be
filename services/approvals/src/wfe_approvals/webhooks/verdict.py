"""What an attempt's end means. Plain rules, no I/O."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

#: Seconds before each attempt, as Svix has them: the last comes 27.6 hours after the first.
SCHEDULE = (0.0, 5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 36_000.0)
#: A receiver may ask to be left alone for so many seconds at most.
MOST_PAUSE = 86_400.0
#: Seconds a receiver that is overloaded is left alone when it does not say for how long.
PAUSE = 10.0
#: Longer by up to this part, so that what failed together does not come again together.
JITTER = 0.1

#: Answers that mean: too much. To them the specification of Standard Webhooks wants senders to slow down.
_OVERLOADED = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt.

    Attributes:
        status: delivered, failed, or pending for another attempt.
        delay: Seconds until that.
        pause: Seconds the receiver is left alone altogether; 0 for not at all.
        gone: The receiver wants nothing any more.
        error: Why it did not succeed; empty when it did.
    """

    status: str
    delay: float = 0.0
    pause: float = 0.0
    gone: bool = False
    error: str = ""


def judge(
    status: int,
    error: str,
    retry_after: str | None,
    *,
    attempts: int,
    schedule: Sequence[float],
    chance: float,
    now: datetime,
) -> Verdict:
    """What follows from an attempt.

    Args:
        status: HTTP status; 0 without an answer.
        error: Why there was none.
        retry_after: That header's value.
        attempts: Made before this one.
        schedule: Seconds before each attempt.
        chance: From 0 to 1, for the jitter.
        now: For a Retry-After that names a moment.
    """
    if 200 <= status < 300:
        return Verdict("delivered")
    if status == 410:
        return Verdict("failed", gone=True, error="it answered 410: it wants nothing any more")
    why = error or (
        f"it answered {status}, a redirect; redirects are not followed" if 300 <= status < 400
        else f"it answered {status}"
    )  # fmt: skip
    pause = 0.0
    if status in _OVERLOADED:
        pause = min(_seconds(retry_after, now) or (PAUSE if status == 429 else 0.0), MOST_PAUSE)
    if attempts + 1 >= len(schedule):
        return Verdict("failed", pause=pause, error=why)
    delay = schedule[attempts + 1] * (1 + JITTER * chance)
    return Verdict("pending", delay=max(delay, pause), pause=pause, error=why)


def _seconds(text: str | None, now: datetime) -> float:
    """Seconds of a Retry-After, a number or a moment; 0 for none, or for something else."""
    text = (text or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    if moment.tzinfo is None:
        return 0.0
    return max(0.0, (moment - now).total_seconds())
