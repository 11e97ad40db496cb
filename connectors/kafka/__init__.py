"""Sends rows to Kafka: batches of one partition each, built by the sink and confirmed by all replicas.

A record's key decides its partition, as in other Kafka clients. The default key is the client id, so that the messages
of a client stay in order. Batches of one lane go to a partition one after the other. With `idempotent`, a batch that
the connection repeats is stored once; after a restart of Headgate a batch may be stored twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, ClassVar

from aiokafka.errors import KafkaConnectionError, KafkaError

from connectors.kafka.errors import classify
from connectors.kafka.message import Queues
from connectors.kafka.options import KafkaConfig
from connectors.kafka.producer import SharedProducer
from connectors.kafka.sending import Sender
from connectors.kafka.topics import MissingTopics
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import NotConnectedError, RetryableError
from engine.model.record import Batch
from engine.service.tasks import Tasks

CLOSE_TIMEOUT_S = 5.0
"""Longest wait for producers to close when the sink is closed."""

# The library logs each of its own attempts as an error; the errors raised here say what matters of them.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class KafkaSink(Sink):
    """Rows to one topic, or to the topics that a template gives, through one producer."""

    kind: ClassVar[str] = "kafka"
    Config: ClassVar[type[ConnectorConfig]] = KafkaConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: kafka\nbrokers: ["kafka1.plant:9092", "kafka2.plant:9092"]\ntopic: readings\n',
        'type: kafka\nbrokers: kafka.plant:9092\ntopic: "plant-${area}"\nkey: "${device}"\nvalue: "${payload}"\n'
        'headers: {rule: "${_rule}"}\ntimestamp: "${at}"\ncompression: zstd\n',
        "type: kafka\nbrokers: kafka.plant:9093\ntopic: readings\ntls: {ca: ca.pem}\n"
        "sasl: {mechanism: SCRAM-SHA-512, username: headgate, password: secret}\n",
    )

    def __init__(self, config: KafkaConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._where = f"Kafka at {','.join(config.brokers)}"
        self._composer = config.composer()
        is_fixed = self._composer.fixed_topic is not None
        self._missing = MissingTopics(
            self._where,
            config.on_unknown_topic or ("hold" if is_fixed else "reject"),
            is_fixed=is_fixed,
            client_options=partial(config.client_options, context.base_dir),
            request_timeout_s=config.request_timeout,
            clock=context.clock,
        )
        self._sender = Sender(self._where, self._lend)
        self._shared: SharedProducer | None = None
        self._changing = asyncio.Lock()
        """Held while a producer takes the place of another."""
        self._tasks = Tasks(f"sink {context.sink_id}")
        self._closing: dict[asyncio.Task[None], SharedProducer] = {}

    async def connect(self) -> None:
        async with self._changing:
            old, self._shared = self._shared, None
            if old is not None:
                self._close_later(old.retire(self.config.request_timeout), old)
            self._missing.clear()
            self._shared = shared = await self._open()
        if self._composer.fixed_topic is not None:
            async with shared.use():
                missing = await self._missing.among([self._composer.fixed_topic], shared)
            for error in missing.values():
                raise error

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        try:
            async with asyncio.timeout(deadline.left_s()):
                queues, failures = await self._queues(batch)
                failures |= await self._sender.send(queues)
        except TimeoutError as error:
            self._abort_doubtful()
            message = f"{self._where} did not confirm the batch in time; the outcome is unknown"
            raise NotConnectedError(message, code="timeout") from error
        except (asyncio.CancelledError, NotConnectedError):
            self._abort_doubtful()
            raise
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        async with self._changing:
            self._abort()
        for shared in self._closing.values():
            shared.stop_waiting()
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_TIMEOUT_S)
        await self._tasks.cancel()

    async def _open(self) -> SharedProducer:
        config: KafkaConfig = self.config
        client_options = config.client_options(self.context.base_dir)
        try:
            return await SharedProducer.open(config.producer_options(), client_options, config.connect_timeout)
        except TimeoutError as error:
            raise NotConnectedError(f"{self._where} does not answer", code="timeout") from error
        except (KafkaError, OSError) as error:
            reason = classify(error, self._where)
            if isinstance(error, (KafkaConnectionError, ConnectionResetError)):
                message = f"{self._where} closed the connection; it may expect other `sasl` or `tls` options"
                reason = NotConnectedError(message, code=reason.code)
            elif isinstance(reason, RetryableError):
                reason = NotConnectedError(reason.message, code=reason.code)
            raise reason from error

    async def _lend(self) -> SharedProducer:
        """Return the producer to send with; another one in place of one that is spent."""
        async with self._changing:
            shared = self._shared
            if shared is None:
                raise NotConnectedError(f"{self._where} is not connected")
            if shared.is_spent:
                self._shared = await self._open()
                self._close_later(shared.retire(self.config.request_timeout), shared)
                return self._shared
            return shared

    def _abort(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            self._close_later(shared.abort(), shared)

    def _abort_doubtful(self) -> None:
        """Abort producers that hold a batch nobody waits for: they would send it after another one has sent it."""
        for shared in self._closing.values():
            if shared.is_doubtful:
                shared.stop_waiting()
        if self._shared is not None and self._shared.is_doubtful:
            self._abort()

    def _close_later(self, closing: Coroutine[Any, Any, None], shared: SharedProducer) -> None:
        task = self._tasks.spawn(closing, "close a producer")
        self._closing[task] = shared
        task.add_done_callback(self._closing.pop)

    async def _queues(self, batch: Batch) -> tuple[Queues, Failures]:
        """Return the messages of `batch` by partition, and the records that failed.

        Raise the error of a fixed topic that is missing.
        """
        fixed = self._composer.fixed_topic
        topics, failures = (None, Failures()) if fixed is not None else self._composer.topics(batch)
        shared = await self._lend()
        async with shared.use():
            wanted = list(dict.fromkeys(topic for topic in topics or [fixed] if topic is not None))
            missing = await self._missing.among(wanted, shared)
            if topics is None and missing:
                raise missing[wanted[0]]
            counts = {topic: shared.partition_count(topic) for topic in wanted if topic not in missing}
        absent = {index: missing[topic] for index, topic in enumerate(topics or ()) if topic and topic in missing}
        queues, unfit = self._composer.queues(batch, topics, counts)
        return queues, failures | Failures(absent) | unfit
