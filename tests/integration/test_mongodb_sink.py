"""The MongoDB sink with a server of its protocol: types, results of each document, modes, exactly once, mistakes.

The server of the tests (FerretDB) has no users, replica sets or time series. Its errors about them come from a proxy,
in the form of the protocol, and for time series the commands are tested that the sink sends.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from connectors.mongodb import MongodbSink
from connectors.mongodb.options import MongodbConfig
from engine.connector import SinkContext
from engine.errors import (
    DeliveryError,
    DuplicateError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
)
from engine.model.record import Row
from engine.testing import FakeClock
from servers.mongodb import Mongodb
from support.mongo_proxy import WRITES, MongoProxy, failure
from support.sinks import harness
from support.sinks.harness import batch_of

pytestmark = pytest.mark.server("mongodb")


class Target:
    """One database, a proxy in front of its server, and sinks that write to it."""

    def __init__(self, server: Mongodb, database: str, proxy: MongoProxy, folder: Path) -> None:
        self.server = server
        self.database = database
        self.proxy = proxy
        self.clock = FakeClock()
        self._folder = folder
        self._sinks: list[MongodbSink] = []

    def sink(self, **options: Any) -> MongodbSink:
        given = {
            "type": "mongodb", "uri": self.proxy.uri, "database": self.database, "collection": "readings",
            "connect_timeout": 2, **options,
        }  # fmt: skip
        context = SinkContext("s", self._folder, self._folder / "data", clock=self.clock)
        sink = MongodbSink(MongodbConfig.model_validate(given), context)
        self._sinks.append(sink)
        return sink

    async def connected(self, **options: Any) -> MongodbSink:
        sink = self.sink(**options)
        await sink.connect()
        return sink

    async def run(self, command: dict[str, Any]) -> dict[str, Any]:
        return await asyncio.to_thread(self.server.run, self.database, command)

    async def documents(self, collection: str = "readings") -> list[dict[str, Any]]:
        return await asyncio.to_thread(self.server.find, self.database, collection)

    async def rows(self, collection: str = "readings") -> list[Row]:
        return [{key: value for key, value in row.items() if key != "_id"} for row in await self.documents(collection)]

    async def close(self) -> None:
        for sink in self._sinks:
            await sink.close()


@pytest.fixture
async def target(mongodb_server: Mongodb, mongodb_database: str, tmp_path: Path) -> AsyncIterator[Target]:
    proxy = MongoProxy(mongodb_server.host, mongodb_server.port)
    await proxy.start()
    target = Target(mongodb_server, mongodb_database, proxy, tmp_path)
    yield target
    await target.close()
    await proxy.stop()


async def write(sink: MongodbSink, *rows: Row, first_seq: int = 1) -> dict[int, DeliveryError]:
    return dict(await harness.write(sink, batch_of(list(rows), first_seq=first_seq)))


async def test_values_are_stored_with_their_exact_types(target: Target) -> None:
    """Everything that a message can hold, and what the options make of it.

    The server of the tests has no decimals; those are tested in ``tests/unit/connectors``, down to their bytes.
    """
    sink = await target.connected(types={"at": "date", "ref": "object_id", "raw": "binary", "place.at": "date"})
    row: Row = {
        "large": 2**53 + 1, "largest": 2**63 - 1, "half": 0.5, "whole": 2.0,
        "yes": True, "null": None, "empty": "", "emoji": "🌡 grüße", "nul": "a\0b", "bytes": b"\xff\0",
        "list": [1, {"a": [2.5, None]}], "map": {"a": {"b": {}}}, "at": "2026-01-02T03:04:05.678Z",
        "ref": "507f1f77bcf86cd799439011", "raw": "AAEC", "place": {"at": 1_700_000_000, "n": 1},
    }  # fmt: skip
    assert await write(sink, row) == {}
    (found,) = await target.rows()
    assert found == {
        **row,
        "at": datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "ref": ObjectId("507f1f77bcf86cd799439011"),
        "raw": b"\0\1\2",
        "place": {"at": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC), "n": 1},
    }
    assert type(found["whole"]) is float
    assert isinstance(found["large"], int)


async def test_five_bad_documents_among_a_thousand_fail_alone(target: Target) -> None:
    """Three are refused by the server, two can't be encoded; each reason names its field."""
    index = {"key": {"serial": 1}, "name": "serial", "unique": True}
    await target.run({"createIndexes": "readings", "indexes": [index]})
    sink = await target.connected()
    rows: list[Row] = [{"n": n, "serial": n} for n in range(1000)]
    rows[3] = {"n": 3, "serial": 2**70}
    rows[250] = {"n": 250, "serial": 249}
    rows[499] = {"n": 499, "serial": 499, "$name": 1}
    rows[500] = {"n": 500, "serial": 500, "label": "\ud800"}
    rows[999] = {"n": 999, "serial": 0}
    failures = await write(sink, *rows)
    assert sorted(failures) == [3, 250, 499, 500, 999]
    assert all(isinstance(error, RejectError) for error in failures.values())
    assert "serial" in failures[3].message
    assert "$name" in failures[499].message
    assert "label" in failures[500].message
    # MongoDB names the index in this message, FerretDB does not.
    assert "duplicate key" in failures[250].message
    assert await target.rows() == [row for n, row in enumerate(rows) if n not in failures]


async def test_ordered_bulk_goes_on_after_each_failure(target: Target) -> None:
    """MongoDB stops at a document that it refuses; those after it are sent again. FerretDB does not stop."""
    sink = await target.connected(ordered=True)
    refused = iter((5, 6, 6))

    def answer(command: Any) -> Any:
        if next(iter(command)) != "insert":
            return None
        index = next(refused)
        return {"ok": 1.0, "n": index, "writeErrors": [{"index": index, "code": 121, "errmsg": "validation failed"}]}

    target.proxy.answer = answer
    failures = await write(sink, *({"n": n} for n in range(20)))
    assert sorted(failures) == [5, 12, 19]
    assert all(isinstance(error, RejectError) for error in failures.values())
    assert [command["ordered"] for command in target.proxy.named("insert")] == [True] * 3


async def test_records_are_stored_once_also_when_the_answer_is_lost(target: Target) -> None:
    """The server has stored the batch, and the connection is cut before it says so."""
    sink = await target.connected(exactly_once=True)
    rows: list[Row] = [{"n": n} for n in range(500)]
    target.proxy.cuts_after.add("insert")
    with pytest.raises(RetryableError, match="outcome is unknown"):
        await write(sink, *rows)
    assert len(await target.documents()) == 500
    failures = await write(sink, *rows, {"n": 500})
    assert sorted(failures) == list(range(500))
    assert all(isinstance(error, DuplicateError) for error in failures.values())
    assert [row["n"] for row in await target.rows()] == list(range(501))


async def test_ids_of_another_journal_are_others(target: Target, tmp_path: Path) -> None:
    """After the loss of data_dir numbers begin again; the new records must not pass for old ones."""
    first = await target.connected(exactly_once=True)
    assert await write(first, {"n": 1}) == {}
    (tmp_path / "data" / "identity").unlink()
    second = await target.connected(exactly_once=True)
    assert await write(second, {"n": 2}) == {}
    assert [row["n"] for row in await target.rows()] == [1, 2]


async def test_own_id_counts_as_stored_before_and_other_keys_do_not(target: Target) -> None:
    """A second unique index is broken by the row, not by an earlier attempt."""
    index = {"key": {"serial": 1}, "name": "serial", "unique": True}
    await target.run({"createIndexes": "readings", "indexes": [index]})
    sink = await target.connected(id="${device}-${n}")
    assert await write(sink, {"device": "d", "n": 1, "serial": 1}) == {}
    failures = await write(
        sink, {"device": "d", "n": 1, "serial": 1}, {"device": "d", "n": 2, "serial": 1}, {"device": None, "n": 3}
    )
    assert sorted(failures) == [0, 1, 2]
    assert isinstance(failures[0], DuplicateError)
    assert isinstance(failures[1], RejectError)
    assert isinstance(failures[2], RejectError)
    without_id = await target.connected()
    failures = await write(without_id, {"_id": "d-1", "serial": 7})
    assert type(failures[0]) is RejectError


async def test_update_upsert_replace_and_delete(target: Target) -> None:
    """One bulk for each batch, in the order of its records."""
    upsert = await target.connected(mode="upsert", filter={"device": "${device}"}, types={"at": "date"})
    assert await write(upsert, {"device": "a", "n": 1}, {"device": "b", "n": 1}, {"device": "a", "n": 2, "at": 0}) == {}
    at = datetime(1970, 1, 1, tzinfo=UTC)
    assert await target.rows() == [{"device": "a", "n": 2, "at": at}, {"device": "b", "n": 1}]
    count = {"$inc": {"count": "${n}"}, "$set": {"last": "${n}"}}
    update = await target.connected(mode="update", filter={"device": "${device}"}, document=count)
    assert await write(update, {"device": "b", "n": 5}, {"device": "b", "n": 6}, {"device": "none", "n": 1}) == {}
    assert (await target.rows())[1] == {"device": "b", "n": 1, "count": 11, "last": 6}
    replace = await target.connected(mode="replace", id="${device}", collection="latest")
    assert await write(replace, {"device": "a", "n": 1}, {"device": "a", "n": 2}) == {}
    assert await target.documents("latest") == [{"_id": "a", "device": "a", "n": 2}]
    delete = await target.connected(mode="delete", filter={"device": "${device}"})
    assert await write(delete, {"device": "a"}, {"device": "none"}) == {}
    assert [row["device"] for row in await target.rows()] == ["b"]


async def test_change_that_the_server_refuses_fails_alone(target: Target) -> None:
    """`$inc` of a text is the fault of its record; the answer is MongoDB's."""
    sink = await target.connected(mode="upsert", id="${device}", document={"$inc": {"count": "${n}"}})
    error = {"index": 1, "code": 14, "errmsg": 'Cannot increment with non-numeric argument: {count: "x"}'}
    partial = {"ok": 1.0, "n": 2, "nModified": 2, "writeErrors": [error]}
    target.proxy.answer = lambda command: partial if next(iter(command)) == "update" else None
    failures = await write(sink, {"device": "a", "n": 1}, {"device": "b", "n": "x"}, {"device": "c", "n": 2})
    assert list(failures) == [1]
    assert isinstance(failures[1], RejectError)
    assert "count" in failures[1].message


async def test_collection_comes_from_the_record(target: Target) -> None:
    """A name that no collection can have rejects its record."""
    sink = await target.connected(collection="area_${area}")
    failures = await write(sink, {"area": "a"}, {"area": "b"}, {"area": "$c"}, {"n": 1}, {"area": "a", "n": 2})
    assert sorted(failures) == [2, 3]
    assert [await target.rows("area_a"), await target.rows("area_b")] == [
        [{"area": "a"}, {"area": "a", "n": 2}],
        [{"area": "b"}],
    ]


async def test_missing_collection_holds_until_it_is_created(target: Target) -> None:
    """Where the server may not create one, a typing error must not make a new collection."""
    await target.run({"create": "reading"})
    sink = target.sink(create=False)
    with pytest.raises(HoldError, match=r"no collection readings; did you mean reading\?"):
        await sink.connect()
    await target.run({"create": "readings"})
    await sink.connect()
    assert await write(sink, {"n": 1}) == {}
    rendered = await target.connected(create=False, collection="read${x}")
    failures = await write(rendered, {"x": "ings"}, {"x": "me"})
    assert {index: type(error) for index, error in failures.items()} == {1: RejectError}
    await target.run({"create": "readme"})
    assert list(await write(rendered, {"x": "me"})) == [0]
    await target.clock.advance(6)
    assert await write(rendered, {"x": "me"}) == {}


async def test_missing_rights_hold_and_a_new_primary_is_waited_for(target: Target) -> None:
    """The server of the tests has neither users nor replica sets: the proxy answers as one that does."""
    sink = await target.connected()
    refusal = failure(13, "not authorized on plant to execute command", "Unauthorized")
    target.proxy.answer = lambda command: refusal if next(iter(command)) in WRITES else None
    with pytest.raises(HoldError, match=r"not authorized.*grant"):
        await write(sink, {"n": 1})
    moved = failure(10107, "not primary", "NotWritablePrimary")
    target.proxy.answer = lambda command: moved if next(iter(command)) in WRITES else None
    with pytest.raises(RetryableError, match="not primary"):
        await write(sink, {"n": 1})
    late = {"ok": 1.0, "n": 1, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    target.proxy.answer = lambda command: late if next(iter(command)) in WRITES else None
    with pytest.raises(RetryableError, match="replication timed out; the outcome is unknown"):
        await write(sink, {"n": 1})
    target.proxy.answer = lambda command: None
    assert await write(sink, {"n": 1}) == {}


async def test_wrong_password_holds_without_being_shown(target: Target) -> None:
    """The proxy refuses the login as MongoDB does."""
    refusal = failure(18, "Authentication failed.", "AuthenticationFailed")
    target.proxy.answer = lambda command: refusal if next(iter(command)).startswith("sasl") else None
    sink = target.sink(
        username="headgate", password="wr0ng/p@ss", uri=f"{target.proxy.uri}/?authMechanism=SCRAM-SHA-256"
    )
    with pytest.raises(HoldError, match="correct the user or the password") as caught:
        await sink.connect()
    assert "wr0ng" not in caught.value.message
    assert caught.value.code == "18"


async def test_commands_carry_write_concern_and_a_time_limit(target: Target) -> None:
    """Confirmation by the majority and its journal, within the deadline of the write."""
    sink = await target.connected(request_timeout=5, write_concern={"w": 2, "j": True})
    target.proxy.answer = lambda command: {"ok": 1.0, "n": 1} if next(iter(command)) in WRITES else None
    assert await write(sink, {"n": 1}) == {}
    (command,) = target.proxy.named("insert")
    assert command["writeConcern"] == {"w": 2, "j": True}
    assert command["ordered"] is False
    assert 0 < command["maxTimeMS"] <= 4500


async def test_time_series_is_created_with_its_options(target: Target) -> None:
    """The server of the tests has no time series, so it is the command that counts; the answer is the proxy's."""
    options = {"time_field": "at", "meta_field": "device", "granularity": "minutes", "expire_after": "1d"}
    sink = target.sink(time_series=options)
    with pytest.raises(HoldError, match="timeseries"):
        await sink.connect()
    exists = failure(48, "Collection already exists", "NamespaceExists")
    target.proxy.answer = lambda command: exists if next(iter(command)) == "create" else None
    await sink.connect()
    command = target.proxy.named("create")[-1]
    assert command["timeseries"] == {"timeField": "at", "metaField": "device", "granularity": "minutes"}
    assert command["expireAfterSeconds"] == 86400
    failures = await write(sink, {"device": "d", "at": "2026-01-02T03:04:05Z"}, {"device": "d"}, {"at": "noon"})
    assert sorted(failures) == [1, 2]
    assert "at" in failures[1].message
    assert [row["at"] for row in await target.rows()] == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]


async def test_hanging_server_is_given_up_by_the_deadline(target: Target) -> None:
    """The driver's own timeouts follow the deadline, so that the sink answers before it is cancelled."""
    sink = await target.connected(request_timeout=1)
    assert await write(sink, {"n": 0}) == {}
    target.server.pause()
    try:
        async with asyncio.timeout(10):
            with pytest.raises((RetryableError, NotConnectedError)):
                await write(sink, {"n": 1})
    finally:
        target.server.resume()


async def test_batch_that_the_server_can_not_read_is_halved(target: Target) -> None:
    """A command that fails as a whole for one document must not fail the others."""
    sink = await target.connected()
    bad = failure(9, "can't parse a document", "FailedToParse")
    sizes: list[int] = []

    def answer(command: Any) -> Any:
        if next(iter(command)) != "insert":
            return None
        sizes.append(len(sizes))
        return bad if len(sizes) in (1, 2, 4) else None

    target.proxy.answer = answer
    failures = await write(sink, *({"n": n} for n in range(4)))
    assert len(sizes) == 5
    assert [type(error) for error in failures.values()] == [RejectError]
    assert len(await target.rows()) == 3


async def test_no_task_is_left_after_close(target: Target) -> None:
    """The driver watches its servers by tasks of its own."""
    before = asyncio.all_tasks()
    sink = await target.connected()
    await write(sink, {"n": 1})
    await sink.close()
    assert {
        task for task in asyncio.all_tasks() - before if "connectors" in repr(task) or "pymongo" in repr(task)
    } == set()


async def test_numbers_that_are_not_finite(target: Target) -> None:
    """The server of the tests refuses them; the option keeps them out."""
    sink = await target.connected(non_finite="null")
    assert await write(sink, {"n": math.nan, "m": [math.inf, 1.0]}) == {}
    assert await target.rows() == [{"n": None, "m": [None, 1.0]}]
