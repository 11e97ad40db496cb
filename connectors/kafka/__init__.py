"""Sends rows to Kafka: batches of one partition each, built by the sink and confirmed by all replicas.

A record's key decides its partition, as in every other Kafka client; by default the key is the client's id, so that
what a client sent stays in order. Records of one lane go to one partition one batch after the other. With
`idempotent`, what the connection repeats is stored once; after a restart of Headgate a batch may come twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, ClassVar, Literal

from aiokafka.errors import KafkaError
from pydantic import BeforeValidator, Field, SecretStr

from connectors._shared.routing import verdict
from connectors._shared.tls import TlsConfig
from connectors.kafka.errors import classify
from connectors.kafka.link import Link, create_topic
from connectors.kafka.message import Composer, Queues
from connectors.kafka.sending import Sender
from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig, Sink, SinkContext
from engine.errors import ConfigError, DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.record import Batch
from engine.service import Tasks
from engine.template import Template

FIND_TOPIC_S = 2.0
"""How long a topic may take to be known, as one that was just created does."""
LOOK_AGAIN_S = 5.0
"""A topic that is not there is looked for at most this often."""
REJECT_AFTER_S = 30.0
"""Records of a topic that is not there are retried so long before they are rejected."""
MISSING_MAX = 1000
"""Topics remembered as missing."""
CLOSE_TIMEOUT_S = 5.0

# The library reports each attempt of its own; what matters of it is in the errors raised here.
logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _split_brokers(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


class SaslConfig(Model):
    """How the sink logs in."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """What the server asks for; `PLAIN` sends the password itself, so use it with `tls`."""
    username: str
    """Name of the user."""
    password: SecretStr
    """Password of the user."""


class KafkaConfig(ConnectorConfig):
    """Options of the `kafka` sink."""

    brokers: Annotated[tuple[str, ...], BeforeValidator(_split_brokers), Field(min_length=1)]
    """Some brokers of the cluster, `host:port`; the others are found through them."""
    topic: str
    """Template of the topic; it must begin with text of its own unless `allow_unconfined` is set."""
    key: str | None = None
    """Template of the key; the client's id unless set. A lone placeholder without a value gives no key."""
    value: str | None = None
    """Template of the value; the whole row as JSON unless set."""
    headers: Annotated[dict[str, str], Field(default_factory=dict)]
    """Templates of headers by name."""
    timestamp: str | None = None
    """Template of the time in milliseconds; the time the message came unless set."""
    acks: Literal["all", 1] = "all"
    """Who must have a batch before it counts as delivered: all replicas in sync, or the leader alone."""
    idempotent: bool | None = None
    """Store once what the connection had to send twice; unless set, on with `acks: all`, which it needs."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    """How batches are compressed."""
    batch_bytes: Size = 896 << 10
    """Most bytes in a batch of one partition, below what the brokers take (`max.message.bytes`)."""
    max_message_bytes: Size = 1 << 20
    """A larger message is rejected without being sent."""
    metadata_max_age: Duration = 300.0
    """How long it may take to notice new brokers and partitions."""
    on_unknown_topic: Literal["hold", "reject", "create"] | None = None
    """What happens to records of a topic that is not there. Unless set, a fixed topic holds the sink, and a rendered
    one is tried for 30 s before its records are rejected. `create` makes it with the cluster's defaults."""
    allow_unconfined: bool = False
    """Allow a topic that is decided by the message alone."""
    client_id: str = "headgate"
    """Name shown in the brokers' logs and quotas."""
    sasl: SaslConfig | None = None
    """How to log in; not at all unless set."""
    tls: TlsConfig | None = None
    """How the connection is secured; not at all unless set."""


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
        _check_options(config)
        self._where = f"Kafka at {','.join(config.brokers)}"
        self._composer = _composer(config)
        self._sender = Sender(self._where, self._lend)
        self._on_unknown = config.on_unknown_topic or ("hold" if self._composer.fixed_topic else "reject")
        self._missing: dict[str, tuple[float, float]] = {}
        """Topics that are not there: when that was first and last seen, by the monotonic clock."""
        self._link: Link | None = None
        self._changing = asyncio.Lock()
        self._tasks = Tasks(f"sink {context.sink_id}")
        self._ending: dict[asyncio.Task[None], Link] = {}

    async def connect(self) -> None:
        async with self._changing:
            old, self._link = self._link, None
            if old is not None:
                self._end(old.retire(self.config.request_timeout), old)
            self._missing.clear()
            self._link = link = await self._open()
        if self._composer.fixed_topic is not None:
            async with link.use():
                await self._need_topic(link, self._composer.fixed_topic)

    async def write(self, batch: Batch) -> Mapping[int, DeliveryError] | None:
        failures: dict[int, DeliveryError] = {}
        try:
            async with asyncio.timeout(self.config.request_timeout):
                await self._sender.send(await self._queues(batch, failures), failures)
        except TimeoutError as error:
            self._give_up_doubtful()
            limit = self.config.request_timeout
            raise NotConnectedError(f"{self._where} confirmed nothing within {limit:g} s", code="timeout") from error
        except (asyncio.CancelledError, NotConnectedError):
            self._give_up_doubtful()
            raise
        answer = verdict(batch, failures)
        if isinstance(answer, DeliveryError):
            raise answer
        return answer

    async def close(self) -> None:
        async with self._changing:
            self._give_up()
        for link in self._ending.values():
            link.hurry()
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_TIMEOUT_S)
        await self._tasks.cancel()

    async def _open(self) -> Link:
        config: KafkaConfig = self.config
        own = {
            "acks": config.acks,
            "enable_idempotence": config.idempotent is not False and config.acks == "all",
            "compression_type": None if config.compression == "none" else config.compression,
            "max_batch_size": config.batch_bytes,
        }
        try:
            return await Link.open(own, _client_options(config, self.context), config.connect_timeout)
        except TimeoutError as error:
            raise NotConnectedError(f"{self._where} does not answer", code="timeout") from error
        except (KafkaError, OSError) as error:
            reason = classify(error, self._where)
            if isinstance(reason, RetryableError):
                reason = NotConnectedError(reason.message, code=reason.code)
            raise reason from error

    async def _lend(self) -> Link:
        """The link to send over; a new one in place of one that is spent."""
        async with self._changing:
            link = self._link
            if link is None:
                raise NotConnectedError(f"{self._where} is not connected")
            if link.is_spent:
                self._link = await self._open()
                self._end(link.retire(self.config.request_timeout), link)
                return self._link
            return link

    def _give_up(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            self._end(link.abandon(), link)

    def _give_up_doubtful(self) -> None:
        """End producers that a batch was left with: they would send it whenever they can, after it went another way."""
        for link in self._ending.values():
            if link.is_doubtful:
                link.hurry()
        if self._link is not None and self._link.is_doubtful:
            self._give_up()

    def _end(self, ending: Coroutine[Any, Any, None], link: Link) -> None:
        task = self._tasks.spawn(ending, "end a producer")
        self._ending[task] = link
        task.add_done_callback(self._ending.pop)

    async def _queues(self, batch: Batch, failures: dict[int, DeliveryError]) -> Queues:
        """The messages of `batch` by partition; those whose topic is not there go to `failures`, or raise."""
        fixed = self._composer.fixed_topic
        topics = None if fixed is not None else self._composer.topics(batch, failures)
        counts: dict[str, int] = {}
        link = await self._lend()
        async with link.use():
            for topic in [fixed] if topics is None else dict.fromkeys(topics):
                if topic is None:
                    continue
                try:
                    counts[topic] = link.partition_count(topic) or await self._need_topic(link, topic)
                except DeliveryError as error:
                    if topics is None:
                        raise
                    failures.update((index, error) for index, each in enumerate(topics) if each == topic)
        return self._composer.queues(batch, topics, counts, failures)

    async def _need_topic(self, link: Link, topic: str) -> int:
        """Find a topic, or create it where the options say so: its partitions. Raises what else is to be done."""
        now = self.context.clock.monotonic()
        first, last = self._missing.get(topic, (now, now - LOOK_AGAIN_S))
        if now - last >= LOOK_AGAIN_S:
            try:
                if await self._find_topic(link, topic):
                    self._missing.pop(topic, None)
                    return link.partition_count(topic)
            except (KafkaError, OSError) as error:
                raise classify(error, f"{self._where}, topic {topic}") from error
            if len(self._missing) >= MISSING_MAX:
                self._missing.clear()
            self._missing[topic] = (first, now)
        message = f"{self._where} has no topic {topic}"
        if self._on_unknown != "reject":
            raise HoldError(f"{message}; create it, or set `on_unknown_topic`", code="unknown_topic")
        if now - first < REJECT_AFTER_S:
            raise RetryableError(message, code="unknown_topic")
        raise RejectError(message, code="unknown_topic")

    async def _find_topic(self, link: Link, topic: str) -> bool:
        if await link.find_topic(topic, FIND_TOPIC_S):
            return True
        if self._on_unknown != "create":
            return False
        await create_topic(topic, _client_options(self.config, self.context))
        return await link.find_topic(topic, FIND_TOPIC_S)


def _client_options(config: KafkaConfig, context: SinkContext) -> dict[str, Any]:
    """What a producer and an administrative client both need to reach the cluster."""
    options: dict[str, Any] = {
        "bootstrap_servers": list(config.brokers),
        "client_id": config.client_id,
        "request_timeout_ms": max(1, round(config.request_timeout * 1000)),
        "metadata_max_age_ms": max(1, round(config.metadata_max_age * 1000)),
        "security_protocol": f"{'SASL_' if config.sasl else ''}{'SSL' if config.tls else 'PLAINTEXT'}",
    }
    if config.sasl is not None:
        options["sasl_mechanism"] = config.sasl.mechanism
        options["sasl_plain_username"] = config.sasl.username
        options["sasl_plain_password"] = config.sasl.password.get_secret_value()
    if config.tls is not None:
        options["ssl_context"] = config.tls.context(context.base_dir)
    return options


def _composer(config: KafkaConfig) -> Composer:
    def optional(text: str | None, kind: Literal["text", "payload"]) -> Template | None:
        return None if text is None else Template.compile(text, kind=kind)

    return Composer(
        topic=Template.compile(config.topic, kind="kafka_topic", allow_unconfined=config.allow_unconfined),
        key=optional(config.key, "text"),
        value=optional(config.value, "payload"),
        headers={name: Template.compile(text, kind="header") for name, text in config.headers.items()},
        timestamp=optional(config.timestamp, "text"),
        message_bytes_max=config.max_message_bytes,
    )


def _check_options(config: KafkaConfig) -> None:
    if config.idempotent and config.acks != "all":
        raise ConfigError("`idempotent` needs `acks: all`", remedy="leave one of the two out")
    for broker in config.brokers:
        if not re.fullmatch(r"\S+:\d{1,5}", broker):
            raise ConfigError(f"{broker!r} is not the address of a broker", remedy="write host:port")
    if config.tls is not None and config.tls.server_name is not None:
        raise ConfigError("`tls.server_name` does not work for Kafka", remedy="list the brokers by the names they have")
