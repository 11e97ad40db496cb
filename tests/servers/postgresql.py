"""PostgreSQL: a cluster of its own with one superuser, and databases for tests."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, ClassVar

import asyncpg

from servers.install import postgresql_bin
from servers.process import Server, in_thread, require

USER = "headgate"
PASSWORD = "headgate"
DATABASE = "headgate"


class Postgresql(Server):
    """One server that asks for passwords (SCRAM), as a real one does."""

    name: ClassVar[str] = "postgresql"
    user: ClassVar[str | None] = "postgres"

    def __init__(self) -> None:
        super().__init__()
        self.password = PASSWORD
        self._numbers = itertools.count(1)

    def dsn(self, database: str = DATABASE, *, user: str = USER, password: str | None = None) -> str:
        """The address of `database`, for a connector or a client."""
        return f"postgresql://{user}:{password or self.password}@{self.host}:{self.port}/{database}"

    def prepare(self) -> None:
        require(self.name)
        # The password reaches initdb by a file that the server's user can read.
        password = self.directory / "password"
        password.write_text(self.password)
        password.chmod(0o644)
        self.run_tool(
            self._program("initdb"), "-D", str(self._data), "-U", USER, "-A", "scram-sha-256",
            f"--pwfile={password}", "--no-sync", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip

    def start(self) -> None:
        super().start()
        if not self.fetch("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE, database="postgres"):
            self.create_database(DATABASE)

    def command(self) -> list[str]:
        options = {"listen_addresses": self.host, "port": self.port, "unix_socket_directories": self.directory}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [self._program("postgres"), "-D", str(self._data), *settings]

    def is_ready(self) -> bool:
        try:
            self.fetch("SELECT 1", database="postgres")
        except (TimeoutError, OSError, asyncpg.PostgresError):
            return False
        return True

    def execute(self, sql: str, *, database: str = DATABASE) -> None:
        """Run statements as the superuser."""
        in_thread(self._execute(sql, database))

    def fetch(self, sql: str, *arguments: object, database: str = DATABASE) -> list[asyncpg.Record]:
        """The rows of one query."""
        return in_thread(self._fetch(sql, arguments, database))

    def create_database(self, name: str | None = None) -> str:
        """A new, empty database; its name."""
        name = name or f"test_{next(self._numbers)}"
        self.execute(f'CREATE DATABASE "{name}"', database="postgres")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end its connections."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', database="postgres")

    async def _execute(self, sql: str, database: str) -> None:
        connection = await self._connect(database)
        try:
            await connection.execute(sql)
        finally:
            await connection.close(timeout=5)

    async def _fetch(self, sql: str, arguments: tuple[object, ...], database: str) -> list[asyncpg.Record]:
        connection = await self._connect(database)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close(timeout=5)

    async def _connect(self, database: str) -> asyncpg.Connection[Any]:
        return await asyncpg.connect(self.dsn(database), timeout=5)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _program(self, name: str) -> str:
        folder = postgresql_bin()
        return name if folder is None else str(folder / name)
