"""All counters in the text format of Prometheus, collected on request."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from engine.admin.port import AdminPort

RULE_COUNTERS = {
    "received": "Messages and events that a rule evaluated.",
    "filtered": "Messages and events without a row.",
    "failed": "Messages and events whose evaluation failed.",
    "emitted": "Messages and events with at least one row.",
    "refused": "Messages refused because a sink's buffer was full.",
    "records": "Rows passed to sinks, counted once per sink.",
}
SINK_COUNTERS = {
    "emitted": "Records that rules passed to a sink.",
    "delivered": "Records that the sink stored.",
    "deduplicated": "Records that the sink had stored before.",
    "dead_lettered": "Records kept as dead letters.",
    "dropped": "Records dropped by a policy.",
    "retried": "Writes after the first attempt.",
}
SINK_GAUGES = {
    "buffered": ("headgate_sink_buffered_records", "Records that wait for a sink."),
    "buffered_bytes": ("headgate_sink_buffered_bytes", "Bytes of the waiting records in the journal."),
    "oldest_age_s": ("headgate_sink_oldest_age_seconds", "Age of the oldest waiting record."),
    "dead_letters": ("headgate_sink_dead_letters", "Dead letters of a sink."),
}
SINK_STATES = ("connecting", "connected", "degraded", "held", "disconnected", "stopped")


def render(app: AdminPort) -> tuple[bytes, str]:
    """Return the text and its content type."""
    registry = CollectorRegistry()
    registry.register(_AppCollector(app))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _AppCollector(Collector):
    def __init__(self, app: AdminPort) -> None:
        self._app = app

    def collect(self) -> Iterator[Metric]:
        yield from self._rules()
        yield from self._sinks()
        yield from self._states()
        stats = self._app.stats()
        for name, number in stats.counters.items():
            yield CounterMetricFamily(f"headgate_{name}", f"{name.replace('_', ' ')}.", value=number)
        for name, value in stats.gauges.items():
            yield GaugeMetricFamily(f"headgate_{name}", f"{name.replace('_', ' ')}.", value=value)

    def _rules(self) -> Iterator[Metric]:
        rules = self._app.rules()
        for name, text in RULE_COUNTERS.items():
            family = CounterMetricFamily(f"headgate_rule_{name}", text, labels=["rule"])
            for rule in rules:
                family.add_metric([rule.id], getattr(rule, name))
            yield family

    def _sinks(self) -> Iterator[Metric]:
        sinks = self._app.sinks()
        for name, text in SINK_COUNTERS.items():
            family = CounterMetricFamily(f"headgate_sink_{name}", text, labels=["sink", "type"])
            for sink in sinks:
                family.add_metric([sink.id, sink.type], getattr(sink, name))
            yield family
        for field, (name, text) in SINK_GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=["sink", "type"])
            for sink in sinks:
                gauge.add_metric([sink.id, sink.type], getattr(sink, field) or 0)
            yield gauge

    def _states(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "headgate_sink_status", "1 for the current status of a sink, else 0.", labels=["sink", "status"]
        )
        for sink in self._app.sinks():
            for state in SINK_STATES:
                family.add_metric([sink.id, state], float(sink.status == state))
        yield family
