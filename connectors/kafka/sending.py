"""Sends queues of messages: batches of all partitions at once, those of one partition one after the other.

A batch that is refused for its size or for a record in it is sent again in smaller ones until the record at fault is
alone. Where that happens the next batch waits, so that the order within a partition is that of its queue.
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

from connectors.kafka.errors import FAULT_OF_RECORD, TOO_LARGE, classify, said
from connectors.kafka.link import Link
from connectors.kafka.message import Queue, Queues
from engine.errors import DeliveryError, NotConnectedError, RejectError

LOOK_EVERY_S = 1.0
"""A batch that is not confirmed makes the sender look so often whether its topic is still there."""

Place = tuple[str, int]
Failures = dict[int, DeliveryError]


@dataclass(slots=True)
class _Parcel:
    """A batch under way: the first `count` messages of a queue."""

    place: Place
    queue: Queue
    count: int
    size: int
    confirmed: asyncio.Future[RecordMetadata | None]


class Sender:
    """Sends over the link that `lend` gives, which is asked for a fresh one after every refused batch."""

    def __init__(self, where: str, lend: Callable[[], Awaitable[Link]]) -> None:
        self._where = where
        self._lend = lend
        self._bytes_max: dict[str, int] = {}
        """Most bytes of a batch by topic, where that was found to be less than the options say."""

    async def send(self, queues: Queues, failures: Failures) -> None:
        """Send all of `queues`; what could not be stored goes to `failures`.

        Raises `NotConnectedError` where a topic has gone, and an unknown error as it is: of what was sent, nothing is
        certain then. As after cancelling, the link is doubtful and must be given up.
        """
        counts_max: dict[Place, int] = {}
        while queues:
            try:
                link = await self._lend()
            except DeliveryError as error:
                _fail(queues.values(), error, failures)
                return
            async with link.use() as producer:
                try:
                    parcels = [await self._post(producer, place, queue, counts_max) for place, queue in queues.items()]
                    await self._wait(link, parcels)
                except BaseException:
                    link.is_doubtful = True
                    raise
            queues = {parcel.place: self._rest(link, parcel, counts_max, failures) for parcel in parcels}
            queues = {place: queue for place, queue in queues.items() if queue}

    async def _post(
        self, producer: AIOKafkaProducer, place: Place, queue: Queue, counts_max: dict[Place, int]
    ) -> _Parcel:
        topic, partition = place
        builder = producer.create_batch()
        bytes_max = self._bytes_max.get(topic)
        count = 0
        for _, time_ms, key, value, headers in islice(queue, counts_max.get(place)):
            if bytes_max is not None and count and builder.size() + len(value) > bytes_max:
                break
            if builder.append(timestamp=time_ms, key=key, value=value, headers=headers) is None:
                break
            count += 1
        builder.close()
        try:
            confirmed = await producer.send_batch(builder, topic, partition=partition)
        except KafkaError as error:
            confirmed = asyncio.get_running_loop().create_future()
            confirmed.set_exception(error)
        confirmed.add_done_callback(_look_at)
        return _Parcel(place, queue, count, builder.size(), confirmed)

    async def _wait(self, link: Link, parcels: list[_Parcel]) -> None:
        waiting = {parcel.confirmed for parcel in parcels}
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=LOOK_EVERY_S)
            for topic in {parcel.place[0] for parcel in parcels if parcel.confirmed in waiting}:
                if await link.has_lost(topic):
                    raise NotConnectedError(f"{self._where}: the topic {topic} is gone", code="unknown_topic")

    def _rest(self, link: Link, parcel: _Parcel, counts_max: dict[Place, int], failures: Failures) -> Queue:
        """What is still to be sent of the parcel's queue."""
        error: Any = parcel.confirmed.exception()
        if error is None:
            return parcel.queue[parcel.count :]
        link.spend()
        if isinstance(error, UnknownError):
            raise error
        if not isinstance(error, TOO_LARGE + FAULT_OF_RECORD):
            _fail([parcel.queue], classify(error, f"{self._where}, topic {parcel.place[0]}"), failures)
            return []
        if parcel.count == 1:
            failures[parcel.queue[0][0]] = RejectError(said(error), code=type(error).__name__)
            counts_max.pop(parcel.place, None)
            return parcel.queue[1:]
        if isinstance(error, TOO_LARGE):
            self._bytes_max[parcel.place[0]] = parcel.size // 2
        else:
            counts_max[parcel.place] = parcel.count // 2
        return parcel.queue


def _look_at(confirmed: asyncio.Future[RecordMetadata | None]) -> None:
    """An error that comes when nobody waits any more is no news."""
    if not confirmed.cancelled():
        confirmed.exception()


def _fail(queues: Iterable[Queue], error: DeliveryError, failures: Failures) -> None:
    failures.update((message[0], error) for queue in queues for message in queue)
