"""Stores rows in a PostgreSQL table, TimescaleDB included, by COPY or by a statement of the user's.

Each column of a row goes to the column of its name and is converted to that column's type; `connect` looks at the
table. A batch is one transaction: all of it is stored or nothing. Where a row is at fault the batch is stored again
without it, in one transaction too: COPY names the line that failed, other statements are bisected at savepoints.

What is a mistake of configuration holds the sink, what is one row's fault becomes a dead letter. A name that the table
lacks may be either: until something has been stored it is the former, once rows have been stored it is the row's own.
After a column was renamed, removed or made a must, it is the former again.

Times are RFC 3339 text, or a number since 1970 whose size says whether it counts seconds, milliseconds, microseconds
or nanoseconds; without a time zone they are UTC. Integers may come as digits or as a float without a fraction,
booleans as 0, 1 or words, lists go to arrays. In a JSON column, text that is a JSON object or array is stored as
such, other text as a JSON string. Types beyond these (`inet`, `interval`, those of extensions) are made from text by
the server, which takes INSERT in place of COPY, as a view does. A column that a row lacks gets its default.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import parse_qs, urlsplit

import asyncpg
from pydantic import Field, SecretStr

from connectors._shared.tls import TlsConfig
from connectors.postgresql.errors import connecting, is_drivers_own, is_fault_of_row, translated
from connectors.postgresql.own import OwnStatement
from connectors.postgresql.statement import Copy, Rows, Run, misfits
from connectors.postgresql.table import Table, TableOptions
from connectors.postgresql.types import TUPLE_CODEC_TYPES
from engine.config.units import Duration
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import (
    ConfigError,
    DeliveryError,
    HoldError,
    NotConnectedError,
    RejectError,
    SplitError,
)
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
    Pool = asyncpg.Pool[Any]

PLANS_MAX = 256
"""Sets of columns remembered, one for each that rows come with."""
LOOK_AGAIN_S = 5.0
"""A row that does not fit makes the sink look at the table again, at most this often."""
CLOSE_TIMEOUT_S = 2.0

Values = tuple[Any, ...]


class PostgresqlConfig(ConnectorConfig):
    """Options of the `postgresql` sink."""

    dsn: SecretStr | None = None
    """Address as a URL, `postgresql://user:password@host:5432/database`; the options below override its parts."""
    host: str | None = None
    """Host name, address, or folder of a Unix socket."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the server; 5432 unless set."""
    database: str | None = None
    """Name of the database."""
    user: str | None = None
    """Name to log in with."""
    password: SecretStr | None = None
    """Password to log in with."""
    tls: TlsConfig | None = None
    """How the connection is secured; unless set, TLS where the server offers it, without checking who it is."""
    session_attrs: Literal["any", "primary", "read-write"] = "read-write"
    """Which of several hosts in `dsn` to take; after a failover the one that can be written to is looked for again."""
    pool_size: Annotated[int, Field(ge=1, le=64)] = 4
    """Most connections; as many as `lanes` lets all lanes write at once."""
    table: str | None = None
    """The table, `schema.table` where it is not on the search path; names are taken as written."""
    mode: Literal["copy", "insert", "upsert"] = "copy"
    """`copy` is the fastest; `insert` runs INSERT; `upsert` changes the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns that identify a row, with a unique index. A row that is there already counts as delivered."""
    on_conflict: Literal["update", "nothing"] | None = None
    """What `upsert` does with a row that is there: `update` unless set."""
    create_table: str | None = None
    """A CREATE TABLE statement of your own, run where the table is missing."""
    sql: str | None = None
    """A statement of your own with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    statement_timeout: Duration = 10.0
    """Longest time the server works on one statement."""
    prepared_statements: bool = True
    """`false` behind a PgBouncer that pools transactions; `statement_timeout` is then the pooler's business."""


class PostgresqlSink(Sink):
    """Rows into one PostgreSQL table, through a pool of connections."""

    kind: ClassVar[str] = "postgresql"
    Config: ClassVar[type[ConnectorConfig]] = PostgresqlConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: postgresql\ndsn: "postgresql://headgate:secret@db.plant:5432/plant"\ntable: readings\n',
        "type: postgresql\nhost: db.plant\ndatabase: plant\nuser: headgate\npassword: secret\ntls: {ca: ca.pem}\n"
        "table: metrics.latest\nmode: upsert\nconflict_key: [device]\n",
        "type: postgresql\nhost: db.plant\ndatabase: plant\nuser: headgate\npassword: secret\n"
        'sql: "INSERT INTO readings (device, temp) VALUES (${device}, ${payload.temp}) ON CONFLICT DO NOTHING"\n',
        'type: postgresql\ndsn: "postgresql://headgate@pooler:6432/plant"\nprepared_statements: false\n'
        "table: readings\ncreate_table: CREATE TABLE readings (device text NOT NULL, temp float8, at timestamptz)\n",
    )

    def __init__(self, config: PostgresqlConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        _check_options(config)
        self._where = _address(config)
        self._rows: Rows = _rows(config)
        self._pool: Pool | None = None
        self._turn = 0
        self._looked_at = -LOOK_AGAIN_S
        self._has_stored = False

    async def connect(self) -> None:
        await self.close()
        with connecting(self._where):
            pool = self._make_pool()
            try:
                await pool
                async with pool.acquire() as connection:
                    await self._look(connection)
            except BaseException:
                self._turn += 1
                pool.terminate()
                raise
        self._pool = pool

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._pool is None:
            raise NotConnectedError(f"{self._where} is not connected")
        failures: dict[int, DeliveryError] = {}
        with translated(self._where):
            async with asyncio.timeout(deadline.left_s()), _borrowed(self._pool) as connection:
                runs = await self._fitting(connection, batch, failures)
                await self._store(connection, batch, runs, failures, deadline)
        self._has_stored = self._has_stored or len(failures) < len(batch)
        return Failures(failures)

    async def close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()

    def _make_pool(self) -> Pool:
        config: PostgresqlConfig = self.config
        settings = {"application_name": f"headgate {self.context.sink_id}"}
        if config.prepared_statements:
            settings["statement_timeout"] = str(round(config.statement_timeout * 1000))
        options: dict[str, Any] = {
            "dsn": _dsn(config, self._turn),
            "host": config.host,
            "port": config.port,
            "database": config.database,
            "user": config.user,
            "password": _text(config.password),
            "timeout": config.connect_timeout,
            "command_timeout": config.request_timeout,
            "statement_cache_size": 100 if config.prepared_statements else 0,
            "target_session_attrs": config.session_attrs,
            "server_settings": settings,
        }
        if config.tls is not None:
            options["ssl"] = config.tls.context(self.context.base_dir)
        pool: Pool = asyncpg.create_pool(
            min_size=0, max_size=config.pool_size, init=_prepare_connection, reset=_keep_session, **options
        )
        return pool

    async def _look(self, connection: Connection) -> None:
        self._looked_at = self.context.clock.monotonic()
        if not await self._rows.look(connection):
            self._has_stored = False

    async def _fitting(self, connection: Connection, batch: Batch, failures: dict[int, DeliveryError]) -> Sequence[Run]:
        """The statements for `batch`. Rows that don't fit the table are `failures`; their columns may hold the sink."""
        runs = self._rows.runs(batch, failures)
        now = self.context.clock.monotonic()
        if failures and now - self._looked_at >= LOOK_AGAIN_S:
            self._looked_at = now
            await self._need_unchanged(connection)
        unfit = misfits(failures)
        if len(unfit) == len(batch) and not self._has_stored:
            raise HoldError(unfit[0].message, code=unfit[0].code)
        return runs

    async def _need_unchanged(self, connection: Connection) -> None:
        """Raise `NotConnectedError` where rows are to be looked at anew, by the driver too, which remembers types."""
        if await self._rows.has_changed(connection):
            raise NotConnectedError(f"{self._where}: the table has changed")

    async def _store(
        self,
        connection: Connection,
        batch: Batch,
        runs: Sequence[Run],
        failures: dict[int, DeliveryError],
        deadline: Deadline,
        *,
        is_checked: bool = False,
    ) -> None:
        """Store the rows that can be stored; the others go to `failures`. Ask for smaller batches when late."""
        try:
            await self._store_all(connection, runs)
        except (asyncpg.PostgresError, TypeError, ValueError, OverflowError) as error:
            if is_drivers_own(error) and not is_checked:
                # It could not encode a value: nothing was stored, and a check of each value mends or finds it.
                checked = self._rows.runs(batch, failures, check_all=True)
                await self._store(connection, batch, checked, failures, deadline, is_checked=True)
            elif isinstance(error, asyncpg.PostgresError):
                if not is_fault_of_row(error):
                    raise
                await self._store_without_faults(connection, runs, failures, deadline)
            elif len(batch) > 1:
                raise SplitError(f"the driver can't encode a value: {error}") from error
            else:
                failures[0] = RejectError(f"the driver can't encode a value: {error}")

    async def _store_all(self, connection: Connection, runs: Sequence[Run]) -> None:
        if len(runs) == 1 and (self.config.prepared_statements or isinstance(runs[0].statement, Copy)):
            await runs[0].statement.store(connection, runs[0].rows)
            return
        # A pooler of transactions gives statements outside of one to any server.
        async with connection.transaction():
            for run in runs:
                await run.statement.store(connection, run.rows)

    async def _store_without_faults(
        self, connection: Connection, runs: Sequence[Run], failures: dict[int, DeliveryError], deadline: Deadline
    ) -> None:
        await self._need_unchanged(connection)
        async with connection.transaction():
            # A deferred constraint would otherwise fail at the commit, for all rows.
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            waiting = [run.retried() for run in reversed(runs)]
            while waiting:
                if len(waiting) + len(failures) > 1 and deadline.is_half_over():
                    raise SplitError(f"{self._where} refuses so many rows that the rest would come too late")
                run = waiting.pop()
                try:
                    async with connection.transaction():
                        await run.statement.store(connection, run.rows)
                except asyncpg.PostgresError as error:
                    if not is_fault_of_row(error):
                        raise
                    waiting += reversed(run.without_fault(error, failures))


def _check_options(config: PostgresqlConfig) -> None:
    if (config.table is None) == (config.sql is None):
        raise ConfigError("a postgresql sink needs either `table` or `sql`", remedy="write one of the two")
    if config.mode == "upsert" and not config.conflict_key:
        raise ConfigError("`mode: upsert` needs a `conflict_key`", remedy="name the columns that identify a row")
    if config.on_conflict == "update" and config.mode != "upsert":
        raise ConfigError("`on_conflict: update` belongs to `mode: upsert`", remedy="write `mode: upsert`")
    if config.sql is not None and (config.conflict_key or config.create_table or config.mode != "copy"):
        raise ConfigError(
            "`mode`, `conflict_key` and `create_table` belong to `table`",
            remedy="write ON CONFLICT into `sql`, or use `table` instead",
        )
    if config.dsn is None and config.host is None:
        raise ConfigError("a postgresql sink needs a `dsn` or a `host`", remedy="say where the server is")
    if config.dsn is not None and not _is_address(config.dsn.get_secret_value()):
        raise ConfigError(
            "the `dsn` is not an address of PostgreSQL",
            remedy="write postgresql://user:password@host:5432/database; escape in it %2F for /, %23 for #, %3F for ?, "
            "or give `password` apart from it",
        )
    if config.sql is not None and not config.sql.strip(" ;\n"):
        raise ConfigError("`sql` is empty", remedy="write a statement with placeholders, or use `table` instead")
    if config.tls is not None and config.tls.server_name is not None:
        raise ConfigError(
            "`tls.server_name` does not work for PostgreSQL", remedy="give the certificate's name as `host`"
        )


_HOST = re.compile(r"(?:\[[^\[\]]+\]|[^:\[\]]*)(?::(\d{1,5}))?")


def _is_address(dsn: str) -> bool:
    """Whether all of `dsn` can be what it is meant to be: what follows a bare / of a password would be the database."""
    try:
        parts = urlsplit(dsn)
        parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return False
    hosts = [_HOST.fullmatch(host) for host in parts.netloc.rpartition("@")[2].split(",")]
    are_hosts = all(host is not None and 0 < int(host[1] or 1) < 65536 for host in hosts)
    return parts.scheme in ("postgresql", "postgres") and are_hosts and not parts.fragment and "@" not in parts.path


def _rows(config: PostgresqlConfig) -> Rows:
    if config.sql is not None:
        return OwnStatement(config.sql)
    on_conflict = config.on_conflict or ("update" if config.mode == "upsert" else "nothing")
    return Table(TableOptions(config.table or "", config.mode, config.conflict_key, on_conflict, config.create_table))


def _address(config: PostgresqlConfig) -> str:
    """The server as messages name it; never with a password."""
    parts = urlsplit(config.dsn.get_secret_value() if config.dsn else "")
    hosts = config.host or parts.netloc.rpartition("@")[2] or "localhost"
    place = hosts if config.host is None or config.port is None else f"{hosts}:{config.port}"
    return f"PostgreSQL at {place}/{config.database or parts.path.lstrip('/')}".rstrip("/")


def _dsn(config: PostgresqlConfig, turn: int) -> str | None:
    """The address, each `turn` with another of its hosts first: one that hangs takes the whole time of a connect."""
    dsn = _text(config.dsn)
    parts = urlsplit(dsn or "")
    user, at, text = parts.netloc.rpartition("@")
    hosts = text.split(",")
    if len(hosts) == 1:
        return dsn
    first = turn % len(hosts)
    return parts._replace(netloc=f"{user}{at}{','.join(hosts[first:] + hosts[:first])}").geturl()


def _text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


async def _prepare_connection(connection: Connection) -> None:
    for name in TUPLE_CODEC_TYPES:
        await connection.set_type_codec(name, schema="pg_catalog", encoder=tuple, decoder=tuple, format="tuple")


async def _keep_session(connection: Connection) -> None:
    """Nothing here leaves traces in a session, so that it need not be reset, a round trip each time, between uses."""


@asynccontextmanager
async def _borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool. One whose answer was not waited for is given up: nobody knows what it does."""
    async with pool.acquire() as connection:
        try:
            yield connection
        except (asyncio.CancelledError, TimeoutError, asyncpg.InternalClientError):
            connection.terminate()
            raise
