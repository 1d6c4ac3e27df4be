"""Metrics and trace context."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from wfe_servicekit.telemetry import metrics as t
from wfe_servicekit.telemetry import tracing


@pytest.fixture
def declared(monkeypatch):
    """No metric of the process itself."""
    found = {}
    monkeypatch.setattr(t, "_declared", found)
    return found


def shown() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(t.render().decode())
        for sample in family.samples
    }


def test_every_kind_is_written_as_prometheus_reads_it(declared):
    t.Counter("wfe_a_total", "A.", ("of",)).inc("x", by=2)
    t.Counter("wfe_none_total", "Never counted.")
    t.Gauge("wfe_b", "B.").set(1.5)
    spans = t.Histogram("wfe_c_seconds", "C.", bounds=(1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        spans.observe(value)
    seen = shown()
    assert seen["wfe_a_total", (("of", "x"),)] == 2
    assert seen["wfe_none_total", ()] == 0
    assert seen["wfe_b", ()] == 1.5
    assert [seen["wfe_c_seconds_bucket", (("le", le),)] for le in ("1.0", "2.0", "+Inf")] == [2, 3, 4]
    assert seen["wfe_c_seconds_sum", ()] == 12.0


def test_series_are_bounded(declared):
    counter = t.Counter("wfe_a_total", "A.", ("of",))
    for number in range(10 * t.MOST_SERIES):
        counter.inc(str(number))
    assert len(counter.values) == t.MOST_SERIES + 1
    assert counter.values["other",] == 9 * t.MOST_SERIES


def test_a_gauge_forgets_what_it_is_not_told_again(declared):
    gauge = t.Gauge("wfe_b", "B.", ("queue",))
    gauge.replace({("a",): 1, ("b",): 2})
    gauge.replace({("b",): 3})
    assert gauge.values == {("b",): 3}


def test_a_name_is_declared_once(declared):
    t.Gauge("wfe_b", "B.")
    with pytest.raises(ValueError, match="wfe_b is declared twice"):
        t.Counter("wfe_b", "B.")


@pytest.mark.parametrize(
    "broken",
    [
        None,
        "",
        "00-abc",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
def test_a_broken_traceparent_is_none(broken):
    assert tracing.parse(broken) is None


def test_a_traceparent_names_the_same_span_after_a_round():
    text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert tracing.traceparent_of(tracing.parse(text)) == text


def test_without_tracing_nothing_is_opened():
    assert not tracing.tracing()
    assert tracing.open_span("x", None, {}) is None
    assert tracing.current_traceparent() == ""
