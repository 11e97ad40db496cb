"""Sending of queues: batches of all partitions at once, the batches of one partition one after the other.

A batch that is refused for its size, or for a record in it, is sent again in smaller ones until the record at fault is
alone. The next batch of its partition waits for that, so that the order within a partition is that of its queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownError
from aiokafka.structs import RecordMetadata

from connectors.kafka.errors import FAULT_OF_RECORD, TOO_LARGE, classify, reason
from connectors.kafka.message import Partition, Queue, Queues
from connectors.kafka.producer import SharedProducer
from engine.connector import ALL_STORED, Failures
from engine.errors import DeliveryError, NotConnectedError, RejectError

CHECK_TOPIC_EVERY_S = 1.0
"""Pause between two checks of whether the topic of an unconfirmed batch still exists: for a deleted one, the library
waits without end."""


@dataclass(slots=True)
class _PendingBatch:
    """A batch under way: the first `count` messages of a queue."""

    partition: Partition
    queue: Queue
    count: int
    size: int
    confirmed: asyncio.Future[RecordMetadata | None]


class Sender:
    """Sends over the producer that `lend` returns, which is asked for another one after every refused batch."""

    def __init__(self, where: str, lend: Callable[[], Awaitable[SharedProducer]]) -> None:
        self._where = where
        self._lend = lend
        self._bytes_max: dict[str, int] = {}
        """Most bytes of a batch by topic, where the broker was found to take less than the options say."""

    async def send(self, queues: Queues) -> Failures:
        """Send all of `queues` and return the messages that could not be stored.

        Raise `NotConnectedError` where a topic has gone, and an unknown error as it is: the outcome of all that was
        sent is unknown then. As after cancelling, the producer is doubtful and must be aborted.
        """
        failures = ALL_STORED
        counts_max: dict[Partition, int] = {}
        while queues:
            try:
                shared = await self._lend()
            except DeliveryError as error:
                return failures | _failed(queues.values(), error)
            async with shared.use() as producer:
                try:
                    batches = [await self._start(producer, *item, counts_max) for item in queues.items()]
                    await self._wait(shared, batches)
                except BaseException:
                    shared.is_doubtful = True
                    raise
            queues = {}
            for batch in batches:
                rest, failed = self._settle(shared, batch, counts_max)
                failures |= failed
                if rest:
                    queues[batch.partition] = rest
        return failures

    async def _start(
        self, producer: AIOKafkaProducer, partition: Partition, queue: Queue, counts_max: dict[Partition, int]
    ) -> _PendingBatch:
        topic, number = partition
        builder = producer.create_batch()
        bytes_max = self._bytes_max.get(topic)
        count = 0
        for _, time_ms, key, value, headers in islice(queue, counts_max.get(partition)):
            if bytes_max is not None and count and builder.size() + len(value) > bytes_max:
                break
            if builder.append(timestamp=time_ms, key=key, value=value, headers=headers) is None:
                break
            count += 1
        builder.close()
        try:
            confirmed = await producer.send_batch(builder, topic, partition=number)
        except KafkaError as error:
            confirmed = asyncio.get_running_loop().create_future()
            confirmed.set_exception(error)
        confirmed.add_done_callback(_see_exception)
        return _PendingBatch(partition, queue, count, builder.size(), confirmed)

    async def _wait(self, shared: SharedProducer, batches: list[_PendingBatch]) -> None:
        waiting = {batch.confirmed for batch in batches}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=CHECK_TOPIC_EVERY_S)
            for topic in {batch.partition[0] for batch in batches if batch.confirmed in waiting}:
                if await shared.has_lost(topic):
                    raise NotConnectedError(f"{self._where}: the topic {topic} is gone", code="unknown_topic")

    def _settle(
        self, shared: SharedProducer, batch: _PendingBatch, counts_max: dict[Partition, int]
    ) -> tuple[Queue, Failures]:
        """Return the messages of the batch's queue that are still to be sent, and those that failed."""
        error: Any = batch.confirmed.exception()
        if error is None:
            return batch.queue[batch.count :], ALL_STORED
        shared.batch_refused()
        if isinstance(error, UnknownError):
            raise error
        if not isinstance(error, TOO_LARGE + FAULT_OF_RECORD):
            found = classify(error, f"{self._where}, topic {batch.partition[0]}")
            return [], _failed([batch.queue], found)
        if batch.count == 1:
            counts_max.pop(batch.partition, None)
            rejection = RejectError(reason(error), code=type(error).__name__)
            return batch.queue[1:], Failures({batch.queue[0][0]: rejection})
        if isinstance(error, TOO_LARGE):
            self._bytes_max[batch.partition[0]] = batch.size // 2
        else:
            counts_max[batch.partition] = batch.count // 2
        return batch.queue, ALL_STORED


def _see_exception(confirmed: asyncio.Future[RecordMetadata | None]) -> None:
    """Mark an error as seen: asyncio logs those that come when nobody waits any more."""
    if not confirmed.cancelled():
        confirmed.exception()


def _failed(queues: Iterable[Queue], error: DeliveryError) -> Failures:
    return Failures.of((message[0] for queue in queues for message in queue), error)
