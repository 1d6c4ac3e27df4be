"""When a failed attempt is followed by another, and after what span."""

from __future__ import annotations

from wfe_engine.plan import Retry

#: The longest wait another side can ask for with Retry-After; a day.
LONGEST_RETRY_AFTER = 86_400.0


def is_retried(policy: Retry, attempt: int, code: str, retryable: bool) -> bool:
    """Whether attempt number `attempt` (1 and up), failed with `code`, is followed by another."""
    if not retryable or attempt >= policy.max_attempts or code in policy.never:
        return False
    return policy.on is None or code in policy.on


def delay(policy: Retry, attempt: int, chance: float, retry_after: float | None = None) -> float:
    """Seconds between failed attempt number `attempt` and the next.

    fixed: initial; linear: initial × attempt; exponential: initial × 2^(attempt−1); each at most max. Then jitter:
    full takes anything between 0 and the span, equal keeps half of it. Retry-After is obeyed: never sooner than that.

    Args:
        chance: A random number from 0 up to 1.
        retry_after: Seconds the other side asked for.
    """
    if policy.backoff == "fixed":
        span = policy.initial
    elif policy.backoff == "linear":
        span = policy.initial * attempt
    else:
        span = policy.initial * 2.0 ** min(attempt - 1, 62)
    span = min(span, policy.max)
    if policy.jitter == "full":
        span *= chance
    elif policy.jitter == "equal":
        span = span / 2 + span / 2 * chance
    if retry_after is not None:
        span = max(span, min(retry_after, LONGEST_RETRY_AFTER))
    return span
