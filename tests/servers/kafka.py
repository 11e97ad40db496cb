"""Kafka: one KRaft node with a plain listener and one with SASL."""

from __future__ import annotations

import asyncio
import base64
import shutil
import uuid
from pathlib import Path
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.structs import ConsumerRecord

from servers.install import kafka_jars
from servers.process import Server, accepts, free_port, in_thread, require

USER = "headgate"
PASSWORD = "headgate"

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},SASL_PLAINTEXT://{host}:{sasl_port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port},SASL_PLAINTEXT://{host}:{sasl_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={directory}/data
num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.retention.ms=-1
"""
# Without a limit of age: tests write messages with timestamps of years ago, which retention would delete at any moment.


class Kafka(Server):
    """One node. PLAIN and SCRAM know one user, ``headgate``, whose SCRAM password can be changed while it runs."""

    name: ClassVar[str] = "kafka"

    def __init__(self) -> None:
        super().__init__()
        self.sasl_port = free_port()
        self._controller_port = free_port()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def sasl_address(self) -> str:
        """The listener that wants SASL PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, without TLS."""
        return f"{self.host}:{self.sasl_port}"

    def prepare(self) -> None:
        require(self.name)
        self._configuration.write_text(
            _PROPERTIES.format(
                host=self.host, port=self.port, sasl_port=self.sasl_port, controller_port=self._controller_port,
                directory=self.directory, user=USER, password=PASSWORD,
            )
        )  # fmt: skip
        # An id may begin with a dash, which only this form of the option takes.
        cluster = "--cluster-id=" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        scram = [
            part
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for part in ("--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]")
        ]
        self.run_tool(*self._java("kafka.tools.StorageTool"), "format", cluster, "-c", str(self._configuration), *scram)

    def command(self) -> list[str]:
        return [*self._java("kafka.Kafka", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"), str(self._configuration)]

    def is_ready(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            return in_thread(self._is_ready(), timeout_s=10.0)
        except (OSError, KafkaError, TimeoutError):
            return False

    def create_topic(self, name: str, partitions: int = 4, **options: str) -> str:
        """Create a topic and return its name; `options` are the topic's own settings."""
        in_thread(self._create_topic(name, partitions, options))
        return name

    def delete_topic(self, name: str) -> None:
        in_thread(self._delete_topic(name))

    def read_topic(self, name: str, *, timeout_s: float = 30.0) -> list[ConsumerRecord[bytes, bytes]]:
        """Return all current records of a topic, by partition, in order."""
        return in_thread(self._read_topic(name), timeout_s)

    def set_password(self, password: str) -> None:
        """Change the user's SCRAM passwords while the server runs."""
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
            self.run_tool(
                *self._java("kafka.admin.ConfigCommand"), "--bootstrap-server", self.address, "--alter",
                "--add-config", f"{mechanism}=[password={password}]", "--entity-type", "users", "--entity-name", USER,
            )  # fmt: skip

    async def _is_ready(self) -> bool:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address, request_timeout_ms=5000)
        try:
            await admin.start()
            await admin.list_topics()
        finally:
            await admin.close()
        return True

    async def _create_topic(self, name: str, partitions: int, options: dict[str, str]) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            settings = {option.replace("_", "."): value for option, value in options.items()}
            answer = await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
            for _, code, *reason in answer.topic_errors:
                if code:
                    raise for_code(code)(reason)
            while not await _has_leaders(admin, name):
                await asyncio.sleep(0.05)
        finally:
            await admin.close()

    async def _delete_topic(self, name: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
        await admin.start()
        try:
            await admin.delete_topics([name])
        finally:
            await admin.close()

    async def _read_topic(self, name: str) -> list[ConsumerRecord[bytes, bytes]]:
        consumer: AIOKafkaConsumer[Any, Any] = AIOKafkaConsumer(
            name, bootstrap_servers=self.address, auto_offset_reset="earliest", enable_auto_commit=False,
            isolation_level="read_committed",
        )  # fmt: skip
        await consumer.start()
        try:
            return await _read_to_end(consumer)
        finally:
            await consumer.stop()

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.properties"

    def _java(self, main_class: str, *options: str) -> list[str]:
        return [shutil.which("java") or "java", *options, "-cp", f"{kafka_jars()}/*", main_class]


async def _has_leaders(admin: AIOKafkaAdminClient, topic: str) -> bool:
    """Whether the topic is known everywhere: it is so a moment after it was created."""
    described = await admin.describe_topics([topic])
    return all(
        item["error_code"] == 0 and all(partition["leader"] >= 0 for partition in item["partitions"])
        for item in described
    )


async def _read_to_end(consumer: AIOKafkaConsumer[Any, Any]) -> list[ConsumerRecord[bytes, bytes]]:
    partitions = sorted(consumer.assignment())
    await consumer.seek_to_beginning(*partitions)
    found: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {partition: [] for partition in partitions}
    ends = await consumer.end_offsets(partitions)
    for partition, end in ends.items():
        while await consumer.position(partition) < end:
            for source, records in (await consumer.getmany(timeout_ms=1000)).items():
                found[source] += records
    return [record for partition in partitions for record in found[partition]]
