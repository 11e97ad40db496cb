"""Stores rows as documents in MongoDB, in unordered bulks, with a result for each document.

The row is the document, or `document` makes one of it. Numbers, booleans, null, lists and maps keep their types, bytes
become binary; `types` gives fields the types that JSON does not have. A document that the server refuses, or that BSON
can't hold, becomes a dead letter whose reason names the field; the others are stored.

With `exactly_once`, or an `id` that is the same in each attempt, a document that an earlier attempt has stored counts
as delivered. Without them, an attempt with an unknown outcome may store documents twice. An `id` of `${_id}`, the
number in the journal, begins again when `data_dir` is lost; `exactly_once` also tells the journals apart. `update` and
`upsert` with `$inc` or `$push` may be applied twice.

An error of the configuration (wrong password, missing rights, a collection that must exist) holds the sink.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

import pymongo
from pymongo import AsyncMongoClient

from connectors._shared.identity import journal_identity
from connectors._shared.routing import Routing
from connectors.mongodb.bulk import BulkWrite
from connectors.mongodb.catalog import CollectionCatalog
from connectors.mongodb.errors import connecting, translated
from connectors.mongodb.operations import OperationPlanner
from connectors.mongodb.options import MongodbConfig
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.language.template import Template
from engine.model.record import Batch
from engine.service.tasks import Tasks

CLOSE_TIMEOUT_S = 1.0
"""Longest wait for the server to end the driver's sessions when the sink is closed."""
TIMEOUT_MIN_S = 0.001
"""A timeout of 0 would mean none at all to the driver."""

# At DEBUG the driver logs commands with the documents in them.
logging.getLogger("pymongo").setLevel(logging.WARNING)


class MongodbSink(Sink):
    """Rows to one collection, or to the collections that a template gives, through one client."""

    kind: ClassVar[str] = "mongodb"
    Config: ClassVar[type[ConnectorConfig]] = MongodbConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: mongodb\nuri: "mongodb://headgate:secret@mongo.plant:27017/plant?authSource=admin"\n'
        "collection: readings\nexactly_once: true\ntypes: {at: date}\n",
        'type: mongodb\nuri: "mongodb+srv://plant.abcde.mongodb.net/?retryWrites=true"\nusername: headgate\n'
        'password: secret\ndatabase: plant\ncollection: "readings_${area}"\nid: "${device}-${n}"\n'
        'document: {device: "${device}", temp: "${payload.temp}", at: "${at}"}\ntypes: {at: date}\n',
        'type: mongodb\nuri: "mongodb://a.plant:27017,b.plant:27017/plant?replicaSet=rs0"\ncollection: latest\n'
        'mode: upsert\nfilter: {device: "${device}"}\n'
        'document: {$set: {temp: "${temp}"}, $inc: {count: 1}}\ntls: {ca: ca.pem}\n',
        'type: mongodb\nuri: "mongodb://mongo.plant:27017"\ndatabase: plant\ncollection: series\n'
        "time_series: {time_field: at, meta_field: device, granularity: seconds, expire_after: 90d}\n",
    )

    def __init__(self, config: MongodbConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._where = config.where()
        self._planner = OperationPlanner(config)
        self._routing = Routing(
            Template.compile(config.collection, kind="collection", allow_unconfined=config.allow_unconfined)
        )
        self._client: AsyncMongoClient[Any] | None = None
        self._catalog: CollectionCatalog | None = None
        self._tasks = Tasks(f"sink {context.sink_id}")
        self._opening: asyncio.Future[DeliveryError | None] | None = None
        """The connect under way. It is never cancelled: the driver would leave the socket of its monitor open."""

    async def connect(self) -> None:
        await self._opened()
        self._catalog = None
        if self.config.exactly_once:
            await self._read_identity()
        self._opening = self._tasks.spawn(self._connect(), "connect")
        error = await asyncio.shield(self._opening)
        if error is not None:
            raise error

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        catalog = self._catalog
        if catalog is None:
            raise NotConnectedError(f"{self._where} is not connected")
        groups, failures = self._routing.group(batch)
        with pymongo.timeout(max(TIMEOUT_MIN_S, deadline.left_s())):
            for number, ((name,), indices) in enumerate(groups):
                part = batch if len(indices) == len(batch) else batch.pick(indices)
                try:
                    failures |= (await self._store(catalog, name, part)).moved(indices)
                except DeliveryError as error:
                    failures |= Failures.of(indices, error)
                    if isinstance(error, (NotConnectedError, RetryableError)):
                        # The other collections are on the same server.
                        rest = [index for _, others in groups[number + 1 :] for index in others]
                        failures |= Failures.of(rest, error)
                        break
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        await self._opened()
        self._catalog = None
        await self._drop_client()

    async def _opened(self) -> None:
        """Wait for the connect under way, which ends within `connect_timeout`."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
            self._opening = None

    async def _drop_client(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            # To its end, also if this is cancelled.
            await asyncio.shield(self._tasks.spawn(_close(client), "close"))

    async def _connect(self) -> DeliveryError | None:
        """Connect within `connect_timeout`, and return the error if it fails.

        The client is kept through an outage, since it looks for its servers by itself. Another one reads the files of
        `tls` again.
        """
        config: MongodbConfig = self.config
        try:
            with connecting(self._where):
                if self._client is None:
                    options = config.client_options(self.context.base_dir, self.context.sink_id)
                    self._client = AsyncMongoClient(config.uri.get_secret_value(), **options)
                with pymongo.timeout(config.connect_timeout):
                    self._catalog = await self._open(self._client)
        except NotConnectedError as error:
            return error
        except DeliveryError as error:
            await self._drop_client()
            return error
        return None

    async def _open(self, client: AsyncMongoClient[Any]) -> CollectionCatalog:
        """Log in, and make a fixed collection ready."""
        await client.admin.command("ping")
        config: MongodbConfig = self.config
        fixed = self._routing.constant
        database = client[config.database_name() or ""]
        catalog = CollectionCatalog(database, config, self._where, is_fixed=fixed is not None, clock=self.context.clock)
        if fixed is not None:
            await catalog.get(fixed[0])
        return catalog

    async def _store(self, catalog: CollectionCatalog, name: str, batch: Batch) -> Failures:
        planned = self._planner.plan(batch)
        if not planned.results:
            return planned.failures
        with translated(self._where):
            try:
                collection = await catalog.get(name)
            except RejectError as error:
                return planned.failures | Failures.of(planned.indices, error)
            write = BulkWrite(
                collection,
                self._where,
                is_ordered=self.config.ordered,
                has_own_ids=self._planner.has_own_ids,
            )
            found = await write.store(planned.results)
        return planned.failures | found.moved(planned.indices)

    async def _read_identity(self) -> None:
        try:
            identity = await asyncio.to_thread(journal_identity, self.context.data_dir)
        except OSError as error:
            raise HoldError(f"the identity of the journal can't be read: {error}", code="identity") from error
        self._planner.id_prefix = identity


async def _close(client: AsyncMongoClient[Any]) -> None:
    """Close a client. It first asks the server to end its sessions, which fails soon where the server is away."""
    with pymongo.timeout(CLOSE_TIMEOUT_S):
        await client.close()
