"""The PostgreSQL sink with a real server: types, columns, conflicts, configuration errors, outages."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors import postgresql as module
from connectors.postgresql import PostgresqlSink
from connectors.postgresql.options import PostgresqlConfig
from engine.connector import SinkContext
from engine.errors import (
    ConfigError,
    DeliveryError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.model.record import Row
from servers.postgresql import Postgresql
from support.certificates import make_certificates
from support.sinks import harness
from support.sinks.harness import batch_of

pytestmark = pytest.mark.server("postgresql")

TYPES = yaml.safe_load(Path(__file__).with_name("postgresql_types.yaml").read_text())
TYPES_SETUP = """
    CREATE TYPE mood AS ENUM ('calm', 'tense');
    CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
    CREATE EXTENSION citext;
"""


class Target:
    """One database, and sinks that write to it."""

    def __init__(self, server: Postgresql, database: str, folder: Path) -> None:
        self.server = server
        self.database = database
        self._folder = folder
        self._sinks: list[PostgresqlSink] = []

    def sink(self, **options: Any) -> PostgresqlSink:
        options = {"type": "postgresql", "dsn": self.server.dsn(self.database), "connect_timeout": 2, **options}
        if "sql" not in options:
            options.setdefault("table", "readings")
        sink = PostgresqlSink(PostgresqlConfig.model_validate(options), SinkContext("s", self._folder, self._folder))
        self._sinks.append(sink)
        return sink

    async def connected(self, **options: Any) -> PostgresqlSink:
        sink = self.sink(**options)
        await sink.connect()
        return sink

    def execute(self, sql: str) -> None:
        self.server.execute(sql, database=self.database)

    def values(self, sql: str) -> list[Any]:
        return [tuple(row) if len(row) > 1 else row[0] for row in self.server.fetch(sql, database=self.database)]

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()


@pytest.fixture
async def target(postgresql_server: Postgresql, postgresql_database: str, tmp_path: Path) -> AsyncIterator[Target]:
    target = Target(postgresql_server, postgresql_database, tmp_path)
    yield target
    await target.close()


async def write(sink: PostgresqlSink, *rows: Row) -> dict[int, DeliveryError]:
    return dict(await harness.write(sink, batch_of(list(rows))))


async def held(attempt: Callable[[], Awaitable[object]]) -> str:
    with pytest.raises(HoldError) as caught:
        await attempt()
    return caught.value.message


async def test_values_are_converted_to_the_column_type(target: Target) -> None:
    """Every case is written alone, then all in one batch."""
    target.execute("SET timezone = 'UTC';" + TYPES_SETUP)
    target.execute(f"ALTER DATABASE {target.database} SET timezone = 'UTC'")
    problems = []
    for number, case in enumerate(TYPES):
        target.execute(f"CREATE TABLE t{number} (v {case['column']})")
        failures = await write(await target.connected(table=f"t{number}"), {"v": case["value"]})
        stored = target.values(f"SELECT v::text FROM t{number}")
        reason = failures[0].message if failures else None
        if not fits(case, stored, failures.get(0)):
            problems.append((case, stored, reason))
    assert problems == []


def fits(case: dict[str, Any], stored: list[Any], failure: DeliveryError | None) -> bool:
    if "refused" not in case:
        return failure is None and [value and str(value).rstrip() for value in stored] == [case["stored"]]
    words = case["refused"].split("|")
    return not stored and isinstance(failure, RejectError) and any(each in failure.message for each in words)


async def test_mixed_kinds_of_values_in_one_batch(target: Target) -> None:
    """Conversion by column and conversion by value must have the same result."""
    target.execute("CREATE TABLE readings (n serial, at timestamptz, temp float8, label text, count int)")
    good: list[Row] = [
        {"at": 1_700_000_000_000, "temp": 1, "label": "a", "count": 1},
        {"at": "2023-11-14T22:13:21Z", "temp": 1.5, "label": 2, "count": 2.0},
        {"at": None, "temp": None, "label": None, "count": None},
        {"at": 1_700_000_003, "temp": "2.5", "label": True, "count": "4"},
    ]
    assert await write(await target.connected(), *good) == {}
    expected = [(0.0, 1.0, "a", 1), (1.0, 1.5, "2", 2), (None, None, None, None), (3.0, 2.5, "true", 4)]
    assert (
        target.values("SELECT extract(epoch FROM at)::float8 - 1700000000, temp, label, count FROM readings ORDER BY n")
        == expected
    )


BAD_ROWS: dict[int, Row] = {
    3: {"n": 3, "temp": "warm"},
    250: {"n": 250, "temp": 900.0},
    499: {"n": None, "temp": 1.0},
    500: {"n": 7, "temp": 1.0},
    999: {"n": 999, "temp": 1.0, "room": "attic"},
}
"""Rows at fault by their index: a conversion, a check, a null, a unique key and a foreign key."""


@pytest.mark.parametrize("mode", ["copy", "insert", "upsert"])
async def test_five_bad_rows_among_a_thousand_fail_alone(target: Target, mode: str) -> None:
    """995 rows are stored, and five become dead letters with a reason in words."""
    target.execute(
        "CREATE TABLE rooms (room text PRIMARY KEY); INSERT INTO rooms VALUES ('hall');"
        "CREATE TABLE readings (id serial UNIQUE, n int NOT NULL PRIMARY KEY, temp float8 CHECK (temp < 500), "
        "room text REFERENCES rooms DEFERRABLE INITIALLY DEFERRED)"
    )
    bad = {place: row for place, row in BAD_ROWS.items() if not (mode == "upsert" and place == 500)}
    rows = [{"n": n, "temp": n / 10, "room": "hall"} | bad.get(n, {}) for n in range(1000)]
    options = {"mode": mode, "conflict_key": ["n"]} if mode == "upsert" else {"mode": mode}
    failures = await write(await target.connected(**options), *rows)
    assert sorted(failures) == sorted(bad)
    assert {type(error) for error in failures.values()} == {RejectError}
    said = {place: error.message for place, error in failures.items()}
    assert 'column temp (double precision) can\'t take "warm": not a number' in said[3]
    assert "readings_temp_check" in said[250]
    assert "null value in column" in said[499]
    assert "attic" in said[999]
    assert mode == "upsert" or "already exists" in said[500]
    stored = target.values("SELECT n FROM readings ORDER BY id")
    assert stored == [n for n in range(1000) if n not in bad]


async def test_a_batch_is_stored_in_one_transaction(target: Target) -> None:
    """Readers never see half of a batch, also if rows of it are refused."""
    target.execute("CREATE TABLE readings (n int CHECK (n <> 50), x xid DEFAULT pg_current_xact_id()::xid)")
    await write(await target.connected(), *({"n": n} for n in range(100)))
    assert target.values("SELECT count(*), count(DISTINCT x::text) FROM readings") == [(99, 1)]


async def test_columns_that_rows_lack_get_their_defaults(target: Target) -> None:
    """A missing column gets the table's default, not null."""
    target.execute("CREATE TABLE readings (id serial, n int, unit text DEFAULT 'C', note text)")
    sink = await target.connected()
    assert await write(sink, {"n": 1}, {"n": 2, "unit": "F"}, {"n": 3, "note": "x"}, {"unit": None, "n": 4}) == {}
    assert target.values("SELECT n, unit, note FROM readings ORDER BY id") == [
        (1, "C", None), (2, "F", None), (3, "C", "x"), (4, None, None),
    ]  # fmt: skip


async def test_column_names_match_as_postgresql_folds_them(target: Target) -> None:
    """`deviceId` in a payload and `deviceid` in a table that was created without quotes are the same."""
    target.execute('CREATE TABLE readings (deviceId text, "Temp" float8)')
    assert await write(await target.connected(), {"deviceId": "a", "Temp": 1.5}) == {}
    assert target.values('SELECT deviceid, "Temp" FROM readings') == [("a", 1.5)]


async def test_missing_table_holds_with_the_nearest_name_until_it_is_created(target: Target) -> None:
    """Rows wait until the table is created."""
    target.execute("CREATE TABLE reading (n int)")
    sink = target.sink()
    message = await held(sink.connect)
    assert "there is no table readings" in message
    assert "did you mean reading?" in message
    target.execute("CREATE TABLE readings (n int)")
    await sink.connect()
    assert await write(sink, {"n": 1}) == {}


async def test_unknown_column_holds_at_first_and_is_found_once_added(target: Target) -> None:
    """A rule that does not fit its table is a configuration error: rows wait for its correction."""
    target.execute("CREATE TABLE readings (temp float8)")
    sink = await target.connected()
    message = await held(lambda: write(sink, {"tmp": 1.0}))
    assert "no column tmp; did you mean temp?" in message
    target.execute("ALTER TABLE readings ADD COLUMN tmp float8")
    await sink.connect()
    assert await write(sink, {"tmp": 1.0}) == {}


async def test_unknown_column_of_one_row_rejects_that_row(target: Target) -> None:
    """A device with an odd column must not stop rows that fit the table."""
    target.execute("CREATE TABLE readings (temp float8)")
    sink = await target.connected()
    failures = await write(sink, {"temp": 1.0}, {"temp": 2.0, "tmp": 2.0}, {"temp": 3.0})
    assert list(failures) == [1]
    assert isinstance(failures[1], RejectError)
    assert "no column tmp; did you mean temp?" in failures[1].message
    failures = await write(sink, {"tmp": 4.0})
    assert isinstance(failures[0], RejectError)
    assert target.values("SELECT temp FROM readings ORDER BY temp") == [1.0, 3.0]


async def test_missing_required_column_holds(target: Target) -> None:
    """A required column that no row has is a configuration error."""
    target.execute("CREATE TABLE readings (device text NOT NULL, temp float8)")
    message = await held(lambda: _connect_and_write(target, {"temp": 1.0}))
    assert "no value for the column device" in message


async def _connect_and_write(target: Target, row: Row) -> None:
    await write(await target.connected(), row)


async def test_wrong_password_holds_until_it_is_right(target: Target) -> None:
    """Rows wait, and the reason names the user."""
    target.execute(
        "CREATE TABLE readings (n int); CREATE ROLE dev LOGIN PASSWORD 'right'; GRANT INSERT ON readings TO dev"
    )
    dsn = target.server.dsn(target.database, user="dev", password="other")
    sink = target.sink(dsn=dsn)
    message = await held(sink.connect)
    assert "password authentication failed" in message
    assert "other" not in message
    target.execute("ALTER ROLE dev PASSWORD 'other'")
    await sink.connect()
    assert await write(sink, {"n": 1}) == {}
    target.execute("DROP OWNED BY dev; DROP ROLE dev")


async def test_missing_rights_hold_with_the_missing_grant(target: Target) -> None:
    """Rights are checked at connect."""
    target.execute("CREATE TABLE readings (n int); CREATE ROLE guest LOGIN PASSWORD 'guest'")
    sink = target.sink(dsn=target.server.dsn(target.database, user="guest", password="guest"))
    assert 'GRANT INSERT ON "readings" TO "guest"' in await held(sink.connect)
    target.execute('GRANT INSERT ON "readings" TO "guest"')
    await sink.connect()
    assert await write(sink, {"n": 1}) == {}
    target.execute("DROP OWNED BY guest; DROP ROLE guest")


async def test_missing_database_holds(target: Target) -> None:
    """A missing database holds like a missing table."""
    sink = target.sink(dsn=target.server.dsn("nowhere"))
    assert "create the database" in await held(sink.connect)


async def test_create_table_makes_a_missing_table_once(target: Target) -> None:
    """Two sinks that start at the same time both succeed."""
    for number in range(20):  # how they fail each other depends on the moment
        name = f"made_{number}"
        sinks = [target.sink(table=name, create_table=f"CREATE TABLE {name} (n int)") for _ in range(4)]
        await asyncio.gather(*[sink.connect() for sink in sinks])
        await asyncio.gather(*[sink.close() for sink in sinks])
    assert await write(await target.connected(table="made_0"), {"n": 1}) == {}


async def test_table_of_another_schema(target: Target) -> None:
    """`schema.table` selects the schema."""
    target.execute("CREATE SCHEMA plant; CREATE TABLE plant.readings (n int)")
    assert await write(await target.connected(table="plant.readings"), {"n": 1}) == {}
    assert target.values("SELECT n FROM plant.readings") == [1]


async def test_upsert_keeps_the_last_of_each_key(target: Target) -> None:
    """The last row of a key wins, also within a batch, and columns that a row lacks are unchanged."""
    target.execute("CREATE TABLE readings (device text PRIMARY KEY, temp float8, note text)")
    sink = await target.connected(mode="upsert", conflict_key=["device"])
    await write(sink, {"device": "a", "temp": 1, "note": "x"}, {"device": "b", "temp": 2}, {"device": "a", "temp": 3})
    assert target.values("SELECT * FROM readings ORDER BY device") == [("a", 3.0, "x"), ("b", 2.0, None)]


@pytest.mark.parametrize("mode", ["copy", "insert"])
async def test_repeated_rows_are_stored_once_by_their_key(target: Target, mode: str) -> None:
    """After a cut connection the outcome is unknown; with a key, repeating the batch stores no duplicates."""
    target.execute("CREATE TABLE readings (id serial, n int UNIQUE)")
    sink = await target.connected(mode=mode, conflict_key=["n"])
    assert await write(sink, *({"n": n} for n in range(100))) == {}
    assert await write(sink, *({"n": n} for n in range(50, 150))) == {}
    assert target.values("SELECT n FROM readings ORDER BY n") == list(range(150))


async def test_conflict_key_needs_its_index(target: Target) -> None:
    """Without a unique index the server can't detect existing rows."""
    target.execute("CREATE TABLE readings (n int)")
    assert "no unique index on exactly its conflict_key (n)" in await held(target.sink(conflict_key=["n"]).connect)


async def test_own_statement_binds_its_placeholders(target: Target) -> None:
    """Values are bound, never part of the SQL, and converted to the parameters' types."""
    target.execute("CREATE TABLE readings (device text, temp float8, at timestamptz, raw jsonb)")
    sink = await target.connected(
        sql="INSERT INTO readings VALUES (${device}, ${temp.value} + 1::float8, ${at}, ${temp}) ON CONFLICT DO NOTHING"
    )
    rows: list[Row] = [
        {"device": "x'); DROP TABLE readings; --", "temp": {"value": "20.5"}, "at": 1_700_000_000_000},
        {"device": "b", "temp": {"value": "warm"}, "at": None},
        {"device": "c", "temp": {"value": 1}, "at": "2023-11-14T22:13:20Z"},
    ]
    failures = await write(sink, *rows)
    assert list(failures) == [1]
    assert 'can\'t take "warm"' in failures[1].message
    assert target.values("SELECT device, temp, extract(epoch FROM at)::int FROM readings ORDER BY temp") == [
        ("c", 2.0, 1_700_000_000),
        ("x'); DROP TABLE readings; --", 21.5, 1_700_000_000),
    ]


async def test_own_statement_that_does_not_fit_holds(target: Target) -> None:
    """The statement is checked at connect."""
    assert "nowhere" in await held(target.sink(sql="INSERT INTO nowhere VALUES (${a})").connect)


async def test_rows_a_trigger_refuses_fail_alone(target: Target) -> None:
    """An error of a user's function names no row, which is found by bisection."""
    target.execute(
        "CREATE TABLE readings (n int);"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.n % 40 = 7 THEN RAISE EXCEPTION 'seven of forty: %', NEW.n; END IF; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON readings FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    failures = await write(await target.connected(), *({"n": n} for n in range(100)))
    assert {place: error.message for place, error in failures.items()} == {
        n: f"seven of forty: {n}" for n in (7, 47, 87)
    }
    assert target.values("SELECT count(*) FROM readings") == [97]


async def test_a_column_type_that_changes_is_noticed(target: Target) -> None:
    """ALTER TABLE while rows flow costs a reconnect, not rows."""
    target.execute("CREATE TABLE readings (n int)")
    sink = await target.connected()
    assert await write(sink, {"n": 1}) == {}
    target.execute("ALTER TABLE readings ALTER n TYPE bigint")
    with pytest.raises(NotConnectedError):
        await write(sink, {"n": 2})
    await sink.connect()
    assert await write(sink, {"n": 2**40}) == {}
    assert target.values("SELECT n FROM readings ORDER BY n") == [1, 2**40]


async def test_error_code_of_a_users_function_rejects_the_row(target: Target) -> None:
    """A code of `USING ERRCODE` is about the row, which must not hold the sink."""
    target.execute(
        "CREATE TABLE readings (n int);"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.n = 1 THEN RAISE EXCEPTION 'too warm' USING ERRCODE = 'HG001'; END IF; "
        "IF NEW.n = 2 THEN RAISE EXCEPTION 'too cold' USING ERRCODE = '45000'; END IF; "
        "CASE WHEN NEW.n = 3 THEN CASE WHEN false THEN NULL; END CASE; ELSE NULL; END CASE; RETURN NEW; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON readings FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    failures = await write(await target.connected(), *({"n": n} for n in range(5)))
    assert {place: (type(error), error.message) for place, error in failures.items()} == {
        1: (RejectError, "too warm"), 2: (RejectError, "too cold"), 3: (RejectError, "case not found"),
    }  # fmt: skip
    assert target.values("SELECT n FROM readings ORDER BY n") == [0, 4]


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE readings RENAME temp TO temperature", "ALTER TABLE readings ADD device text NOT NULL"],
    ids=["renamed", "one more"],
)
async def test_table_that_no_longer_accepts_rows_holds(target: Target, change: str) -> None:
    """A failed migration must not turn a backlog into dead letters."""
    target.execute("CREATE TABLE readings (n int, temp float8)")
    sink = await target.connected()
    assert await write(sink, {"n": 1, "temp": 1.0}) == {}
    target.execute(f"DELETE FROM readings; {change}")
    for _ in range(2):
        try:
            await write(sink, {"n": 2, "temp": 2.0}, {"n": 3, "temp": 3.0})
        except (NotConnectedError, HoldError) as error:
            last: DeliveryError = error
            await sink.connect()
        else:
            raise AssertionError("the rows were given up")
    assert isinstance(last, HoldError)
    target.execute("DROP TABLE readings; CREATE TABLE readings (n int, temp float8)")
    await sink.connect()
    assert await write(sink, {"n": 2, "temp": 2.0}, {"n": 3, "temp": 3.0}) == {}


@pytest.mark.parametrize("options", [{}, {"sql": "INSERT INTO readings VALUES (${n})"}], ids=["table", "sql"])
async def test_wider_column_type_is_read_before_rows_are_rejected(
    target: Target, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that did not fit the old type may fit the new one."""
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.0)
    target.execute("CREATE TABLE readings (n int)")
    sink = await target.connected(**options)
    assert await write(sink, {"n": 1}) == {}
    target.execute("ALTER TABLE readings ALTER n TYPE text")
    for _ in range(2):
        try:
            assert await write(sink, {"n": "two"}) == {}
        except NotConnectedError:
            await sink.connect()
    assert "two" in target.values("SELECT n FROM readings")


async def test_batch_of_many_bad_rows_is_split_when_time_runs_short(target: Target) -> None:
    """Each bad row costs round trips; without a split, a batch could overrun its deadline for ever."""
    target.execute("CREATE TABLE readings (n int, i interval, CHECK (n < 0))")
    sink = await target.connected(request_timeout="300ms")
    rows: list[Row] = [{"n": n, "i": "1h"} for n in range(4000)]
    with pytest.raises(SplitError):
        await write(sink, *rows)
    assert sorted(await write(sink, *rows[:10])) == list(range(10))


async def test_rows_go_into_a_view(target: Target) -> None:
    """COPY does not accept a view, INSERT does."""
    target.execute("CREATE TABLE t (n int, unit text); CREATE VIEW readings AS SELECT n FROM t")
    assert await write(await target.connected(), {"n": 1}, {"n": 2}) == {}
    assert target.values("SELECT n FROM t ORDER BY n") == [1, 2]


@pytest.mark.parametrize("mode", ["copy", "insert"])
async def test_identity_takes_a_value_and_a_generated_column_rejects_it(target: Target, mode: str) -> None:
    """A row may have a value for an identity column; one for a generated column rejects the row alone."""
    target.execute(
        "CREATE TABLE readings "
        "(id int GENERATED ALWAYS AS IDENTITY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)"
    )
    sink = await target.connected(mode=mode)
    assert await write(sink, {"n": 1}, {"id": 70, "n": 2}) == {}
    failures = await write(sink, {"n": 3}, {"n": 4, "twice": 8})
    assert {place: error.message for place, error in failures.items()} == {
        1: "the column twice of readings is computed by the database and takes no value"
    }
    assert target.values("SELECT * FROM readings ORDER BY n") == [(1, 1, 2), (70, 2, 4), (2, 3, 6)]


async def test_own_statement_converts_other_types_from_text(target: Target) -> None:
    """`interval`, `inet` and similar types are bound as text."""
    target.execute(
        "CREATE TYPE mood AS ENUM ('1'); CREATE TABLE readings (i interval, p inet, m mood, t timestamptz[])"
    )
    sink = await target.connected(sql="INSERT INTO readings VALUES (${i}, ${p}, ${m}, ${t})")
    good = {"i": "1h 30m", "p": "10.0.0.1", "m": 1, "t": ["2023-11-14T22:13:20Z", 1700000000]}
    failures = await write(sink, good, {**good, "i": "soon"})
    assert list(failures) == [1]
    assert 'type interval: "soon"' in failures[1].message
    assert target.values(
        "SELECT i::text, p::text, m::text, t = '{2023-11-14T22:13:20Z,2023-11-14T22:13:20Z}' FROM readings"
    ) == [("01:30:00", "10.0.0.1/32", "1", True)]


async def test_own_statement_with_other_parameters_holds(target: Target) -> None:
    """A statement with $1 is refused with the remedy to write ${name}."""
    target.execute("CREATE TABLE readings (a text, b text)")
    message = await held(target.sink(sql="INSERT INTO readings VALUES (${a}, $2)").connect)
    assert "none as $1" in message


async def test_a_value_that_the_driver_refuses_names_the_column(target: Target) -> None:
    """The driver's own text is about arguments and sequences, which users do not see."""
    target.execute("CREATE TABLE readings (n float4)")
    failures = await write(await target.connected(mode="insert"), {"n": 1.0}, {"n": 1e300})
    assert failures[1].message == "column n (real) can't take 1e+300: out of range: 4 bytes hold up to 3.4e38"


async def test_hanging_host_does_not_prevent_the_next_one(target: Target) -> None:
    """A machine without power never answers a connect."""
    target.execute("CREATE TABLE readings (n int)")
    with socket.create_server(("127.0.0.1", 0)) as dead:
        hosts = f"127.0.0.1:{dead.getsockname()[1]},{target.server.host}:{target.server.port}"
        dsn = target.server.dsn(target.database).replace(f"{target.server.host}:{target.server.port}", hosts)
        sink = target.sink(dsn=dsn, connect_timeout="500ms")
        with pytest.raises(NotConnectedError):
            await sink.connect()
        await sink.connect()
        assert await write(sink, {"n": 1}) == {}


async def test_missing_writable_host_is_named(target: Target) -> None:
    """The reason names the option."""
    target.execute("CREATE TABLE readings (n int)")
    target.execute(f"ALTER DATABASE {target.database} SET default_transaction_read_only = on")
    with pytest.raises(NotConnectedError, match="no host matches `session_attrs`"):
        await target.sink().connect()


@pytest.mark.parametrize("prepared", [True, False])
async def test_server_killed_in_the_middle_loses_no_row(target: Target, prepared: bool) -> None:
    """`kill -9` of the server while batches flow: each is stored whole, in order, at least once."""
    target.execute("CREATE TABLE readings (id bigserial, n int)")
    sink = await target.connected(prepared_statements=prepared)
    batches = [[{"n": n} for n in range(start, start + 100)] for start in range(0, 5000, 100)]
    killed: asyncio.Task[None] | None = None
    for number, rows in enumerate(batches):
        if number == 20:
            killed = asyncio.get_running_loop().create_task(asyncio.to_thread(target.server.restart))
        await deliver(sink, rows)
        await asyncio.sleep(0.01 if killed and not killed.done() else 0)
    assert killed is not None
    await killed
    stored = target.values("SELECT n FROM readings ORDER BY id")
    assert list(dict.fromkeys(stored)) == list(range(5000))
    assert len(stored) <= 5000 + 100


async def deliver(sink: PostgresqlSink, rows: list[Row]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                assert await write(sink, *rows) == {}
                return
            except (NotConnectedError, RetryableError):
                await asyncio.sleep(0.05)
                try:
                    await sink.connect()
                except NotConnectedError:
                    continue


async def test_hanging_server_is_given_up_in_time(target: Target) -> None:
    """A write ends by its deadline, and its connection is not used again."""
    target.execute("CREATE TABLE readings (n int)")
    sink = await target.connected(request_timeout="500ms", connect_timeout="500ms")
    assert await write(sink, {"n": 1}) == {}
    await asyncio.to_thread(target.server.pause)
    try:
        async with asyncio.timeout(10):
            with pytest.raises((RetryableError, NotConnectedError)):
                await write(sink, {"n": 2})
    finally:
        await asyncio.to_thread(target.server.resume)
    await deliver(sink, [{"n": 3}])
    assert set(target.values("SELECT n FROM readings")) >= {1, 3}


@pytest.fixture(scope="module")
def secure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgresql, Path]]:
    """A server with TLS, and a folder of certificates."""
    folder = make_certificates(tmp_path_factory.mktemp("tls"), "IP:127.0.0.1")
    server = Postgresql()
    try:
        server.start()
        server.stop()
        data = server.directory / "data"
        for name in ("ca.pem", "server.pem", "server.key"):
            shutil.copy(folder / name, data)
            (data / name).chmod(0o600)
            shutil.chown(data / name, data.owner(), data.group())
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(
                "ssl = on\nssl_ca_file = 'ca.pem'\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n"
            )
        server.start()
        server.execute(
            "CREATE FUNCTION peer() RETURNS text LANGUAGE sql AS "
            "$$ SELECT coalesce(client_dn, ssl::text) FROM pg_stat_ssl WHERE pid = pg_backend_pid() $$;"
            "CREATE TABLE readings (n int, peer text DEFAULT peer())"
        )
        yield server, folder
    finally:
        server.remove()


@pytest.mark.parametrize(
    ("tls", "found"),
    [
        (None, "true"),
        ({"ca": "ca.pem"}, "true"),
        ({"ca": "ca.pem", "cert": "client.pem", "key": "client.key", "min_version": "1.3"}, "/CN=client"),
        ({"verify": "none"}, "true"),
        ({"ca": "client.pem"}, "certificate verify failed"),
        ({}, "certificate verify failed"),
        ({"ca": "gone.pem"}, "gone.pem"),
    ],
)
async def test_tls_options_are_applied(
    secure_server: tuple[Postgresql, Path], tls: dict[str, str] | None, found: str
) -> None:
    """Rows and password must not reach another server; without `tls`, TLS is used if it is offered."""
    server, folder = secure_server
    server.execute("TRUNCATE readings")
    target = Target(server, "headgate", folder)
    sink = target.sink(tls=tls)
    try:
        if found in ("true", "/CN=client"):
            await sink.connect()
            assert await write(sink, {"n": 1}) == {}
            assert target.values("SELECT peer FROM readings") == [found]
        else:
            assert found in await held(sink.connect)
    finally:
        await target.close()


async def test_server_without_tls_holds_where_tls_is_required(target: Target) -> None:
    """A password must not be sent in the clear if `tls` is set."""
    assert "correct `tls` or `dsn`" in await held(target.sink(tls={"verify": "none"}).connect)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either `table` or `sql`"),
        ({"table": "t", "sql": "SELECT 1"}, "either `table` or `sql`"),
        ({"table": "t", "mode": "upsert"}, "`conflict_key`"),
        ({"table": "t", "on_conflict": "update"}, "mode: upsert"),
        ({"sql": "SELECT ${a}", "create_table": "CREATE TABLE t (a int)"}, "belong to `table`"),
        ({"sql": " ;"}, "`sql` is empty"),
        ({"table": "t", "dsn": "mysql://x"}, "not an address of PostgreSQL"),
        ({"table": "t", "dsn": None}, "`dsn` or a `host`"),
        ({"table": "t", "tls": {"server_name": "x"}}, "server_name"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    """Options are checked at load time, when file and line are known."""
    given = {"type": "postgresql", "dsn": "postgresql://h/d", **options}
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        PostgresqlSink(PostgresqlConfig.model_validate(given), SinkContext("s", tmp_path, tmp_path))


@pytest.mark.parametrize("password", ["pa/ss", "pa#ss", "pa?ss", "pa?s=s/@x", "p[ass", "1/x"])
def test_ambiguous_dsn_is_refused_without_being_shown(tmp_path: Path, password: str) -> None:
    """The rest of an unescaped password would be shown as host or database."""
    config = PostgresqlConfig.model_validate(
        {"type": "postgresql", "dsn": f"postgresql://dev:{password}@h:5432/plant", "table": "t"}
    )
    with pytest.raises(ConfigError, match="not an address") as caught:
        PostgresqlSink(config, SinkContext("s", tmp_path, tmp_path))
    assert password not in str(caught.value)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://dev:p%2Fs@h:5432/plant?sslmode=require", "postgres://h1:5432,h2/plant", "postgresql://[::1]:5432/d",
        "postgresql:///plant?host=/run/postgresql", "postgresql://dev:p@ss:word@h/plant", "postgresql://[::1]/d",
    ],
)  # fmt: skip
def test_dsn_is_read_as_the_driver_reads_it(tmp_path: Path, dsn: str) -> None:
    """The check must accept all addresses that work."""
    config = PostgresqlConfig.model_validate({"type": "postgresql", "dsn": dsn, "table": "t"})
    PostgresqlSink(config, SinkContext("s", tmp_path, tmp_path))
