"""Options of the `postgresql` sink."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr

from connectors._shared.tls import TlsConfig
from connectors.postgresql.address import is_address
from connectors.postgresql.table import PostgresTableOptions
from engine.config.units import Duration
from engine.connector import ConnectorConfig
from engine.errors import ConfigError


class PostgresqlConfig(ConnectorConfig):
    """Options of the `postgresql` sink."""

    dsn: SecretStr | None = None
    """Address as a URL, `postgresql://user:password@host:5432/database`. The options below override its parts."""
    host: str | None = None
    """Host name, IP address, or folder of a Unix socket."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Port of the server. Default: 5432."""
    database: str | None = None
    """Name of the database."""
    user: str | None = None
    """User name."""
    password: SecretStr | None = None
    """Password."""
    tls: TlsConfig | None = None
    """TLS of the connection. Default: TLS if the server offers it, without verification."""
    session_attrs: Literal["any", "primary", "read-write"] = "read-write"
    """Required state of the host, of which `dsn` may name several; after a failover they are tried again."""
    pool_size: Annotated[int, Field(ge=1, le=64)] = 4
    """Limit of connections. As many as `lanes` lets all lanes write at once."""
    table: str | None = None
    """The table, or `schema.table` if it is not on the search path. Names are taken as written."""
    mode: Literal["copy", "insert", "upsert"] = "copy"
    """`copy` is fastest, `insert` runs INSERT, `upsert` changes the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns with a unique index that identify a row. A row whose key exists counts as delivered."""
    on_conflict: Literal["update", "nothing"] | None = None
    """Action of `upsert` for a row whose key exists. Default: `update`."""
    create_table: str | None = None
    """Your own CREATE TABLE statement, run if the table is missing."""
    sql: str | None = None
    """Your own statement with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    statement_timeout: Duration = 10.0
    """Time limit of one statement at the server."""
    prepared_statements: bool = True
    """`false` for a PgBouncer that pools transactions; `statement_timeout` must then be set there."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        if (self.table is None) == (self.sql is None):
            raise ConfigError("a postgresql sink needs either `table` or `sql`", remedy="write one of the two")
        if self.mode == "upsert" and not self.conflict_key:
            raise ConfigError("`mode: upsert` needs a `conflict_key`", remedy="name the columns that identify a row")
        if self.on_conflict == "update" and self.mode != "upsert":
            raise ConfigError("`on_conflict: update` belongs to `mode: upsert`", remedy="write `mode: upsert`")
        if self.sql is not None and (self.conflict_key or self.create_table or self.mode != "copy"):
            raise ConfigError(
                "`mode`, `conflict_key` and `create_table` belong to `table`",
                remedy="write ON CONFLICT into `sql`, or use `table` instead",
            )
        if self.dsn is None and self.host is None:
            raise ConfigError("a postgresql sink needs a `dsn` or a `host`", remedy="say where the server is")
        if self.dsn is not None and not is_address(self.dsn.get_secret_value()):
            raise ConfigError(
                "the `dsn` is not an address of PostgreSQL",
                remedy="write postgresql://user:password@host:5432/database; escape in it %2F for /, %23 for #, "
                "%3F for ?, or give `password` apart from it",
            )
        if self.sql is not None and not self.sql.strip(" ;\n"):
            raise ConfigError("`sql` is empty", remedy="write a statement with placeholders, or use `table` instead")
        if self.tls is not None and self.tls.server_name is not None:
            raise ConfigError(
                "`tls.server_name` does not work for PostgreSQL", remedy="give the certificate's name as `host`"
            )

    def table_options(self) -> PostgresTableOptions:
        """Return what `PostgresTable` needs of these options."""
        on_conflict = self.on_conflict or ("update" if self.mode == "upsert" else "nothing")
        return PostgresTableOptions(self.table or "", self.mode, self.conflict_key, on_conflict, self.create_table)
