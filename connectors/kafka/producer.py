"""A producer that all lanes share: started, used, and closed in a bounded time.

An idempotent producer can't go on after a batch that the broker refused for good: its sequence numbers have a gap. It
is replaced, and closed once the last lane has left it. A producer that does not answer is aborted: an idempotent batch
never expires, and would otherwise be sent long after another producer has sent the same records.
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

ABORT_TIMEOUT_S = 1.0
"""Longest wait for each step of aborting a producer."""
_CANCEL_ATTEMPTS = 5
"""Attempts to cancel the library's sender, within `ABORT_TIMEOUT_S`."""
_ASK_AGAIN_S = 0.1
"""Pause between two metadata requests for a topic that is not known yet."""


class SharedProducer:
    """A started producer with the number of its users."""

    def __init__(self, producer: AIOKafkaProducer, *, is_idempotent: bool) -> None:
        self.producer = producer
        self.is_doubtful = False
        """Whether it holds a batch that no lane waits for any more."""
        self.is_spent = False
        """Whether the next batch needs another producer."""
        self._is_idempotent = is_idempotent
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @classmethod
    async def open(cls, options: Mapping[str, Any], client: Mapping[str, Any], timeout_s: float) -> SharedProducer:
        """Connect a producer; `client` are the options that it shares with an administrative client.

        Raise `KafkaError`, `OSError` or `TimeoutError` where that fails.
        """
        shared = cls(AIOKafkaProducer(**options, **client), is_idempotent=options["enable_idempotence"])
        try:
            async with asyncio.timeout(timeout_s):
                await _start(shared.producer, client)
        except BaseException:
            await shared.abort()
            raise
        return shared

    @asynccontextmanager
    async def use(self) -> AsyncIterator[AIOKafkaProducer]:
        """Use the producer: it is not closed meanwhile, unless it is aborted."""
        self._users += 1
        self._unused.clear()
        try:
            yield self.producer
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    def batch_refused(self) -> None:
        """Note that the broker refused a batch for good, which leaves a gap in an idempotent producer's sequence."""
        self.is_spent = self.is_spent or self._is_idempotent

    def partition_count(self, topic: str) -> int:
        """Return the number of partitions of a topic; 0 where the topic is not known."""
        return len(self.producer.client.cluster.partitions_for_topic(topic) or ())

    async def find_topics(self, topics: Sequence[str], timeout_s: float) -> None:
        """Ask the cluster for topics that are not known, until all are known or the time is over."""
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
            # The library would ask for absent topics with every metadata request, and rows can name any number of them.
            client._topics.difference_update(topic for topic in topics if not self.partition_count(topic))

    def is_forbidden(self, topic: str) -> bool:
        """Whether the user is not allowed to see a topic."""
        return topic in self.producer.client.cluster.unauthorized_topics

    async def has_lost(self, topic: str) -> bool:
        """Whether a topic that was known is gone from the cluster."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ABORT_TIMEOUT_S):
                await self.producer.client.force_metadata_update()
        return self.partition_count(topic) == 0

    async def retire(self, timeout_s: float) -> None:
        """Close the producer once nobody uses it any more, or when the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._unused.wait()
        except TimeoutError:
            pass
        finally:
            await self.abort()

    def stop_waiting(self) -> None:
        """Let `retire` close the producer now."""
        self._unused.set()

    async def abort(self) -> None:
        """Close the producer now. Whoever waits for a batch gets an error; a batch under way may have been stored."""
        # The library's own stop() waits until every batch is delivered, which an idempotent one may never be; there is
        # no public way to end the sender, so it is ended first, and stop() finds nothing left to wait for.
        await _bounded(self.producer.client.close())
        await self._end_sender()
        self._fail_batches()
        await _bounded(self.producer.stop())

    def _fail_batches(self) -> None:
        accumulator = self.producer._message_accumulator
        waiting = [batch for batches in accumulator._batches.values() for batch in batches]
        # A batch that is to be sent again is not among the pending ones, which are the only ones that fail_all() fails.
        accumulator._pending_batches.update(waiting)
        accumulator.fail_all(KafkaConnectionError("the connection was closed"))
        for batch in waiting:
            # Mark its error as seen: nobody waits for the batch to be drained any more.
            batch._drain_waiter.exception()

    async def _end_sender(self) -> None:
        sender = self.producer._sender.sender_task
        if sender is None:
            return
        client = self.producer.client
        for _ in range(_CANCEL_ATTEMPTS):
            sender.cancel()
            # It waits for its requests first, and they for metadata that a closed client never gets.
            done, _ = await asyncio.wait([sender], timeout=ABORT_TIMEOUT_S / _CANCEL_ATTEMPTS)
            if done:
                return
            if client._md_update_fut is not None and not client._md_update_fut.done():
                client._md_update_fut.set_result(False)


async def create_topics(topics: Sequence[str], client: Mapping[str, Any]) -> dict[str, KafkaError]:
    """Create topics with the cluster's defaults, unless they exist. Return the errors by topic. Raise `KafkaError`."""
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
    """Return why no broker could be reached. The library does not say, so the first one is connected once more."""
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
        async with asyncio.timeout(ABORT_TIMEOUT_S):
            await step
