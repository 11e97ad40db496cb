"""One producer and those who use it: started, shared by the lanes, and given up in a bounded time.

A producer that failed a batch for good can't go on where idempotence is on: its sequence numbers have a gap. It is
replaced, and ends once the last lane is done with it. One that does not answer is abandoned: an idempotent batch
never expires, and would otherwise be sent long after the same records went out by another way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.conn import create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError, TopicAlreadyExistsError, for_code

ABANDON_TIMEOUT_S = 1.0
"""Longest wait for each step of giving a producer up."""
_STEPS = 5
_ASK_AGAIN_S = 0.1


class Link:
    """A started producer. Used by lanes at once, by `use`."""

    def __init__(self, producer: AIOKafkaProducer, *, is_idempotent: bool) -> None:
        self.producer = producer
        self.is_doubtful = False
        """A batch was left with it that nobody waits for."""
        self.is_spent = False
        """A batch was refused, and the next one needs a new producer."""
        self._is_idempotent = is_idempotent
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @classmethod
    async def open(cls, options: Mapping[str, Any], client: Mapping[str, Any], timeout_s: float) -> Link:
        """Connect a producer with its own `options` and those any `client` takes.

        Raises the error of the way there: `KafkaError`, `OSError`, `TimeoutError`.
        """
        link = cls(AIOKafkaProducer(**options, **client), is_idempotent=options["enable_idempotence"])
        try:
            async with asyncio.timeout(timeout_s):
                await _start(link.producer, client)
        except BaseException:
            await link.abandon()
            raise
        return link

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AIOKafkaProducer]:
        """The producer, which stays as long as somebody is in here (unless it is abandoned)."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.producer
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def spend(self) -> None:
        """A batch was refused for good: with idempotence, its sequence numbers are a gap nothing passes."""
        self.is_spent = self.is_spent or self._is_idempotent

    def partition_count(self, topic: str) -> int:
        """How many partitions a topic has as far as is known; 0 where the topic is not known."""
        return len(self.producer.client.cluster.partitions_for_topic(topic) or ())

    async def find_topics(self, topics: Sequence[str], timeout_s: float) -> None:
        """Ask the cluster for topics that are not known, until all are or the time is over."""
        client = self.producer.client
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    for topic in topics:
                        client.add_topic(topic)
                    while not all(self.partition_count(topic) or self.is_forbidden(topic) for topic in topics):
                        await client.force_metadata_update()
                        await asyncio.sleep(_ASK_AGAIN_S)
        finally:
            # What is not there would be asked for with every look at the cluster, and rows can name any number.
            client._topics.difference_update(topic for topic in topics if not self.partition_count(topic))

    def is_forbidden(self, topic: str) -> bool:
        """Whether the user may not know of a topic."""
        return topic in self.producer.client.cluster.unauthorized_topics

    async def has_lost(self, topic: str) -> bool:
        """Whether a topic that was known is gone."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ABANDON_TIMEOUT_S):
                await self.producer.client.force_metadata_update()
        return self.partition_count(topic) == 0

    async def retire(self, timeout_s: float) -> None:
        """End the producer when nobody uses it any more, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._unused.wait()
        except TimeoutError:
            pass
        finally:
            await self.abandon()

    def hurry(self) -> None:
        """Let `retire` wait no longer."""
        self._unused.set()

    async def abandon(self) -> None:
        """End the producer now. Whoever waits for a batch gets an error; what was on its way may have arrived."""
        # The library's own stop() waits until every batch is delivered, which an idempotent one may never be; there is
        # no public way to end the sender, so it is ended first, and stop() finds nothing left to wait for.
        await _bounded(self.producer.client.close())
        await self._end_sender()
        self._fail_batches()
        await _bounded(self.producer.stop())

    def _fail_batches(self) -> None:
        accumulator = self.producer._message_accumulator
        waiting = [batch for batches in accumulator._batches.values() for batch in batches]
        # A batch that was to be sent again is no longer among the pending ones, where its end would be looked for.
        accumulator._pending_batches.update(waiting)
        accumulator.fail_all(KafkaConnectionError("the connection was given up"))
        for batch in waiting:
            # Nobody waits for it to be taken any more.
            batch._drain_waiter.exception()

    async def _end_sender(self) -> None:
        sender = self.producer._sender.sender_task
        if sender is None:
            return
        client = self.producer.client
        for _ in range(_STEPS):
            sender.cancel()
            # It first waits for its requests, and they for metadata that will never come from a closed client.
            done, _ = await asyncio.wait([sender], timeout=ABANDON_TIMEOUT_S / _STEPS)
            if done:
                return
            if client._md_update_fut is not None and not client._md_update_fut.done():
                client._md_update_fut.set_result(False)


async def create_topics(topics: Sequence[str], client: Mapping[str, Any]) -> dict[str, KafkaError]:
    """Create topics with the cluster's own defaults; fine where they are there. Why some could not be; `KafkaError`."""
    admin = AIOKafkaAdminClient(**client)
    try:
        await admin.start()
        answer = await admin.create_topics([NewTopic(topic, -1, -1, replica_assignments={}) for topic in topics])
        return {
            topic: for_code(code)(*words)
            for topic, code, *words in answer.topic_errors
            if code and for_code(code) is not TopicAlreadyExistsError
        }
    finally:
        await admin.close()


async def _start(producer: AIOKafkaProducer, client: Mapping[str, Any]) -> None:
    try:
        await producer.start()
    except KafkaConnectionError as error:
        raise await _reason(producer, client) or error from error


async def _reason(producer: AIOKafkaProducer, client: Mapping[str, Any]) -> Exception | None:
    """Why no broker could be reached: the library only says that none could, so the first is asked once more."""
    host, port, _ = producer.client.hosts[0]
    options = {key: value for key, value in client.items() if key not in ("bootstrap_servers", "metadata_max_age_ms")}
    try:
        connection = await create_conn(host, port, **options)
    except (KafkaError, OSError) as error:
        return error
    connection.close()
    return None


async def _bounded(step: Any) -> None:
    with suppress(TimeoutError, KafkaError, OSError):
        async with asyncio.timeout(ABANDON_TIMEOUT_S):
            await step
