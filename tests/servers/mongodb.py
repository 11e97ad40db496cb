"""FerretDB, which speaks MongoDB's protocol and stores into SQLite. It has no users, replica sets or time series."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

from pymongo import AsyncMongoClient
from pymongo.errors import PyMongoError

from servers.install import ferretdb_program
from servers.process import Server, accepts, in_thread, require

USER = "headgate"
PASSWORD = "headgate"


class Mongodb(Server):
    """One server without access control."""

    name: ClassVar[str] = "mongodb"

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)

    @property
    def uri(self) -> str:
        """The address, for a connector or a client."""
        return f"mongodb://{self.host}:{self.port}"

    def prepare(self) -> None:
        require(self.name)
        self._data.mkdir()

    def command(self) -> list[str]:
        return [str(ferretdb_program() or "ferretdb"), f"{self.host}:{self.port}", str(self._data)]

    def is_ready(self) -> bool:
        if not accepts(self.port):
            return False
        try:
            in_thread(self._command("admin", {"ping": 1}))
        except PyMongoError:
            return False
        return True

    def new_database(self) -> str:
        """The name of a database that does not exist yet."""
        return f"test_{next(self._numbers)}"

    def drop_database(self, name: str) -> None:
        """Drop a database."""
        self.run(name, {"dropDatabase": 1})

    def run(self, database: str, command: dict[str, Any]) -> dict[str, Any]:
        """Run a command; its answer."""
        return in_thread(self._command(database, command))

    def find(self, database: str, collection: str) -> list[dict[str, Any]]:
        """The documents of a collection, in the order they were inserted."""
        return in_thread(self._find(database, collection))

    async def _command(self, database: str, command: dict[str, Any]) -> dict[str, Any]:
        async with self._client() as client:
            return await client[database].command(command)

    async def _find(self, database: str, collection: str) -> list[dict[str, Any]]:
        async with self._client() as client:
            return await client[database][collection].find().to_list()

    def _client(self) -> AsyncMongoClient[dict[str, Any]]:
        return AsyncMongoClient(self.uri, serverSelectionTimeoutMS=2000, tz_aware=True)

    @property
    def _data(self) -> Path:
        return self.directory / "data"
