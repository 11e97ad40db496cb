"""The interface between Headgate and its connectors. Connectors import from here; nothing here imports them.

A sink is ``connect``, ``write``, ``close``; queues, batches, lanes, order, retries, back-off, holds, bisection, dead
letters and counters belong to `engine.delivery`. A kind of sink is one file or folder in ``connectors/`` with a
`ConnectorConfig` and a `Sink`, and one line in ``connectors/__init__.py``.

The result of `Sink.write` is an instruction (see `engine.errors`):

- `Failures` returned: those records failed, each with its `DeliveryError`; all others are stored, as durably as the
  sink's documentation says. `ALL_STORED` is the empty one;
- `DeliveryError` raised: no record is known to be stored, for this reason;
- any other exception: unknown. Retried ``retry.max_unknown`` times, then bisected, then dead-lettered with the
  exception as the reason.

One record must never fail its neighbours: whatever a row holds, a sink answers with a `RejectError` for that record.
"""

from engine.connector.deadline import ANSWER_SHARE, Deadline
from engine.connector.failures import ALL_STORED, Failures
from engine.connector.options import BatchConfig, BufferConfig, ConnectorConfig, HealthConfig, RetryConfig
from engine.connector.sink import Publication, Publish, Sink, SinkContext

__all__ = [
    "ALL_STORED",
    "ANSWER_SHARE",
    "BatchConfig",
    "BufferConfig",
    "ConnectorConfig",
    "Deadline",
    "Failures",
    "HealthConfig",
    "Publication",
    "Publish",
    "RetryConfig",
    "Sink",
    "SinkContext",
]
