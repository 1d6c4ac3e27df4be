"""What a process tells of itself: metrics, traces and logs. Nothing here may fail or slow a call.

Counters are plain numbers of the one event loop; Prometheus's library writes them out when somebody asks. Traces are
off unless `WFE_OTLP_ENDPOINT` is set, and are sent by threads of the OpenTelemetry SDK.
"""
