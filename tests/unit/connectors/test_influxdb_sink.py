"""The influxdb sink and the answers of the write APIs, as their documentation has them."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from engine.connector import Failures
from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.model.record import Row
from support.sinks.harness import NewSink, batch_of, write

SECRET = "s3cret-token"
Answer = tuple[int, Any]
"""Status and body: JSON, or text."""
ACCEPTED: Answer = (204, "")


class WriteServer:
    """A server of write APIs. `answer` decides by the lines of a request; without lines it accepts."""

    def __init__(self) -> None:
        self.answer: Callable[[list[str]], Answer] = lambda lines: ACCEPTED
        self.empty: Answer = ACCEPTED
        self.headers: dict[str, str] = {}
        self.requests: list[tuple[str, list[str]]] = []
        """Path with query, and lines, of each request with lines."""
        self.encodings: list[str | None] = []
        self.logins: list[str | None] = []
        self.stored: list[str] = []
        """Lines of accepted requests."""
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        lines = (await request.read()).decode().splitlines()
        self.logins.append(request.headers.get("Authorization"))
        if lines:
            self.requests.append((request.path_qs, lines))
            self.encodings.append(request.headers.get("Content-Encoding"))
        status, body = self.answer(lines) if lines else self.empty
        if lines and status == 204:
            self.stored += lines
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(status=status, headers=self.headers, text=text)


@pytest.fixture
async def server() -> AsyncIterator[WriteServer]:
    server = WriteServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(params=["1", "2", "3"])
def login(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of each version."""
    return VERSIONS[request.param]


VERSIONS: dict[str, dict[str, Any]] = {
    "1": {"database": "plant", "username": "u", "password": SECRET},
    "2": {"bucket": "plant", "org": "o", "token": SECRET},
    "3": {"database": "plant", "token": SECRET},
}


def options(server: WriteServer, **more: Any) -> dict[str, Any]:
    return {"url": server.url, "measurement": "m", "tags": {"k": "${k}"}, "timestamp": "${n}", **more}


def rows(count: int) -> list[Row]:
    return [{"k": "a", "n": n, "v": n} for n in range(count)]


def line(n: int) -> str:
    return f"m,k=a v={n} {n}"


def reasons(failures: Failures) -> dict[int, str]:
    assert {type(error) for error in failures.values()} <= {RejectError}
    return {index: error.message for index, error in failures.items()}


async def raised(sink: Any, count: int = 3) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await write(sink, batch_of(rows(count)))
    assert SECRET not in caught.value.message
    return caught.value


async def test_batch_is_one_request(new_sink: NewSink, server: WriteServer, login: dict[str, Any]) -> None:
    """All lines of a batch, in order, with the login of the version."""
    sink = await new_sink("influxdb", **options(server, **login))
    assert not await write(sink, batch_of(rows(100)))
    assert server.stored == [line(n) for n in range(100)]
    assert len(server.requests) == 1
    assert set(server.logins) == {sink.config.headers()["Authorization"]}
    assert SECRET not in server.requests[0][0] + repr(sink.config)


async def test_large_bodies_are_compressed(new_sink: NewSink, server: WriteServer) -> None:
    """From `gzip_min` on; the server decompresses what says that it is gzip."""
    sink = await new_sink("influxdb", **options(server, database="plant"))
    assert not await write(sink, batch_of(rows(2)))
    assert not await write(sink, batch_of(rows(5000)))
    assert server.encodings == [None, "gzip"]
    assert len(server.stored) == 5002
    plain = await new_sink("influxdb", **options(server, database="plant", gzip=False))
    assert not await write(plain, batch_of(rows(5000)))
    assert server.encodings[2:] == [None]
    assert gzip.compress(b"x", mtime=0) == gzip.compress(b"x", mtime=0)


HOLDS: list[tuple[str, int, Any, str]] = [
    ("1", 401, {"error": "authorization failed"}, "check `username` and `password`"),
    ("1", 403, {"error": '"u" user is not authorized to write to database "plant"'}, "right to write to plant"),
    ("1", 404, {"error": 'database not found: "plant"'}, "create the database, or correct `database`"),
    ("1", 500, {"error": "retention policy not found: week"}, "correct `retention_policy`"),
    ("2", 401, {"code": "unauthorized", "message": "unauthorized access"}, "check `token`"),
    ("2", 403, {"code": "forbidden", "message": "insufficient permissions for write"}, "right to write to plant"),
    ("2", 404, {"code": "not found", "message": 'bucket "plant" not found'}, "create the bucket, or correct `bucket`"),
    ("2", 404, {"code": "not found", "message": 'organization name "o" not found'}, "correct `org`"),
    ("2", 404, "404 page not found", "check `url` and `version`"),
    ("3", 401, {"error": "the request was not authenticated"}, "check `token`"),
    ("3", 403, {"error": f"token {SECRET} has no right"}, "right to write to plant"),
]


@pytest.mark.parametrize(("version", "status", "body", "remedy"), HOLDS)
async def test_mistakes_of_the_configuration_hold_with_a_remedy(
    new_sink: NewSink, server: WriteServer, version: str, status: int, body: Any, remedy: str
) -> None:
    """At connect, by a request without points, and in writes. The secret is not shown, also where the server does."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS[version]))
    server.answer = lambda lines: (status, body)
    error = await raised(sink)
    assert isinstance(error, HoldError)
    assert remedy in error.message
    assert str(status) in error.message
    server.empty = (status, body)
    with pytest.raises(HoldError) as caught:
        await sink.connect()
    assert remedy in caught.value.message
    assert SECRET not in caught.value.message
    with pytest.raises(NotConnectedError):
        await write(sink, batch_of(rows(1)))


async def test_login_that_is_missing_is_named(new_sink: NewSink, server: WriteServer) -> None:
    """The server only says that something is missing."""
    server.empty = (401, {"error": "unable to parse authentication credentials"})
    sink = await new_sink("influxdb", is_connected=False, **options(server, database="plant"))
    with pytest.raises(HoldError, match="set `token`, or `username` and `password`"):
        await sink.connect()


@pytest.mark.parametrize("status", [400, 422])
async def test_server_that_refuses_requests_without_points_is_good(
    new_sink: NewSink, server: WriteServer, status: int
) -> None:
    """InfluxDB 2 and 3 say so after they have checked login and target."""
    server.empty = (status, {"code": "invalid", "message": "writing requires points"})
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]))
    assert not await write(sink, batch_of(rows(1)))


@pytest.mark.parametrize(("status", "pause"), [(429, "7"), (503, "7"), (500, None), (502, None), (408, None)])
async def test_temporary_failures_are_retried(
    new_sink: NewSink, server: WriteServer, status: int, pause: str | None
) -> None:
    """After the pause that the server asks for."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]))
    server.headers = {"Retry-After": pause} if pause else {}
    server.answer = lambda lines: (status, {"code": "unavailable", "message": "try later"})
    error = await raised(sink)
    assert isinstance(error, RetryableError)
    assert "try later" in error.message
    assert error.retry_after_s == (7.0 if pause else None)


async def test_too_large_requests_are_sent_in_parts(new_sink: NewSink, server: WriteServer) -> None:
    """Down to the one record that is too large alone."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]))
    too_large = (413, {"code": "request too large", "message": "cannot read data: points batch is too large"})
    server.answer = lambda lines: too_large if len(lines) > 10 or line(42) in lines else ACCEPTED
    failures = await write(sink, batch_of(rows(100)))
    assert list(reasons(failures)) == [42]
    assert "too large" in failures[42].message
    assert server.stored == [line(n) for n in range(100) if n != 42]


async def test_lines_that_version_3_lists_are_rejected_each_with_its_reason(
    new_sink: NewSink, server: WriteServer
) -> None:
    """Two requests: the refused one, and the rest. Text fields with line breaks count as one line."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["3"]), fields={"v": "${v}", "t": "${t}"})
    bad = {1: "invalid column type for column 'v', expected float, got string", 3: "another reason"}

    def answer(lines: list[str]) -> Answer:
        if len(server.requests) > 1:
            return ACCEPTED
        data = [
            {"original_line": "m,k=a …", "line_number": index + 1, "error_message": words}
            for index, words in bad.items()
        ]
        return 400, {"error": "partial write of line protocol occurred", "data": data}

    server.answer = answer
    failures = await write(sink, batch_of([{**row, "t": "two\nlines"} for row in rows(5)]))
    assert {index: words in reasons(failures)[index] for index, words in bad.items()} == {1: True, 3: True}
    assert [text for text in server.stored if text.startswith("m,")] == [f'm,k=a v={n},t="two' for n in (0, 2, 4)]
    assert len(server.requests) == 2


async def test_one_line_that_version_3_names_is_rejected(new_sink: NewSink, server: WriteServer) -> None:
    """With `accept_partial=false` or a parse error, `data` is one entry."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["3"]))
    entry = {"original_line": line(2), "line_number": 3, "error_message": "No fields were provided"}
    refused = (400, {"error": "parsing failed for write_lp endpoint", "data": entry})
    server.answer = lambda lines: refused if line(2) in lines else ACCEPTED
    assert "No fields were provided" in reasons(await write(sink, batch_of(rows(5))))[2]
    assert server.stored == [line(n) for n in (0, 1, 3, 4)]


@pytest.mark.parametrize("version", ["1", "2"])
async def test_quoted_lines_are_rejected_each_with_its_reason(
    new_sink: NewSink, server: WriteServer, version: str
) -> None:
    """Versions 1 and 2 quote each line that they can't parse."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS[version]))

    def answer(lines: list[str]) -> Answer:
        found = [f"unable to parse '{text}': bad timestamp" for text in lines if text in (line(3), line(7))]
        words = "partial write: " + "\n".join(found) + " dropped=0"
        return (
            (400, {"error": words} if version == "1" else {"code": "invalid", "message": words}) if found else ACCEPTED
        )

    server.answer = answer
    failures = reasons(await write(sink, batch_of(rows(10))))
    assert {index: "the line can't be parsed: bad timestamp" in text for index, text in failures.items()} == {
        3: True, 7: True,
    }  # fmt: skip
    assert "dropped" not in failures[3]
    assert len(server.requests) == 2


def conflict_answer(lines: list[str]) -> Answer:
    """Answer as InfluxDB 2 does where `v` is a float: it names the first conflict, and counts."""
    bad = [text for text in lines if 'v="' in text]
    words = (
        'failure writing points to database: partial write: field type conflict: input field "v" on measurement "m" '
        f"is type string, already exists as type float dropped={len(bad)}"
    )
    return (422, {"code": "unprocessable entity", "message": words}) if bad else ACCEPTED


async def test_field_type_conflict_rejects_the_records_at_fault(new_sink: NewSink, server: WriteServer) -> None:
    """The answer names the field, the sink finds its records, and the answer to those alone decides."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]), fields={"w": "${w}", "v": "${v}"})
    batch: list[Row] = [{**row, "w": 'so: m v="x", '} for row in rows(500)]
    bad = (0, 77, 78, 300, 499)
    for index in bad:
        batch[index]["v"] = "warm"
    server.answer = conflict_answer
    server_conflict = conflict_answer
    server.answer = lambda lines: server_conflict([text.replace('\\"', "'") for text in lines])
    failures = reasons(await write(sink, batch_of(batch)))
    assert sorted(failures) == list(bad)
    assert all('input field "v" on measurement "m" is type string' in text for text in failures.values())
    assert len({text.rpartition(" ")[2] for text in server.stored}) == 495
    assert len(server.requests) < 30


async def test_batch_that_is_refused_as_a_whole_takes_one_request(new_sink: NewSink, server: WriteServer) -> None:
    """The count says that no point of it is stored."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]))
    server.answer = conflict_answer
    failures = reasons(await write(sink, batch_of([{**row, "v": "warm"} for row in rows(100)])))
    assert len(failures) == 100
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", ["", "no", {"error": "points beyond retention policy dropped=1"}, [1], {"data": [7]}])
async def test_refusal_that_names_nothing_is_bisected(new_sink: NewSink, server: WriteServer, body: Any) -> None:
    """Whatever the answer looks like, one record is found in few requests."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["1"]))
    server.answer = lambda lines: (400, body) if line(33) in lines else ACCEPTED
    assert list(reasons(await write(sink, batch_of(rows(100))))) == [33]
    assert server.stored == [line(n) for n in range(100) if n != 33]
    assert len(server.requests) < 20


async def test_bisection_stops_at_a_failure_that_passes(new_sink: NewSink, server: WriteServer) -> None:
    """Records already rejected keep their verdict; those not confirmed are sent again."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["3"]))
    entry = {"line_number": 1, "error_message": "bad"}
    server.answer = lambda lines: (400, {"error": "x", "data": [entry]}) if line(0) in lines else (503, "later")
    failures = await write(sink, batch_of(rows(4)))
    assert {index: type(error) for index, error in failures.items()} == {
        0: RejectError, 1: RetryableError, 2: RetryableError, 3: RetryableError,
    }  # fmt: skip


async def test_five_bad_records_among_a_thousand_fail_alone(new_sink: NewSink, server: WriteServer) -> None:
    """Records that have no line need no request."""
    sink = await new_sink("influxdb", **options(server, **VERSIONS["2"]))
    batch = rows(1000)
    bad: dict[int, Any] = {0: math.nan, 10: None, 500: math.inf, 501: 10**400, 999: b"\xff"}
    for index, value in bad.items():
        batch[index] = {**batch[index], "v": value}
    failures = reasons(await write(sink, batch_of(batch)))
    assert sorted(failures) == sorted(bad)
    assert all("field" in text for text in failures.values())
    assert len(server.stored) == 995
    assert len(server.requests) == 1


async def test_victoriametrics_gets_no_text(new_sink: NewSink, server: WriteServer) -> None:
    """It would drop text without an error: a point of text alone is a dead letter that says so."""
    sink = await new_sink("influxdb", **options(server, version="victoriametrics", precision="ms"))
    failures = reasons(
        await write(sink, batch_of([{"k": "a", "v": 1, "t": "x", "n": 1}, {"k": "a", "t": "x", "n": 2}]))
    )
    assert server.requests == [("/write?precision=ms", ["m,k=a v=1 1"])]
    assert "VictoriaMetrics stores no text" in failures[1]
