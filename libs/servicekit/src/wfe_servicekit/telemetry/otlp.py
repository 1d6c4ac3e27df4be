"""Sending traces, metrics and logs by OTLP over HTTP, from threads of their own.

Queues are bounded and what does not fit is dropped: a collector that is slow or gone costs telemetry, never a call.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.sdk.resources import Resource

from wfe_servicekit.settings import ProcessSettings
from wfe_servicekit.telemetry.metrics import Counter, Family, Gauge, Histogram, families
from wfe_servicekit.telemetry.tracing import use_tracer

__all__ = ["start_telemetry"]

#: Seconds between two sendings of the metrics.
METRICS_SECONDS = 15.0
#: Seconds one sending may take.
SEND_SECONDS = 5.0
#: Spans and log lines that wait at most.
QUEUE = 8192

_SEVERITIES = {"debug": 5, "info": 9, "warning": 13, "error": 17, "critical": 21}


def start_telemetry(service: str, settings: ProcessSettings) -> Callable[[], None]:
    """Begin to send what the settings ask for, to their endpoint.

    Returns:
        A function that sends what is left, within a few seconds, and ends it. It may block: call it in a thread.
    """
    base = (settings.otlp_endpoint or "").rstrip("/")
    # Failures of exporters are expected while a collector is away; one line each would flood the logs they are about.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    resource = Resource.create(
        {"service.name": f"wfe-{service}", "service.instance.id": f"{os.uname().nodename}-{os.getpid()}"}
    )
    closers: list[Callable[[], None]] = []
    signals = settings.signals
    if "traces" in signals:
        closers.append(_traces(base, resource, settings.trace_ratio))
    if "metrics" in signals:
        closers.append(_metrics(base, resource))
    if "logs" in signals:
        closers.append(_logs(base, resource))

    def close() -> None:
        for one in closers:
            with contextlib.suppress(Exception):
                one()

    return close


def _traces(base: str, resource: Resource, ratio: float) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(ratio)), resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{base}/v1/traces", timeout=SEND_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE, schedule_delay_millis=1_000))
    use_tracer(provider.get_tracer("wfe"))

    def close() -> None:
        use_tracer(None)
        provider.shutdown()

    return close


def _logs(base: str, resource: Resource) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPLogExporter(endpoint=f"{base}/v1/logs", timeout=SEND_SECONDS)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_queue_size=QUEUE))
    root = logging.getLogger()
    if not root.handlers:
        return provider.shutdown
    handler = _LogHandler(provider.get_logger("wfe"), root.handlers[0])
    root.addHandler(handler)

    def close() -> None:
        root.removeHandler(handler)
        provider.shutdown()

    return close


class _LogHandler(logging.Handler):
    """Sends each line as it is written to stdout: with the same fields, redacted by the same rules."""

    def __init__(self, logger: Any, like: logging.Handler) -> None:
        super().__init__()
        self._logger = logger
        self._like = like

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one line over; what cannot be is dropped."""
        from opentelemetry._logs import LogRecord, SeverityNumber

        if record.name.startswith(("opentelemetry", "urllib3", "requests")):
            return
        try:
            level = record.levelname.lower()
            line = LogRecord(
                timestamp=time.time_ns(),
                severity_text=level,
                severity_number=SeverityNumber(_SEVERITIES.get(level, 9)),
                body=self._like.format(record),
            )
            self._logger.emit(line)
        except Exception:  # noqa: BLE001 - a line that is not sent was written all the same
            return


def _metrics(base: str, resource: Resource) -> Callable[[], None]:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    exporter = OTLPMetricExporter(endpoint=f"{base}/v1/metrics", timeout=SEND_SECONDS)
    began = time.time_ns()
    over = threading.Event()

    def send() -> None:
        with contextlib.suppress(Exception):  # a change in the middle of a reading: the next one has it
            exporter.export(_data(families(), resource, began), timeout_millis=SEND_SECONDS * 1000)

    def work() -> None:
        while not over.wait(METRICS_SECONDS):
            send()

    thread = threading.Thread(target=work, name="otlp-metrics", daemon=True)
    thread.start()

    def close() -> None:
        over.set()
        send()
        exporter.shutdown()

    return close


def _data(declared: Iterable[Family], resource: Resource, began: int) -> Any:
    from opentelemetry.sdk.metrics import export as ex
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    now = time.time_ns()
    cumulative = ex.AggregationTemporality.CUMULATIVE
    found = []
    for family in declared:
        family.collect()  # lets gauges ask their sources
        data: Any
        if isinstance(family, Histogram):
            data = ex.Histogram(
                [
                    ex.HistogramDataPoint(
                        attributes=dict(zip(family.labels, labels, strict=True)),
                        start_time_unix_nano=began,
                        time_unix_nano=now,
                        count=sum(counts),
                        sum=family.sums[labels],
                        bucket_counts=list(counts),
                        explicit_bounds=family.bounds,
                        min=0.0,
                        max=0.0,
                    )
                    for labels, counts in list(family.counts.items())
                ],
                cumulative,
            )
        elif isinstance(family, Counter | Gauge):
            points = [
                ex.NumberDataPoint(
                    attributes=dict(zip(family.labels, labels, strict=True)),
                    start_time_unix_nano=began,
                    time_unix_nano=now,
                    value=value,
                )
                for labels, value in list(family.values.items())
            ]
            counter = isinstance(family, Counter)
            data = ex.Sum(points, cumulative, is_monotonic=True) if counter else ex.Gauge(points)
        else:
            continue
        if data.data_points:
            found.append(ex.Metric(family.name, family.meaning, "", data))
    scope = ex.ScopeMetrics(InstrumentationScope("wfe"), found, "")
    return ex.MetricsData([ex.ResourceMetrics(resource, [scope], "")])
