"""The collections that a sink writes to: created as time series, or looked for where the server may not create them."""

from __future__ import annotations

from typing import Any

from pymongo import WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from connectors._shared.table import nearest
from connectors.mongodb.document import CODEC_OPTIONS
from connectors.mongodb.options import MongodbConfig, TimeSeriesConfig
from engine.errors import DeliveryError, HoldError, RejectError
from engine.service.clock import Clock

LOOK_AGAIN_S = 5.0
"""Shortest time between two searches for a missing collection."""
NAMES_MAX = 10_000
"""Collections remembered before all are forgotten: rows can name any number of them."""
NAMESPACE_EXISTS = 48


class CollectionCatalog:
    """The collections of one connection."""

    def __init__(
        self, database: AsyncDatabase[Any], config: MongodbConfig, where: str, *, is_fixed: bool, clock: Clock
    ) -> None:
        """`is_fixed` says that the collection is the configuration's, and no record's."""
        self._database = database
        self._where = where
        self._may_create = config.create
        self._time_series = config.time_series
        self._is_fixed = is_fixed
        self._clock = clock
        concern = config.write_concern
        self._write_concern = WriteConcern(w=concern.w, j=concern.j)
        self._collections: dict[str, AsyncCollection[Any]] = {}
        self._missing: dict[str, tuple[float, DeliveryError]] = {}
        """When a missing collection is looked for again, by the monotonic clock, and its error until then."""

    async def get(self, name: str) -> AsyncCollection[Any]:
        """Return a collection that can be written to. Raise `DeliveryError` where it must exist and does not."""
        collection = self._collections.get(name)
        if collection is None:
            await self._prepare(name)
            if len(self._collections) >= NAMES_MAX:
                self._collections.clear()
            collection = self._collections[name] = self._database.get_collection(
                name, codec_options=CODEC_OPTIONS, write_concern=self._write_concern
            )
        return collection

    async def _prepare(self, name: str) -> None:
        if self._may_create:
            if self._time_series is not None:
                await self._create_time_series(name, self._time_series)
            return
        again, error = self._missing.get(name, (0.0, None))
        now = self._clock.monotonic()
        if error is not None and now < again:
            raise error
        if not await self._database.list_collection_names(filter={"name": name}):
            if len(self._missing) >= NAMES_MAX:
                self._missing.clear()
            error = await self._absent(name)
            self._missing[name] = (now + LOOK_AGAIN_S, error)
            raise error
        self._missing.pop(name, None)

    async def _absent(self, name: str) -> DeliveryError:
        if not self._is_fixed:
            return RejectError(f"{self._where} has no collection {name}, which the record names", code="26")
        near = nearest(name, await self._database.list_collection_names())
        return HoldError(f"{self._where} has no collection {name}{near}; create it, or set `create: true`", code="26")

    async def _create_time_series(self, name: str, options: TimeSeriesConfig) -> None:
        series: dict[str, Any] = {"timeField": options.time_field}
        if options.meta_field is not None:
            series["metaField"] = options.meta_field
        if options.granularity is not None:
            series["granularity"] = options.granularity
        command: dict[str, Any] = {"create": name, "timeseries": series}
        if options.expire_after is not None:
            command["expireAfterSeconds"] = int(options.expire_after)
        try:
            await self._database.command(command)
        except OperationFailure as error:
            if error.code != NAMESPACE_EXISTS:
                raise
