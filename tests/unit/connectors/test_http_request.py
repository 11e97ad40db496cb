"""The shared HTTP session, used as a sink of a line protocol would use it: its own URL, statuses and error bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from multidict import CIMultiDict

from connectors._shared.request import HttpSession, Origin, SessionOptions
from connectors._shared.response import HttpResponse, StatusClasses
from connectors._shared.tls import TlsConfig
from engine.connector import Deadline
from engine.errors import ConfigError, HoldError, NotConnectedError, RejectError, RetryableError, SplitError
from engine.service.clock import SystemClock
from support.http_server import Behaviour, RecordingServer

NOW_MS = 1_769_868_000_000  # 2026-01-31 14:00:00 UTC


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RecordingServer]:
    server = RecordingServer(tmp_path / "records.jsonl")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def session(server: RecordingServer, tmp_path: Path) -> AsyncIterator[HttpSession]:
    """A session that is connected to the server."""
    session = new_session(server.url, tmp_path)
    await session.connect()
    yield session
    await session.close()


def new_session(url: str, folder: Path) -> HttpSession:
    headers = {"Content-Type": "application/json", "Authorization": "Token s3cret"}
    options = SessionOptions(base_dir=folder, headers=headers, connect_timeout=5.0, tls=TlsConfig())
    return HttpSession(Origin.of(url), options)


def answer(status: int, body: bytes = b"", retry_after: str = "") -> HttpResponse:
    return HttpResponse("db.plant", status, "", CIMultiDict({"Retry-After": retry_after}), body)


async def test_response_has_status_and_body(session: HttpSession, server: RecordingServer) -> None:
    """A sink reads the lines at fault from the body of a partial write."""
    server.behaviour = Behaviour(mode="status", status=422, body="line 2: bad type")
    response = await session.send("POST", f"{server.url}/write?bucket=a", b"[]", Deadline(SystemClock(), 10.0))
    assert (response.status, response.body, response.cut) == (422, b"line 2: bad type", None)


async def test_closed_port_is_no_connection_and_shows_no_secret(server: RecordingServer, tmp_path: Path) -> None:
    """Reasons are stored and printed; the URL may have a token in its query."""
    session = new_session(server.url, tmp_path)
    await session.connect()
    await server.stop()
    with pytest.raises(NotConnectedError) as caught:
        await session.send("POST", f"{server.url}/write?token=s3cret", b"x", Deadline(SystemClock(), 5.0))
    assert "s3cret" not in caught.value.message
    await session.close()


async def test_session_that_is_closed_asks_for_a_connect(server: RecordingServer, tmp_path: Path) -> None:
    """A lane connects again after `NotConnectedError`."""
    with pytest.raises(NotConnectedError):
        await new_session(server.url, tmp_path).send("POST", server.url, b"x", Deadline(SystemClock(), 5.0))


@pytest.mark.parametrize(
    ("status", "records", "expected"),
    [(204, 9, None), (503, 9, RetryableError), (400, 9, SplitError), (400, 1, RejectError), (401, 9, HoldError)],
)
def test_status_decides_the_error(status: int, records: int, expected: type[Exception] | None) -> None:
    """A status that is in no class holds: nothing is known about it."""
    classes = StatusClasses({204: "success", 503: "retry", 400: "reject"})
    error = classes.error(answer(status), records, NOW_MS)
    assert error is None if expected is None else type(error) is expected


def test_cut_off_success_is_its_error() -> None:
    """The outcome is unknown: a proxy may have begun the response."""
    cut = RetryableError("cut")
    response = HttpResponse("db.plant", 204, "", CIMultiDict(), b"", cut)
    assert StatusClasses({204: "success"}).error(response, 1, NOW_MS) is cut


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("Sat, 31 Jan 2026 14:01:00 GMT", 60.0), ("Sat, 31 Jan 2026 13:00:00 GMT", 0.0), ("soon", None)],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    """Both forms of RFC 9110, 10.2.3."""
    error = StatusClasses({503: "retry"}).error(answer(503, retry_after=header), 1, NOW_MS)
    assert isinstance(error, RetryableError)
    assert error.retry_after_s == seconds


def test_retry_after_can_be_ignored() -> None:
    """For servers whose pauses make no sense."""
    classes = StatusClasses({503: "retry"}, respect_retry_after=False)
    error = classes.error(answer(503, retry_after="120"), 1, NOW_MS)
    assert isinstance(error, RetryableError)
    assert error.retry_after_s is None


def test_reason_quotes_a_bounded_line_of_the_body() -> None:
    """A page of HTML, or an escape sequence for a terminal, must not get into a dead letter as it is."""
    text = answer(400, b"bad\x1b[31m\nline " + b"x" * 10_000).described()
    assert text.startswith("db.plant answered 400: bad [31m line xxx")
    assert len(text) < 300


@pytest.mark.parametrize("url", ["ftp://a/b", "https://${host}/in", "https:///in", "http://a:0/in", "https://u:p@a/in"])
def test_origin_must_be_written_out(url: str) -> None:
    """A message must not choose the server that gets the token, and a password belongs into its option."""
    with pytest.raises(ConfigError):
        Origin.of(url)
