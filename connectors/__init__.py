"""The registry of sink kinds. A kind is imported when first used: a missing client library affects no other kind."""

from __future__ import annotations

import importlib
from difflib import get_close_matches

from connectors._shared.identity import forget_identity
from engine.connector import Sink
from engine.errors import ConfigError
from engine.service.extras import install_command

__all__ = ["KINDS", "forget_identity", "load_kind"]

KINDS: dict[str, str] = {
    "console": "connectors.console:ConsoleSink",
    "discard": "connectors.discard:DiscardSink",
    "file": "connectors.file:FileSink",
    "http": "connectors.http:HttpSink",
    "influxdb": "connectors.influxdb:InfluxdbSink",
    "kafka": "connectors.kafka:KafkaSink",
    "mongodb": "connectors.mongodb:MongodbSink",
    "postgresql": "connectors.postgresql:PostgresqlSink",
    "republish": "connectors.republish:RepublishSink",
    "sqlite": "connectors.sqlite:SqliteSink",
}
"""``module:class`` by the name in `type:`. The extra of a kind's client library has the name of the kind."""


def load_kind(name: str) -> type[Sink]:
    """Return the class of a kind. Raise `ConfigError` for an unknown one, or a missing client library."""
    target = KINDS.get(name)
    if target is None:
        near = get_close_matches(name, KINDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"use one of {', '.join(KINDS)}"
        raise ConfigError(f"there is no sink of type {name!r}", remedy=remedy)
    module_name, _, class_name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("connectors", "engine"):
            raise
        raise ConfigError(
            f"sinks of type {name} need the package {error.name}, which is not installed",
            remedy=install_command(name),
        ) from error
    kind: type[Sink] = getattr(module, class_name)
    return kind
