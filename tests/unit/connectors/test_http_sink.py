"""The http sink: its requests, the error class of each response, and order after failures."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError

from engine.connector import Failures
from engine.errors import ConfigError, HoldError, NotConnectedError, RejectError, RetryableError, SplitError
from engine.model.record import Row
from support.certificates import make_certificates
from support.http_server import Behaviour, RecordingServer
from support.sinks.harness import NewSink, batch_of, write


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RecordingServer]:
    server = RecordingServer(tmp_path / "records.jsonl")
    await server.start()
    yield server
    await server.stop()


def numbered(count: int) -> list[Row]:
    return [{"n": n} for n in range(count)]


def numbers(server: RecordingServer) -> list[int]:
    return [each["record"]["n"] for each in server.recorded()]


class TestRequests:
    @pytest.mark.parametrize(("batch_format", "requests"), [("none", 5), ("json_array", 1), ("ndjson", 1)])
    async def test_formats(self, new_sink: NewSink, server: RecordingServer, batch_format: str, requests: int) -> None:
        """The endpoint gets the same records in the same order in every format."""
        sink = await new_sink("http", url=f"{server.url}/in", batch_format=batch_format)
        assert not await write(sink, batch_of(numbered(5)))
        assert numbers(server) == list(range(5))
        assert server.requests == requests

    async def test_url_headers_and_body_come_from_the_row(self, new_sink: NewSink, server: RecordingServer) -> None:
        """Values are encoded for their place, so that no value can change the URL's structure."""
        sink = await new_sink(
            "http", url=f"{server.url}/d/${{id}}/state?site=${{site}}", method="PUT",
            headers={"X-Rule": "${_rule}"}, body='{"t": ${temp}, "by": "${id}"}', idempotency_header="Idempotency-Key",
        )  # fmt: skip
        assert not await write(sink, batch_of([{"id": "a/b?c", "site": "x&y=z", "temp": 1.5}], first_seq=7))
        (recorded,) = server.recorded()
        assert recorded["path"] == "/d/a%2Fb%3Fc/state?site=x%26y%3Dz"
        assert (recorded["method"], recorded["key"]) == ("PUT", "readings-0-7")
        assert recorded["record"] == {"t": 1.5, "by": "a/b?c"}
        assert server.seen_headers[0]["X-Rule"] == "hot"

    async def test_records_of_one_batch_are_grouped_by_url(self, new_sink: NewSink, server: RecordingServer) -> None:
        """There is one request for each URL, and the order within a URL is kept."""
        sink = await new_sink("http", url=f"{server.url}/${{d}}", batch_format="ndjson")
        rows: list[Row] = [{"d": "ab"[n % 2], "n": n} for n in range(6)]
        assert not await write(sink, batch_of(rows))
        assert server.requests == 2
        assert [(each["path"], each["record"]["n"]) for each in server.recorded()] == [
            ("/a", 0), ("/a", 2), ("/a", 4), ("/b", 1), ("/b", 3), ("/b", 5),
        ]  # fmt: skip

    async def test_line_breaks_of_a_template_do_not_break_ndjson_lines(
        self, new_sink: NewSink, server: RecordingServer
    ) -> None:
        """A YAML template may span lines, while NDJSON has one line for each record."""
        body = '{\n  "n": ${n},\n  "text": "${text}"\n}\n'
        sink = await new_sink("http", url=server.url, batch_format="ndjson", body=body)
        assert not await write(sink, batch_of([{"n": n, "text": "two\nlines"} for n in range(3)]))
        assert [each["record"] for each in server.recorded()] == [{"n": n, "text": "two\nlines"} for n in range(3)]

    async def test_single_records_keep_their_order_over_urls(self, new_sink: NewSink, server: RecordingServer) -> None:
        """The records of a device stay in order over two URLs."""
        sink = await new_sink("http", url=f"{server.url}/${{d}}")
        await write(sink, batch_of([{"d": "ab"[n % 2], "n": n} for n in range(6)]))
        assert numbers(server) == list(range(6))

    async def test_record_without_a_value_for_the_url_fails_alone(
        self, new_sink: NewSink, server: RecordingServer
    ) -> None:
        """Only that record lacks a URL."""
        sink = await new_sink("http", url=f"{server.url}/${{d}}", batch_format="json_array")
        failures = await write(sink, batch_of([{"d": "a", "n": 0}, {"n": 1}, {"d": "a", "n": 2}]))
        assert {index: isinstance(error, RejectError) for index, error in failures.items()} == {1: True}
        assert numbers(server) == [0, 2]

    async def test_gzip(self, new_sink: NewSink, server: RecordingServer) -> None:
        """Large bodies are compressed off the event loop."""
        sink = await new_sink("http", url=server.url, batch_format="ndjson", compression="gzip")
        rows: list[Row] = [{"n": n, "text": "x" * 100} for n in range(500)]
        await write(sink, batch_of(rows))
        await write(sink, batch_of(rows[:1], first_seq=501))
        assert numbers(server) == [*range(500), 0]
        assert int(server.seen_headers[0]["Content-Length"]) < 10_000

    @pytest.mark.parametrize(
        ("auth", "header"),
        [
            ({"type": "basic", "username": "plant", "password": "grün"}, "Basic cGxhbnQ6Z3LDvG4="),
            ({"type": "bearer", "token": "abc"}, "Bearer abc"),
        ],
    )
    async def test_auth(self, new_sink: NewSink, server: RecordingServer, auth: dict[str, str], header: str) -> None:
        """The secret appears nowhere else."""
        sink = await new_sink("http", url=server.url, auth=auth)
        await write(sink, batch_of(numbered(1)))
        assert server.seen_headers[0]["Authorization"] == header
        assert "grün" not in repr(sink.config)
        assert "abc" not in repr(sink.config)

    async def test_idempotency_key_is_made_of_the_records(self, new_sink: NewSink, server: RecordingServer) -> None:
        """Repeated records have the same key."""
        sink = await new_sink("http", url=server.url, batch_format="ndjson", idempotency_header="Idempotency-Key")
        await write(sink, batch_of(numbered(3), first_seq=5))
        assert {each["key"] for each in server.recorded()} == {"readings-0-5-7"}


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (200, None), (204, None),
            (301, HoldError), (401, HoldError), (403, HoldError), (404, HoldError), (407, HoldError), (418, HoldError),
            (501, HoldError), (505, HoldError),
            (408, RetryableError), (425, RetryableError), (429, RetryableError), (500, RetryableError),
            (503, RetryableError), (507, RetryableError), (520, RetryableError), (599, RetryableError),
            (400, SplitError), (409, SplitError), (410, SplitError), (413, SplitError), (415, SplitError),
            (422, SplitError), (431, SplitError),
        ],
    )  # fmt: skip
    async def test_status_decides_the_error_class(
        self, new_sink: NewSink, server: RecordingServer, status: int, expected: type[Exception] | None
    ) -> None:
        """A wrong class would retry a bad record for ever, or dead-letter a backlog for a wrong path."""
        sink = await new_sink("http", url=server.url, batch_format="json_array")
        server.behaviour = Behaviour(mode="status", status=status, body="because")
        if expected is None:
            assert not await write(sink, batch_of(numbered(2)))
            return
        with pytest.raises(expected, match="because") as caught:
            await write(sink, batch_of(numbered(2)))
        assert caught.value.code == str(status)  # type: ignore[attr-defined]

    async def test_rejection_quotes_the_response(self, new_sink: NewSink, server: RecordingServer) -> None:
        """The dead letter has to explain itself; the other records were sent."""
        server.behaviour = Behaviour(poison='"n":2}')
        sink = await new_sink("http", url=server.url)
        failures = await write(sink, batch_of(numbered(5)))
        assert {index: type(error) for index, error in failures.items()} == {2: RejectError}
        assert "422" in failures[2].message
        assert 'there is "n":2} in it' in failures[2].message
        assert numbers(server) == [0, 1, 3, 4]

    async def test_refused_part_of_a_batch_is_halved_until_the_record_is_alone(
        self, new_sink: NewSink, server: RecordingServer
    ) -> None:
        """Other URLs have their records already, so the batch must not be repeated as a whole."""
        server.behaviour = Behaviour(poison='"n":8}')
        sink = await new_sink("http", url=f"{server.url}/${{d}}", batch_format="ndjson")
        failures = await write(sink, batch_of([{"d": "ab"[n % 2], "n": n} for n in range(16)]))
        assert {index: type(error) for index, error in failures.items()} == {8: RejectError}
        assert sorted(numbers(server)) == [n for n in range(16) if n != 8]

    async def test_failed_request_stops_later_requests(self, new_sink: NewSink, server: RecordingServer) -> None:
        """A later record would otherwise be delivered before the repeated one."""
        sink = await new_sink("http", url=server.url)
        await write(sink, batch_of(numbered(2)))
        server.behaviour = Behaviour(mode="status", status=503, headers={"Retry-After": "7"}, times=1)
        with pytest.raises(RetryableError) as caught:
            await write(sink, batch_of(numbered(3), first_seq=3))
        assert caught.value.retry_after_s == 7
        assert server.requests == 3

    async def test_requests_before_the_failure_are_not_repeated(
        self, new_sink: NewSink, server: RecordingServer
    ) -> None:
        """Only the failed record and those behind it are repeated."""
        server.behaviour = Behaviour(poison='"n":3}')
        sink = await new_sink("http", url=server.url, retry_status=["422"])
        failures = await write(sink, batch_of(numbered(5)))
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys((3, 4), RetryableError)
        assert numbers(server) == [0, 1, 2]

    async def test_configured_statuses_win_over_defaults(self, new_sink: NewSink, server: RecordingServer) -> None:
        """Some gateways answer 404 while they start."""
        sink = await new_sink("http", url=server.url, retry_status=[404, "5xx"], reject_status=["4xx"])
        for status, expected in ((404, RetryableError), (503, RetryableError), (401, RejectError), (301, HoldError)):
            server.behaviour = Behaviour(mode="status", status=status)
            try:
                failures = await write(sink, batch_of(numbered(1)))
            except (RetryableError, HoldError) as error:
                failures = Failures({0: error})
            assert type(failures[0]) is expected, status

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("7", 7.0), ("0", 0.0), ("999999", 3600.0), ("soon", None), ("", None), ("-5", None), ("date", 30.0)],
    )
    async def test_retry_after(
        self, new_sink: NewSink, server: RecordingServer, clock: Any, header: str, seconds: float | None
    ) -> None:
        """Retry-After holds seconds or a date, and is limited to an hour."""
        value = formatdate(clock.now_s + 30, usegmt=True) if header == "date" else header
        server.behaviour = Behaviour(mode="status", status=429, headers={"Retry-After": value} if value else {})
        sink = await new_sink("http", url=server.url)
        with pytest.raises(RetryableError) as caught:
            await write(sink, batch_of(numbered(1)))
        assert caught.value.retry_after_s == seconds

    async def test_long_response_is_read_in_part(self, new_sink: NewSink, server: RecordingServer) -> None:
        """A large response must not fill the memory."""
        server.behaviour = Behaviour(mode="status", status=500, body="x" * 5_000_000)
        sink = await new_sink("http", url=server.url, max_response_bytes="1KiB")
        with pytest.raises(RetryableError) as caught:
            await write(sink, batch_of(numbered(1)))
        assert len(caught.value.message) < 300
        server.behaviour = Behaviour()
        assert not await write(sink, batch_of(numbered(1)))


Endpoint = Callable[..., Awaitable[str]]
"""The type of the fixture `endpoint`, which starts a server that sends `answers`, one for each request."""


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """Start servers that send what no HTTP library would; return the URL of each."""
    servers: list[asyncio.Server] = []

    async def start(*answers: bytes, hangs_up: bool) -> str:
        waiting = list(answers)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
                    writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])
                    await writer.drain()
                    if hangs_up:
                        break
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/in"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


def answer(status: str, body: bytes = b"", *headers: bytes, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % (len(body) if length is None else length), *headers]
    return b"\r\n".join([*head, b"", body])


class TestOddAnswers:
    async def test_request_over_a_closed_idle_connection_is_sent_again(
        self, new_sink: NewSink, endpoint: Endpoint
    ) -> None:
        """A server may close an idle connection just as the next request is on its way."""
        sink = await new_sink("http", url=await endpoint(answer("200 OK"), hangs_up=True))
        for _ in range(3):
            assert not await write(sink, batch_of(numbered(3)))

    async def test_status_counts_without_a_body(self, new_sink: NewSink, endpoint: Endpoint) -> None:
        """A stored record must not be repeated for ever because the body of the response never ends."""
        url = await endpoint(answer("200 OK", b"...", length=1000), hangs_up=False)
        sink = await new_sink("http", url=url, request_timeout="300ms")
        assert not await write(sink, batch_of(numbered(1)))
        url = await endpoint(answer("400 Bad", b"...", length=1000), hangs_up=True)
        failures = await write(await new_sink("http", url=url), batch_of(numbered(1)))
        assert {index: type(error) for index, error in failures.items()} == {0: RejectError}

    async def test_cut_off_success_is_an_unknown_outcome(self, new_sink: NewSink, endpoint: Endpoint) -> None:
        """A proxy may have begun a response that the endpoint did not send."""
        sink = await new_sink("http", url=await endpoint(answer("200 OK", b"...", length=1000), hangs_up=True))
        with pytest.raises(RetryableError, match="in the middle of its answer; the outcome is unknown"):
            await write(sink, batch_of(numbered(1)))

    async def test_response_with_a_wrong_content_encoding_counts(self, new_sink: NewSink, endpoint: Endpoint) -> None:
        """Bodies are not decompressed: nothing asked for compression, and the result could fill the memory."""
        odd = answer("200 OK", b"plain", b"Content-Encoding: gzip", b"X-Policy: " + b"x" * 20_000)
        assert not await write(await new_sink("http", url=await endpoint(odd, hangs_up=False)), batch_of(numbered(2)))

    async def test_reason_has_no_control_characters(self, new_sink: NewSink, endpoint: Endpoint) -> None:
        """The reason of a dead letter is printed to terminals."""
        odd = answer("400 \x1b[31m", b"\x1b]0;owned\x07 no\n such\tthing")
        failures = await write(await new_sink("http", url=await endpoint(odd, hangs_up=False)), batch_of(numbered(1)))
        assert failures[0].message == "127.0.0.1 answered 400 [31m: ]0;owned no such thing"

    async def test_server_of_another_protocol_is_named(self, new_sink: NewSink, endpoint: Endpoint) -> None:
        """A wrong port is the usual cause."""
        sink = await new_sink("http", url=await endpoint(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", hangs_up=True))
        with pytest.raises(RetryableError, match="does not answer as HTTP does: Bad status line"):
            await write(sink, batch_of(numbered(1)))


class TestTrouble:
    async def test_no_answer_is_an_unknown_outcome(self, new_sink: NewSink, server: RecordingServer) -> None:
        """The sink answers before the lane cancels it, and reports the reason."""
        server.behaviour = Behaviour(mode="hang")
        sink = await new_sink("http", url=server.url, request_timeout="200ms")
        with pytest.raises(RetryableError, match="did not answer in time") as caught:
            await write(sink, batch_of(numbered(1)))
        assert caught.value.code == "timeout"

    @pytest.mark.parametrize("mode", ["cut", "cut_after"])
    async def test_cut_connection_is_an_unknown_outcome(
        self, new_sink: NewSink, server: RecordingServer, mode: Any
    ) -> None:
        """The request may have been processed, and is repeated."""
        server.behaviour = Behaviour(mode=mode, times=1)
        sink = await new_sink("http", url=server.url)
        with pytest.raises(RetryableError, match="outcome is unknown"):
            await write(sink, batch_of(numbered(1)))
        assert not await write(sink, batch_of(numbered(1)))
        assert numbers(server) == ([0] if mode == "cut" else [0, 0])

    async def test_closed_port_is_no_connection(self, new_sink: NewSink, server: RecordingServer) -> None:
        """The error is the same at connect and later."""
        sink = await new_sink("http", url=server.url)
        await server.stop()
        with pytest.raises(NotConnectedError):
            await write(sink, batch_of(numbered(1)))
        with pytest.raises(NotConnectedError):
            await sink.connect()
        await server.start()
        await sink.connect()
        assert not await write(sink, batch_of(numbered(1)))

    async def test_unknown_host_holds(self, new_sink: NewSink) -> None:
        """A mistyped host name needs a correction."""
        sink = await new_sink("http", url="http://no-such-host.invalid/in", is_connected=False)
        with pytest.raises((HoldError, NotConnectedError), match="can't be found") as caught:
            await sink.connect()
        assert caught.value.code == "dns"

    async def test_slow_endpoint_gets_the_rest_in_smaller_parts(
        self, new_sink: NewSink, server: RecordingServer, clock: Any
    ) -> None:
        """Single requests of a batch may exceed the deadline; those that were sent must not be repeated."""
        sink = await new_sink("http", url=server.url, request_timeout="10s")

        async def take_two_seconds(request: web.Request) -> web.Response:
            clock.now_s += 2
            return await RecordingServer._take(server, request)

        server._take = take_two_seconds  # type: ignore[method-assign]
        await server.stop()
        await server.start()
        await sink.connect()
        failures = await write(sink, batch_of(numbered(6)))
        assert numbers(server) == [0, 1, 2]
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys((3, 4, 5), SplitError)
        failures = await write(sink, batch_of(numbered(4)))
        assert {index: type(error) for index, error in failures.items()} == {3: RetryableError}
        assert isinstance(failures[3], RetryableError)
        assert failures[3].retry_after_s == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://example.com/"}, "http:// or https://"),
        ({"url": "https://${host}/in"}, "written out"),
        ({"url": "https://example.com${path}"}, "written out"),
        ({"url": "https://example.com:99999/in"}, "written out"),
        ({"url": "https://me:secret@example.com/in"}, "holds a password"),
        ({"url": "https://example.com", "retry_status": [404], "hold_status": [404]}, "404 is in both"),
        ({"url": "https://example.com", "body": "{${x", "batch_format": "ndjson"}, "expected a placeholder"),
        ({"url": "https://example.com", "headers": {"X Rule": "a"}}, "can't be the name of a header"),
        ({"url": "https://example.com", "headers": {"content-length": "3"}}, "follows from the body"),
        ({"url": "https://example.com", "idempotency_header": "Key:"}, "can't be the name of a header"),
        ({"url": "https://example.com", "auth": {"type": "bearer", "token": "secret\n"}}, "a line break"),
    ],
)
async def test_impossible_options_are_refused(new_sink: NewSink, options: dict[str, Any], message: str) -> None:
    """`headgate check` reports it before anything starts, without showing the password."""
    with pytest.raises((ConfigError, ValidationError)) as caught:
        await new_sink("http", is_connected=False, **options)
    error = caught.value
    if isinstance(error, ConfigError):
        said = error.message
    else:
        assert isinstance(error, ValidationError)
        said = error.errors()[0]["msg"]
    assert message in said
    assert "secret" not in said


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority, a server certificate for plant.example, and a client certificate."""
    return make_certificates(tmp_path_factory.mktemp("tls"), "DNS:plant.example")


class TestTls:
    @pytest.fixture
    async def port(self, certificates: Path) -> AsyncIterator[int]:
        """Start an endpoint that requires client certificates; return its port."""

        async def take(request: web.BaseRequest) -> web.Response:
            return web.Response(status=204)

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        context.verify_mode = ssl.CERT_REQUIRED
        runner = web.ServerRunner(web.Server(take))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield runner.addresses[0][1]
        await runner.cleanup()

    def tls(self, certificates: Path, **changes: Any) -> dict[str, Any]:
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        paths = {name: str(certificates / file) for name, file in files.items()}
        return {**paths, "server_name": "plant.example", **changes}

    async def test_both_sides_show_a_certificate(self, new_sink: NewSink, certificates: Path, port: int) -> None:
        """Mutual TLS works with both files."""
        sink = await new_sink("http", url=f"https://127.0.0.1:{port}/in", tls=self.tls(certificates))
        assert not await write(sink, batch_of(numbered(3)))

    @pytest.mark.parametrize(
        "changes", [{"server_name": "other.example"}, {"ca": None}], ids=["another name", "another authority"]
    )
    async def test_server_that_is_not_trusted_holds(
        self, new_sink: NewSink, certificates: Path, port: int, changes: dict[str, Any]
    ) -> None:
        """Rows must not be sent to another server, and a retry does not change a certificate."""
        tls = self.tls(certificates, **changes)
        sink = await new_sink("http", url=f"https://127.0.0.1:{port}/in", tls=tls, is_connected=False)
        with pytest.raises(HoldError, match="no secure connection"):
            await sink.connect()

    async def test_verify_ca_ignores_the_name(self, new_sink: NewSink, certificates: Path, port: int) -> None:
        """`verify: ca` is for servers that are reached by an address their certificate lacks."""
        tls = self.tls(certificates, server_name=None, verify="ca")
        sink = await new_sink("http", url=f"https://127.0.0.1:{port}/in", tls=tls)
        assert not await write(sink, batch_of(numbered(1)))

    async def test_client_without_a_certificate_gets_an_error(
        self, new_sink: NewSink, certificates: Path, port: int
    ) -> None:
        """With TLS 1.3 the server refuses the client after the handshake."""
        tls = self.tls(certificates, cert=None, key=None)
        sink = await new_sink("http", url=f"https://127.0.0.1:{port}/in", tls=tls, is_connected=False)
        with pytest.raises((HoldError, NotConnectedError), match=r"(?i)certificate"):
            await sink.connect()

    async def test_missing_file_holds(self, new_sink: NewSink, certificates: Path, port: int) -> None:
        """A certificate file may be missing while it is renewed; the sink resumes by itself."""
        tls = self.tls(certificates, key=str(certificates / "gone.key"))
        sink = await new_sink("http", url=f"https://127.0.0.1:{port}/in", tls=tls, is_connected=False)
        with pytest.raises(HoldError, match=r"gone\.key"):
            await sink.connect()


async def test_lanes_share_the_connections(new_sink: NewSink, server: RecordingServer) -> None:
    """Lanes never use more than pool_size connections at once."""
    sink = await new_sink("http", url=server.url, pool_size=2)
    await asyncio.gather(*(write(sink, batch_of(numbered(5), lane=lane)) for lane in range(8)))
    assert server.requests == 40
