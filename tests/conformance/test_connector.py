"""The conformance suite of sinks, run for every kind in the registry and against every real target.

``tests/support/sinks/<kind>.py`` has a kind's harness, which reaches, reads, breaks and repairs its target; nothing
here knows any kind. `write` stands for a lane: it sets the deadline, and sends a batch in halves if it is to be split.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import time
import typing
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from connectors import KINDS, load_kind
from engine.connector import ConnectorConfig, Sink, SinkContext
from engine.errors import (
    ConfigError,
    DeliveryError,
    DuplicateError,
    HoldError,
    NotConnectedError,
    RejectError,
    SplitError,
)
from engine.model.record import Batch, Row
from servers.fixtures import SERVER_FIXTURES, in_ci
from support.sinks import harness as harnesses
from support.sinks.harness import Harness, batch_of, sample_row
from support.sinks.hostile import HOSTILE_NAMES, hostile_values

DEADLINE_S = 30.0
"""Limit for a condition to become true; far more than it takes."""

ALL = sorted(KINDS)
WITHOUT_TARGET = {"discard"}
"""Kinds without a target to read back or to break. Their tests are in ``tests/unit/connectors``."""

TARGETS = [
    pytest.param(kind, marks=[pytest.mark.server(kind)] if kind in SERVER_FIXTURES.values() else [])
    for kind in ALL
    if kind not in WITHOUT_TARGET
]


def kind_class(kind: str) -> type[Sink]:
    try:
        return load_kind(kind)
    except ConfigError as error:
        if in_ci():
            raise
        pytest.skip(f"{error.message}: {error.remedy}")


@pytest.fixture(params=TARGETS)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    kind_class(request.param)
    module = importlib.import_module(f"support.sinks.{request.param}")
    harness: Harness = module.open_harness(request, tmp_path)
    await harness.start()
    yield harness
    await harness.stop()


def new_sink(harness: Harness) -> Sink:
    options = harness.options()
    kind = kind_class(options["type"])
    return kind(kind.Config.model_validate(options), harness.context())


@pytest.fixture
async def sink(harness: Harness) -> AsyncIterator[Sink]:
    """A sink that is connected to its target."""
    sink = new_sink(harness)
    await connect(sink)
    yield sink
    await sink.close()


async def connect(sink: Sink) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await sink.connect()


async def write(sink: Sink, batch: Batch) -> dict[int, DeliveryError]:
    """Make one attempt as a lane does. Return failures by sequence number, or raise the error of the whole batch."""
    try:
        async with asyncio.timeout(sink.config.request_timeout + DEADLINE_S):
            failures = await harnesses.write(sink, batch)
    except SplitError as error:
        if len(batch) == 1:
            raise AssertionError("a single record can't be split") from error
        middle = len(batch) // 2
        return {
            **await write(sink, batch.part(0, middle)),
            **await write(sink, batch.part(middle, len(batch))),
        }
    return {batch.seqs[index]: error for index, error in failures.items()}


async def deliver(sink: Sink, batch: Batch) -> None:
    """Repeat attempts until all of `batch` is stored, and connect where an error asks for it."""
    end = time.monotonic() + DEADLINE_S
    while True:
        try:
            failures = await write(sink, batch)
        except DeliveryError as error:
            if time.monotonic() > end:
                raise AssertionError(f"still refused: {error!r}") from error
            if isinstance(error, NotConnectedError | HoldError):
                await try_to_connect(sink)
        else:
            assert not [error for error in failures.values() if not isinstance(error, DuplicateError)]
            return
        await asyncio.sleep(0.05)


async def try_to_connect(sink: Sink) -> DeliveryError | None:
    try:
        await connect(sink)
    except DeliveryError as error:
        return error
    return None


def rows_of(client: str, count: int, start: int = 0) -> list[Row]:
    return [sample_row(client, n) for n in range(start, start + count)]


def comparable(row: Row) -> str:
    return repr(sorted(row.items()))


def of_client(rows: list[Row], client: str) -> list[Row]:
    return [row for row in rows if row["client"] == client]


def without_repeats(rows: list[Row]) -> list[Row]:
    """Return the first of each row: an attempt whose outcome was unknown may have stored it already."""
    return list({comparable(row): row for row in rows}.values())


# What a kind declares


@pytest.mark.parametrize("kind", ALL)
def test_registry_line_leads_to_a_sink_of_that_name(kind: str) -> None:
    """`type:` in connectors.yaml is looked up here and nowhere else."""
    found = kind_class(kind)
    assert issubclass(found, Sink)
    assert found.kind == kind
    assert issubclass(found.Config, ConnectorConfig)


@pytest.mark.parametrize("kind", ALL)
def test_every_kind_is_documented(kind: str) -> None:
    """The module's docstring opens the kind's page in the reference."""
    found = kind_class(kind)
    for described in (inspect.getmodule(found), found, found.Config):
        assert inspect.getdoc(described), f"{described} has no docstring"


@pytest.mark.parametrize("kind", ALL)
def test_examples_load(kind: str, tmp_path: Path) -> None:
    """An example copied from the documentation makes a sink that starts."""
    found = kind_class(kind)
    assert found.EXAMPLES, "a kind shows how it is used"
    for example in found.EXAMPLES:
        options = yaml.safe_load(example)
        assert options["type"] == kind
        found(found.Config.model_validate(options), SinkContext("example", tmp_path, tmp_path / "data"))


@pytest.mark.parametrize("kind", ALL)
def test_unknown_option_is_refused(kind: str) -> None:
    """A typo in an option must not become its default."""
    found = kind_class(kind)
    options = yaml.safe_load(found.EXAMPLES[0])
    with pytest.raises(ValidationError) as caught:
        found.Config.model_validate({**options, "no_such_option": 1})
    assert [error["loc"] for error in caught.value.errors()] == [("no_such_option",)]


@pytest.mark.parametrize("kind", ALL)
def test_every_option_is_documented(kind: str) -> None:
    """The reference is generated from the models' descriptions."""
    undocumented = [
        f"{model.__name__}.{name}"
        for model in models_in(kind_class(kind).Config)
        for name, field in model.model_fields.items()
        if not field.description
    ]
    assert undocumented == []


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Return the models of a type, however they are wrapped in it."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for argument in typing.get_args(annotation):
        yield from models_in(argument)


# How a sink lives


async def test_close_may_be_called_before_connect_and_twice(harness: Harness) -> None:
    """The caller need not know whether the sink was started."""
    sink = new_sink(harness)
    await sink.close()
    await sink.close()
    await connect(sink)
    await sink.close()
    await sink.close()


async def test_connect_and_close_many_times_leaves_a_working_sink(harness: Harness) -> None:
    """A server that comes and goes for a day must not use up descriptors, threads or connections."""
    sink = new_sink(harness)
    for _ in range(10):
        await connect(sink)
        await connect(sink)
        await sink.close()
    await connect(sink)
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    await sink.close()
    assert await harness.rows() == [harness.stored(sample_row("c0", 0))]


async def test_connect_may_be_cancelled(harness: Harness) -> None:
    """A reload or a stop does not wait for a connect under way."""
    sink = new_sink(harness)
    for _ in range(5):
        connecting = asyncio.get_running_loop().create_task(sink.connect())
        await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
    await connect(sink)
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    await sink.close()


async def test_write_without_a_connection_asks_for_one(harness: Harness) -> None:
    """After a close the lane has to connect again, and the error requests it."""
    sink = new_sink(harness)
    with pytest.raises(NotConnectedError):
        await harnesses.write(sink, batch_of([sample_row("c0", 0)]))
    await connect(sink)
    await sink.close()
    with pytest.raises(NotConnectedError):
        await harnesses.write(sink, batch_of([sample_row("c0", 0)]))


async def test_cancelled_write_leaves_a_sink_that_works(harness: Harness, sink: Sink) -> None:
    """The lane cancels a write that overruns its deadline, and sends the batch again."""
    batch = batch_of(rows_of("c0", 200))
    for _ in range(3):
        writing = asyncio.get_running_loop().create_task(deliver(sink, batch))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    await deliver(sink, batch)
    assert without_repeats(await harness.rows()) == [harness.stored(row) for row in batch.rows]


# What a sink stores


async def test_rows_arrive_exact_and_in_order(harness: Harness, sink: Sink) -> None:
    """Values keep their types and digits, and rows their order."""
    rows = rows_of("c0", 1000)
    for start in (0, 1, 2, 500):
        stop = {0: 1, 1: 2, 2: 500, 500: 1000}[start]
        await deliver(sink, batch_of(rows[start:stop], first_seq=start + 1))
    assert await harness.rows() == [harness.stored(row) for row in rows]


async def test_lanes_write_at_once_and_each_keeps_its_order(harness: Harness, sink: Sink) -> None:
    """Lanes write in parallel, and the rows of one client still arrive in order."""

    async def lane(number: int) -> None:
        for start in range(0, 500, 100):
            rows = rows_of(f"c{number}", 100, start)
            await deliver(sink, batch_of(rows, lane=number, first_seq=start + 1, client=f"c{number}"))

    await asyncio.gather(*(lane(number) for number in range(4)))
    found = await harness.rows()
    for number in range(4):
        client = f"c{number}"
        assert of_client(found, client) == [harness.stored(row) for row in rows_of(client, 500)]


async def test_one_bad_row_fails_alone_and_says_why(harness: Harness, sink: Sink) -> None:
    """A poison message must neither stop later ones nor fail its neighbours."""
    if harness.takes_everything:
        pytest.skip("this target takes every row")
    rows = rows_of("c0", 100)
    bad = 37
    rows[bad] = harness.spoiled(rows[bad])
    failures = await write(sink, batch_of(rows))
    assert list(failures) == [bad + 1]
    assert isinstance(failures[bad + 1], RejectError)
    assert failures[bad + 1].message
    assert await harness.rows() == [harness.stored(row) for row in rows if row is not rows[bad]]


async def test_several_bad_rows_fail_alone(harness: Harness, sink: Sink) -> None:
    """Among them the first, the last and two neighbours."""
    if harness.takes_everything:
        pytest.skip("this target takes every row")
    rows = rows_of("c0", 64)
    bad = (0, 30, 31, 63)
    for index in bad:
        rows[index] = harness.spoiled(rows[index])
    failures = await write(sink, batch_of(rows))
    assert sorted(failures) == [index + 1 for index in bad]
    assert all(isinstance(error, RejectError) for error in failures.values())
    good = [row for index, row in enumerate(rows) if index not in bad]
    assert await harness.rows() == [harness.stored(row) for row in good]


async def test_a_bad_row_alone_is_rejected(harness: Harness, sink: Sink) -> None:
    """A single record can't be split further."""
    if harness.takes_everything:
        pytest.skip("this target takes every row")
    failures = await write(sink, batch_of([harness.spoiled(sample_row("c0", 1))]))
    assert len(failures) == 1
    assert all(isinstance(error, RejectError) for error in failures.values())
    assert await harness.rows() == []


async def test_odd_values_are_stored_or_rejected_each_for_itself(harness: Harness, sink: Sink) -> None:
    """An unforeseen error would be retried for minutes, with the whole batch."""
    rows = [
        {**sample_row("c0", n), column: value} for n, value in enumerate(ODD_VALUES) for column in sample_row("c0", n)
    ]
    failures = await write(sink, batch_of(rows))
    assert [error for error in failures.values() if not isinstance(error, RejectError)] == []
    assert all(error.message for error in failures.values())
    assert len(await harness.rows()) == len(rows) - len(failures)
    await deliver(sink, batch_of([sample_row("c1", 0)], first_seq=len(rows) + 1))


async def test_hostile_value_is_the_fault_of_its_own_row_alone(harness: Harness, sink: Sink) -> None:
    """A value that an encoder or driver can't handle must neither delay nor fail the rows around it."""
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    hostile = [
        {**sample_row("c0", 0), column: value}
        for value in hostile_values()
        for column in ("client", "n", "label", "large", "nothing", "place")
    ]
    hostile += [{**sample_row("c0", 0), name: 1} for name in HOSTILE_NAMES]
    rows = [row for n, each in enumerate(hostile, start=1) for row in (each, sample_row("c0", n))]
    failures = await write(sink, batch_of(rows, first_seq=2))
    assert {type(error).__name__ for error in failures.values() if not isinstance(error, RejectError)} == set()
    assert {seq for seq in failures if seq % 2} == set(), "a good row failed with a hostile one"
    assert all(0 < len(error.message) < MESSAGE_CHARACTERS_MAX for error in failures.values())
    assert len(await harness.rows()) == 1 + len(rows) - len(failures)


async def test_batch_of_hostile_values_alone_is_answered(harness: Harness, sink: Sink) -> None:
    """A hostile row without good ones is rejected as well."""
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    for value in hostile_values():
        failures = await write(sink, batch_of([{**sample_row("c0", 1), "place": value}], first_seq=2))
        assert {type(error).__name__ for error in failures.values() if not isinstance(error, RejectError)} == set()


MESSAGE_CHARACTERS_MAX = 1000
"""Reasons are shown in lists and stored with each dead letter."""


def nested(depth: int) -> list[Any]:
    return [nested(depth - 1)] if depth else []


ODD_VALUES: list[Any] = [
    None, False, -1, 2**31, -(2**63) - 1, 10**400, 1e300, float("nan"), float("-inf"), "", "a\0b", "1e400", "x" * 2000,
    b"\xff\x00", b"text", [], [[1], [2, 3]], nested(200), {}, {"": {"a": [b"\xff", None]}}, {"a\0": 10**30},
]  # fmt: skip


# What a sink does when its target is in trouble


async def test_outage_is_reported_and_no_row_is_lost(harness: Harness, sink: Sink) -> None:
    """An outage delays a batch, which is retried until it is stored."""
    before, after = rows_of("c0", 50), rows_of("c0", 50, 50)
    await deliver(sink, batch_of(before))
    await harness.break_off()
    for _ in range(2):
        refused = await refusal(sink, batch_of(after, first_seq=51))
        assert isinstance(refused, harness.outage), repr(refused)
        assert refused.message
    await harness.mend()
    await deliver(sink, batch_of(after, first_seq=51))
    assert without_repeats(await harness.rows()) == [harness.stored(row) for row in before + after]


async def refusal(sink: Sink, batch: Batch) -> DeliveryError:
    """Return the error of a write, or of a connect after it, during an outage. No row may be stored."""
    try:
        failures = await write(sink, batch)
    except DeliveryError as error:
        if isinstance(error, NotConnectedError | HoldError):
            return await try_to_connect(sink) or error
        return error
    assert sorted(failures) == list(batch.seqs), "some of it was stored"
    return next(iter(failures.values()))


async def test_target_may_be_away_at_start(harness: Harness) -> None:
    """Headgate starts before its servers do."""
    await harness.break_off()
    sink = new_sink(harness)
    error = await try_to_connect(sink)
    assert error is None or isinstance(error, harness.outage), repr(error)
    await harness.mend()
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    await sink.close()
    assert without_repeats(await harness.rows()) == [harness.stored(sample_row("c0", 0))]


async def test_misconfiguration_holds_until_it_is_put_right(harness: Harness, sink: Sink) -> None:
    """An error that needs a person must neither be retried at full speed nor drop rows."""
    before, after = rows_of("c0", 20), rows_of("c0", 20, 20)
    await deliver(sink, batch_of(before))
    await harness.misconfigure()
    held = await hold(sink, batch_of(after, first_seq=21))
    assert held.message
    await harness.put_right()
    await deliver(sink, batch_of(after, first_seq=21))
    assert without_repeats(await harness.rows()) == [harness.stored(row) for row in before + after]


async def hold(sink: Sink, batch: Batch) -> HoldError:
    """Return the hold that attempts end in. Attempts before it may find a useless connection."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        error = await refusal(sink, batch)
        if isinstance(error, HoldError):
            return error
        await asyncio.sleep(0.05)
    raise AssertionError(f"never held: {error!r}")


async def test_misconfiguration_at_start_holds(harness: Harness) -> None:
    """The same at the first connect."""
    await harness.misconfigure()
    sink = new_sink(harness)
    error = await try_to_connect(sink)
    if error is None:
        error = await hold(sink, batch_of([sample_row("c0", 0)]))
    assert isinstance(error, HoldError), repr(error)
    await harness.put_right()
    await connect(sink)
    await deliver(sink, batch_of([sample_row("c0", 0)]))
    await sink.close()
    assert without_repeats(await harness.rows()) == [harness.stored(sample_row("c0", 0))]
