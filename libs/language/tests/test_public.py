"""What the package offers."""

from __future__ import annotations

import pytest
import wfe_language


def test_exports():
    assert sorted(wfe_language.__all__) == wfe_language.__all__
    for name in wfe_language.__all__:
        assert getattr(wfe_language, name).__doc__


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5m", 300), ("24h", 86400), ("7d", 604800), ("1h30m", 5400), ("500ms", 0.5),
     ("1d2h3m4s5ms", 93784.005)],
)  # fmt: skip
def test_spans(text, seconds):
    assert wfe_language.parse_span(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "1.5h", "-1s", "1s1m", "1m 30s", "5M", "1w", "٣s", "4000d", "1s\n"])
def test_what_is_no_span(text):
    with pytest.raises(ValueError, match=r"not a span|longer than"):
        wfe_language.parse_span(text)
