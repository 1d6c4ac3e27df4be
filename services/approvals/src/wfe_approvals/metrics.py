"""What an approvals service counts of its deliveries. What it sees of the whole store is in `survey`."""

from __future__ import annotations

from wfe_servicekit.telemetry.metrics import Counter, Histogram
from wfe_store.deliveries import Outcome

from wfe_approvals.webhooks.verdict import Verdict

#: From a receiver that answers at once to one that is tried again after the longest back-off.
_LAGS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0, 36_000.0)

ATTEMPTS = Counter(
    "wfe_webhook_attempts_total",
    "Attempts to tell a webhook, by outcome: delivered, retried (it failed and will be made again) or failed (it was"
    " the last one).",
    ("outcome",),
)
ANSWERS = Counter(
    "wfe_webhook_answers_total",
    "Attempts to tell a webhook, by what came back: 2xx, 3xx, 4xx, 5xx, other, or none (no connection, no answer in"
    " time, or the address is not allowed).",
    ("answer",),
)
FILTERED = Counter("wfe_webhook_filtered_total", "Deliveries that a webhook's filter did not let through.")
ATTEMPT_SECONDS = Histogram("wfe_webhook_attempt_seconds", "How long attempts to tell a webhook took.")
LAG = Histogram(
    "wfe_webhook_lag_seconds", "Time from the making of a delivery to the end of its first attempt.", bounds=_LAGS
)
DISABLED = Counter(
    "wfe_webhooks_disabled_total",
    "Webhooks that are told nothing any more, by reason: gone (it answered 410) or failing (for too long).",
    ("reason",),
)


def attempted(outcome: Outcome, verdict: Verdict, status: int, seconds: float) -> None:
    """Count an attempt.

    Args:
        outcome: What became of the delivery.
        verdict: What followed from the answer.
        status: HTTP status of the answer; 0 without one.
        seconds: How long it took.
    """
    ended = "retried" if verdict.status == "pending" else verdict.status
    ATTEMPTS.inc(ended)
    kind = f"{status // 100}xx" if 200 <= status < 600 else "other" if status else "none"
    ANSWERS.inc(kind)
    ATTEMPT_SECONDS.observe(seconds)
    if outcome.job.age is not None:
        LAG.observe(outcome.job.age + seconds)
