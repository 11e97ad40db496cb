"""Real servers behind a sink called ``readings``, so that one acceptance test covers all of them."""

from __future__ import annotations

import json
import uuid
from typing import Any, Protocol

from servers.influxdb import PASSWORD as INFLUXDB_PASSWORD
from servers.influxdb import USER as INFLUXDB_USER
from servers.influxdb import Influxdb
from servers.kafka import PASSWORD as KAFKA_PASSWORD
from servers.kafka import USER as KAFKA_USER
from servers.kafka import Kafka
from servers.mongodb import Mongodb
from servers.postgresql import Postgresql
from servers.process import Server

StoredRows = list[tuple[str, int]]

EAGER = {"retry": {"initial": "100ms", "max": "1s"}, "health": {"interval": "1s", "timeout": "5s"}}
"""Options of a sink that retries within a second, so that a test need not wait long."""


class Store(Protocol):
    """One place for readings on a real server."""

    @property
    def server(self) -> Server: ...

    @property
    def stores_once(self) -> bool:
        """Whether the sink stores a record once, also where the outcome of an attempt is unknown."""

    def create(self) -> None:
        """Make the table or topic."""

    def sink(self, *, password: str | None = None) -> dict[str, Any]:
        """Return the sink's options, with a wrong `password` where it is given."""

    def rows(self) -> StoredRows:
        """Return device and seq of the stored rows, those of each client in the order in which they were stored."""


class PostgresqlStore:
    """A table in a database of its own. Its column ``seq`` is an integer, so a word in its place is refused."""

    bad_value = "not a number"
    stores_once = False

    def __init__(self, server: Postgresql, database: str) -> None:
        self.server = server
        self._database = database

    def create(self) -> None:
        self.server.execute(
            "CREATE TABLE readings (id bigserial PRIMARY KEY, device text NOT NULL, seq integer, temp float8)",
            database=self._database,
        )

    def sink(self, *, password: str | None = None) -> dict[str, Any]:
        dsn = self.server.dsn(self._database, password=password)
        return {"type": "postgresql", "dsn": dsn, "table": "readings", **EAGER}

    def rows(self) -> StoredRows:
        found = self.server.fetch("SELECT device, seq FROM readings ORDER BY id", database=self._database)
        return [(row["device"], row["seq"]) for row in found]


class InfluxdbStore:
    """A database. The field ``seq`` is a number once the first point is stored, so a text in its place is refused."""

    bad_value = "not a number"
    stores_once = False

    def __init__(self, server: Influxdb) -> None:
        self.server = server
        self._database = f"readings_{uuid.uuid4().hex[:12]}"

    def create(self) -> None:
        self.server.execute(f'CREATE DATABASE "{self._database}"')

    def sink(self, *, password: str | None = None) -> dict[str, Any]:
        return {
            "type": "influxdb", "url": self.server.url, "database": self._database, "username": INFLUXDB_USER,
            "password": password or INFLUXDB_PASSWORD, "measurement": "readings", "tags": {"device": "${device}"},
            **EAGER,
        }  # fmt: skip

    def rows(self) -> StoredRows:
        points = self.server.points("readings", self._database)
        return [(point["device"], int(point["seq"])) for point in points]


class MongodbStore:
    """A collection in a database of its own, which the sink may not create. Integers of 31 digits are refused."""

    bad_value = 10**30
    stores_once = True
    collection = "readings"

    def __init__(self, server: Mongodb, database: str) -> None:
        self.server = server
        self._database = database

    def create(self) -> None:
        self.server.run(self._database, {"create": self.collection})

    def sink(self, *, password: str | None = None) -> dict[str, Any]:
        options = {"type": "mongodb", "uri": self.server.uri, "database": self._database, "create": False, **EAGER}
        options |= {"collection": self.collection, "exactly_once": True}
        return options if password is None else {**options, "username": "headgate", "password": password}

    def rows(self) -> StoredRows:
        found = self.server.find(self._database, self.collection)
        return [(document["device"], document["seq"]) for document in found]


class KafkaStore:
    """A topic with four partitions, keyed by client. A record larger than the topic allows is refused."""

    bad_value = "x" * 200_000
    stores_once = False
    topic_bytes_max = 100_000

    def __init__(self, server: Kafka) -> None:
        self.server = server
        self._topic = f"readings-{uuid.uuid4().hex[:12]}"

    def create(self) -> None:
        self.server.create_topic(self._topic, max_message_bytes=str(self.topic_bytes_max))

    def sink(self, *, password: str | None = None) -> dict[str, Any]:
        options = {"type": "kafka", "brokers": [self.server.address], "topic": self._topic, "key": "${device}", **EAGER}
        if password is not None:
            options |= self._login(password)
        return options

    def sink_with_login(self) -> dict[str, Any]:
        """Return the options for the listener that asks for a password, with the right one."""
        return self.sink(password=KAFKA_PASSWORD)

    def rows(self) -> StoredRows:
        records = [json.loads(record.value or b"") for record in self.server.read_topic(self._topic)]
        return [(record["device"], record["seq"]) for record in records]

    def _login(self, password: str) -> dict[str, Any]:
        return {
            "brokers": [self.server.sasl_address],
            "sasl": {"mechanism": "SCRAM-SHA-256", "username": KAFKA_USER, "password": password},
        }
