"""All counters in Prometheus' text form, collected when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from engine.admin.port import AdminPort

RULE_COUNTERS = {
    "received": "Messages and events a rule was asked about.",
    "filtered": "Those it made nothing of.",
    "failed": "Those it could not evaluate.",
    "emitted": "Those it made rows of.",
    "refused": "Those refused because a sink's buffer was full.",
    "records": "Rows it handed to sinks, counted once per sink.",
}
SINK_COUNTERS = {
    "emitted": "Records that rules handed to a sink.",
    "delivered": "Records the sink stored.",
    "deduplicated": "Records the sink had already.",
    "dead_lettered": "Records put aside with a reason.",
    "dropped": "Records dropped by a named policy.",
    "retried": "Attempts after the first.",
}
SINK_GAUGES = {
    "buffered": ("headgate_sink_buffered_records", "Records that wait for a sink."),
    "buffered_bytes": ("headgate_sink_buffered_bytes", "Bytes of them in the journal."),
    "oldest_age_s": ("headgate_sink_oldest_age_seconds", "Age of the oldest of them."),
    "dead_letters": ("headgate_sink_dead_letters", "Dead letters that are kept."),
}
SINK_STATES = ("connecting", "connected", "degraded", "held", "disconnected", "stopped")


def render(app: AdminPort) -> tuple[bytes, str]:
    """The text and its content type."""
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
        family = GaugeMetricFamily("headgate_sink_status", "1 for the state a sink is in.", labels=["sink", "status"])
        for sink in self._app.sinks():
            for state in SINK_STATES:
                family.add_metric([sink.id, state], float(sink.status == state))
        yield family
