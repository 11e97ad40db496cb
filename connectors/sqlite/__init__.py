"""Stores rows in a table of an SQLite database: the embedded default, which needs no server.

Each column of a row goes to the table column of its name. The table is created from the first rows, and columns are
added as later rows bring them, unless that is turned off. SQLite has one writer, so the sink has one thread; batches of
several lanes that wait at the same time share a transaction. A record is delivered once its transaction is committed,
with ``synchronous: full`` once it is on disk.

A row that the table refuses fails alone: the statement is undone, and its rows are sent again one by one. A column that
the table lacks, and must not be given, holds the sink until a row has fitted the table; from then on it is the fault of
its row.

Maps and lists are stored as JSON text, true and false as 1 and 0, bytes as blobs, and integers past 64 bits as their
digits (as a blob in a numeric column, where SQLite would round them). All other conversions follow from the declared
type of the column: text that looks like a number becomes one in a numeric column.
"""

from __future__ import annotations

from typing import ClassVar

from connectors._shared.thread import WriterThread
from connectors.sqlite.database import Database, PendingWrite
from connectors.sqlite.options import SqliteConfig
from connectors.sqlite.statement import OwnStatement
from connectors.sqlite.table import SqliteTable
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import NotConnectedError
from engine.model.record import Batch


class SqliteSink(Sink):
    """Rows into one SQLite table, through a thread that owns the connection."""

    kind: ClassVar[str] = "sqlite"
    Config: ClassVar[type[ConnectorConfig]] = SqliteConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: sqlite\npath: data/readings.db\ntable: readings\n",
        "type: sqlite\npath: data/plant.db\ntable: latest\nmode: upsert\nconflict_key: [device]\n",
        'type: sqlite\npath: data/plant.db\nsql: "INSERT INTO readings (device, t) VALUES (${d}, ${temp.value})"\n',
        "type: sqlite\npath: data/ledger.db\ntable: entries\ncreate_table: false\nexactly_once: true\n",
    )

    def __init__(self, config: SqliteConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._own = None if config.sql is None else OwnStatement(config.sql)
        self._database: Database | None = None
        self._thread: WriterThread[PendingWrite, Failures] | None = None

    async def connect(self) -> None:
        await self.close()
        database = Database(self.config, self.context, self._own or SqliteTable(self.config.table_options()))
        thread = WriterThread(f"sqlite-{self.context.sink_id}", database.write)
        self._database, self._thread = database, thread
        await thread.call(database.open)

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._thread is None:
            raise NotConnectedError("the database is not open")
        return await self._thread.submit((batch, deadline))

    async def close(self) -> None:
        thread, database = self._thread, self._database
        self._thread = self._database = None
        if thread is not None and database is not None:
            await thread.stop(database.close)
