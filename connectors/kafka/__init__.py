"""Sends rows to Kafka: batches of one partition each, built by the sink and confirmed by all replicas.

A record's key decides its partition, as in every other Kafka client; by default the key is the client's id, so that
what a client sent stays in order. Records of one lane go to one partition one batch after the other. With
`idempotent`, what the connection repeats is stored once; after a restart of Headgate a batch may come twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Coroutine, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from aiokafka.errors import InvalidTopicError, KafkaConnectionError, KafkaError, TopicAuthorizationFailedError
from pydantic import BeforeValidator, Field, SecretStr

from connectors._shared.tls import TlsConfig
from connectors.kafka.errors import classify
from connectors.kafka.link import Link, create_topics
from connectors.kafka.message import Composer, Queues
from connectors.kafka.sending import Sender
from engine.config.model import Model
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import ConfigError, DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.language.template import Template
from engine.language.template.option import templated
from engine.model.record import Batch
from engine.service.tasks import Tasks

FIND_TOPIC_S = 2.0
"""How long a topic may take to be known, as one that was just created does."""
LOOK_AGAIN_S = 5.0
"""A topic that is not there is looked for at most this often."""
REJECT_AFTER_S = 30.0
"""Records of a topic that is not there are retried so long before they are rejected."""
MISSING_MAX = 1000
"""With more topics remembered as missing, those of long ago are forgotten."""
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
    topic: Annotated[str, templated("kafka_topic")]
    """Template of the topic; it must begin with text of its own unless `allow_unconfined` is set."""
    key: Annotated[str, templated("text")] | None = None
    """Template of the key; the client's id unless set. A lone placeholder without a value gives no key."""
    value: Annotated[str, templated("payload")] | None = None
    """Template of the value; the whole row as JSON unless set."""
    headers: dict[str, Annotated[str, templated("header")]] = Field(default_factory=dict)
    """Templates of headers by name."""
    timestamp: Annotated[str, templated("text")] | None = None
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
                missing = await self._missing_topics(link, [self._composer.fixed_topic])
            for error in missing.values():
                raise error

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        failures: dict[int, DeliveryError] = {}
        try:
            async with asyncio.timeout(deadline.left_s()):
                await self._sender.send(await self._queues(batch, failures), failures)
        except TimeoutError as error:
            self._give_up_doubtful()
            message = f"{self._where} did not confirm the batch within {deadline.total_s:g} s"
            raise NotConnectedError(message, code="timeout") from error
        except (asyncio.CancelledError, NotConnectedError):
            self._give_up_doubtful()
            raise
        return Failures(failures).or_raise(len(batch))

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
            if isinstance(error, (KafkaConnectionError, ConnectionResetError)):
                message = f"{self._where} hung up; it may want other `sasl` or `tls` options"
                reason = NotConnectedError(message, code=reason.code)
            elif isinstance(reason, RetryableError):
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
        link = await self._lend()
        async with link.use():
            wanted = list(dict.fromkeys(topic for topic in topics or [fixed] if topic is not None))
            missing = await self._missing_topics(link, wanted)
            if topics is None and missing:
                raise missing[wanted[0]]
            counts = {topic: link.partition_count(topic) for topic in wanted if topic not in missing}
        failures.update(
            (index, missing[topic]) for index, topic in enumerate(topics or ()) if topic and topic in missing
        )
        return self._composer.queues(batch, topics, counts, failures)

    async def _missing_topics(self, link: Link, topics: Sequence[str]) -> Mapping[str, DeliveryError]:
        """Which of `topics` are not there, and what is to be done about each. Looks for all of them at once."""
        unknown = [topic for topic in topics if not link.partition_count(topic)]
        if not unknown:
            return {}
        now = self.context.clock.monotonic()
        due = [
            topic for topic in unknown if topic not in self._missing or now - self._missing[topic][1] >= LOOK_AGAIN_S
        ]
        errors = await self._find(link, due) if due else {}
        absent = [topic for topic in unknown if not link.partition_count(topic)]
        self._remember(set(due), set(absent), now)
        return {topic: errors.get(topic) or self._absent(topic, now) for topic in absent}

    async def _find(self, link: Link, topics: Sequence[str]) -> Mapping[str, DeliveryError]:
        """Look for topics, and create them where the options say so; the errors of what could not be."""
        timeout_s = min(FIND_TOPIC_S, self.config.request_timeout / 4)
        await link.find_topics(topics, timeout_s)
        errors: dict[str, Exception] = {
            topic: TopicAuthorizationFailedError(topic) for topic in topics if link.is_forbidden(topic)
        }
        absent = [topic for topic in topics if not link.partition_count(topic) and topic not in errors]
        if absent and self._on_unknown == "create":
            try:
                errors |= await create_topics(absent, _client_options(self.config, self.context))
            except (KafkaError, OSError) as error:
                errors |= dict.fromkeys(absent, error)
            await link.find_topics([topic for topic in absent if topic not in errors], timeout_s)
        return {topic: self._classified(topic, error) for topic, error in errors.items()}

    def _classified(self, topic: str, error: Exception) -> DeliveryError:
        found = classify(error, f"{self._where}, topic {topic}")
        is_records_fault = isinstance(error, InvalidTopicError) and self._composer.fixed_topic is None
        return RejectError(found.message, code=found.code) if is_records_fault else found

    def _remember(self, looked_for: set[str], absent: set[str], now: float) -> None:
        """When topics were missed; those nobody asks for any more are forgotten, once there are many."""
        for topic in looked_for - absent:
            self._missing.pop(topic, None)
        self._missing |= {topic: (self._missing.get(topic, (now, now))[0], now) for topic in looked_for & absent}
        if len(self._missing) > MISSING_MAX:
            self._missing = {topic: seen for topic, seen in self._missing.items() if now - seen[1] < 2 * REJECT_AFTER_S}

    def _absent(self, topic: str, now: float) -> DeliveryError:
        """What is to be done about a topic that is not there."""
        message = f"{self._where} has no topic {topic}"
        if self._on_unknown != "reject":
            return HoldError(f"{message}; create it, or set `on_unknown_topic`", code="unknown_topic")
        if now - self._missing.get(topic, (now, now))[0] < REJECT_AFTER_S:
            return RetryableError(message, code="unknown_topic")
        return RejectError(message, code="unknown_topic")


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


_BROKER = re.compile(r"[^\s/@]+:\d{1,5}")


def _check_options(config: KafkaConfig) -> None:
    if config.idempotent and config.acks != "all":
        raise ConfigError("`idempotent` needs `acks: all`", remedy="leave one of the two out")
    for broker in config.brokers:
        if not _BROKER.fullmatch(broker) or not 0 < int(broker.rpartition(":")[2]) < 65536:
            raise ConfigError(f"{broker!r} is not the address of a broker", remedy="write host:port")
    if config.tls is not None and config.tls.server_name is not None:
        raise ConfigError("`tls.server_name` does not work for Kafka", remedy="list the brokers by the names they have")
