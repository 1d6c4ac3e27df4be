"""Metrics: declared once with their meaning, counted as plain numbers, written out in Prometheus's text format.

Prometheus's own counters take a lock and build objects for every change; these belong to the one event loop of a
process and cost a dictionary's update. Only the loop's own thread may change them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "MOST_SERIES", "SECONDS", "Counter", "Family", "Gauge", "Histogram", "families", "render"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
#: Series of one metric at most; what comes beyond is counted under the label value `other`.
MOST_SERIES = 200
#: Bounds of most spans, in seconds.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

Labels = tuple[str, ...]
_declared: dict[str, Family] = {}


class Family:
    """One metric with all its series.

    Args:
        name: As Prometheus shows it; counters end in `_total`, spans in `_seconds`.
        meaning: One sentence, for the page of metrics and the help line.
        labels: Names of its labels; their values must come from a bounded set.

    Raises:
        ValueError: The name is taken.
    """

    kind = ""

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        if name in _declared:
            raise ValueError(f"the metric {name} is declared twice")
        self.name = name
        self.meaning = meaning
        self.labels = labels
        _declared[name] = self

    def bounded(self, labels: Labels, known: Mapping[Labels, object]) -> Labels:
        """The labels, or `other` for each when there are too many series."""
        if labels in known or len(known) < MOST_SERIES:
            return labels
        return ("other",) * len(labels)

    def collect(self) -> Metric:
        """The series now."""
        raise NotImplementedError


class Counter(Family):
    """Something that only rises, from 0 at the start of the process."""

    kind = "counter"

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        super().__init__(name, meaning, labels)
        self.values: dict[Labels, float] = {} if labels else {(): 0}

    def inc(self, *labels: str, by: float = 1) -> None:
        """Count."""
        if labels not in self.values:
            labels = self.bounded(labels, self.values)
        self.values[labels] = self.values.get(labels, 0) + by

    def collect(self) -> Metric:
        """The series now."""
        found = CounterMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in self.values.items():
            found.add_metric(labels, value)
        return found


class Gauge(Family):
    """Something that rises and falls. Series that are unknown are absent, not 0."""

    kind = "gauge"

    def __init__(self, name: str, meaning: str, labels: Labels = ()) -> None:
        super().__init__(name, meaning, labels)
        self.values: dict[Labels, float] = {}
        self._read: Callable[[], Mapping[Labels, float]] | None = None

    def set(self, value: float, *labels: str) -> None:
        """Set one series."""
        self.values[self.bounded(labels, self.values)] = value

    def replace(self, values: Mapping[Labels, float]) -> None:
        """Set every series; those that are not named go away."""
        self.values = {}
        for labels, value in values.items():
            self.set(value, *labels)

    def read(self, source: Callable[[], Mapping[Labels, float]]) -> None:
        """Ask `source` whenever the metric is written out."""
        self._read = source

    def collect(self) -> Metric:
        """The series now."""
        if self._read is not None:
            self.replace(self._read())
        found = GaugeMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, value in self.values.items():
            found.add_metric(labels, value)
        return found


class Histogram(Family):
    """How often values fell between bounds."""

    kind = "histogram"

    def __init__(self, name: str, meaning: str, labels: Labels = (), bounds: tuple[float, ...] = SECONDS) -> None:
        super().__init__(name, meaning, labels)
        self.bounds = bounds
        self.counts: dict[Labels, list[int]] = {}
        self.sums: dict[Labels, float] = {}
        if not labels:
            self._new(())

    def _new(self, labels: Labels) -> list[int]:
        self.sums[labels] = 0.0
        counts = self.counts[labels] = [0] * (len(self.bounds) + 1)
        return counts

    def observe(self, value: float, *labels: str) -> None:
        """Count a value."""
        counts = self.counts.get(labels)
        if counts is None:
            labels = self.bounded(labels, self.counts)
            counts = self.counts.get(labels) or self._new(labels)
        counts[bisect_left(self.bounds, value)] += 1
        self.sums[labels] += value

    def collect(self) -> Metric:
        """The series now."""
        found = HistogramMetricFamily(self.name, self.meaning, labels=self.labels)
        for labels, counts in self.counts.items():
            buckets, total = [], 0
            for bound, count in zip((*map(str, self.bounds), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            found.add_metric(labels, buckets, self.sums[labels])
        return found


def families() -> Iterable[Family]:
    """Every metric this process has declared, by name."""
    return [_declared[name] for name in sorted(_declared)]


class _All(Collector):
    def collect(self) -> Iterator[Metric]:
        for family in families():
            yield family.collect()


_registry = CollectorRegistry(auto_describe=False)
_registry.register(_All())


def render() -> bytes:
    """Every metric in Prometheus's text format."""
    return generate_latest(_registry)
