"""Sends rows to an HTTP endpoint, one by one or in batches. The status of the response decides what happens next.

With ``batch_format: none`` each record is a request of its own, sent in order: one that fails for now stops those
behind it. With a batch format, a request holds all records of a batch that have the same URL and headers. A record is
delivered once the endpoint has answered its request with a `success_status`.

A request without a response may have been processed, and is sent again. If the endpoint detects duplicates by a header,
`idempotency_header` names it; the value of a single record never changes: ``<sink>-<lane>-<sequence>``. A request that
finds its idle connection closed is sent again at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import ClassVar

from connectors._shared.compression import gzipped
from connectors._shared.encoding import EncodedRows, RowEncoder
from connectors._shared.request import HttpSession, Origin, SessionOptions
from connectors._shared.routing import Destination, Group, Routing
from connectors.http.options import HttpConfig
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import DeliveryError, HoldError, NotConnectedError, RetryableError, SplitError
from engine.language.template import Template
from engine.model.record import Batch

_FORMATS = {
    "none": ("application/json", b"", b"", b""),
    "json_array": ("application/json", b"[", b",", b"]"),
    "ndjson": ("application/x-ndjson", b"", b"\n", b"\n"),
}
"""Content type, opening, separator and end of a body."""

_STOPS = (NotConnectedError, RetryableError, HoldError)
"""Errors of a request after which those behind it are not sent either, so that order is kept."""


class HttpSink(Sink):
    """Rows as HTTP requests."""

    kind: ClassVar[str] = "http"
    Config: ClassVar[type[ConnectorConfig]] = HttpConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: http\nurl: https://example.com/in\n",
        "type: http\nurl: https://example.com/in\nbatch_format: ndjson\ncompression: gzip\n"
        "auth: {type: bearer, token: secret}\n",
        'type: http\nurl: "https://example.com/devices/${device}/state?site=${site}"\nmethod: PUT\n'
        'body: \'{"t": ${temp}}\'\nheaders: {X-Rule: "${_rule}"}\nidempotency_header: Idempotency-Key\n'
        "retry_status: [404, 5xx]\n",
        "type: http\nurl: https://gateway.plant/in\ntls: {ca: plant-ca.pem, cert: client.pem, key: client.key}\n",
    )

    def __init__(self, config: HttpConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        content_type, self._opening, separator, self._ending = _FORMATS[config.batch_format]
        self._header_names = tuple(config.headers)
        self._routing = Routing(
            Template.compile(config.url, kind="url_path"),
            *(Template.compile(text, kind="header") for text in config.headers.values()),
        )
        self._encoder = RowEncoder(_body(config), separator)
        self._statuses = config.status_classes()
        self._session = HttpSession(
            Origin.of(config.url),
            SessionOptions(
                base_dir=context.base_dir,
                headers=config.fixed_headers(content_type),
                connect_timeout=config.connect_timeout,
                tls=config.tls,
                pool_size=config.pool_size,
                keep_alive=config.keep_alive,
                response_bytes_max=config.max_response_bytes,
            ),
        )

    async def connect(self) -> None:
        await self._session.connect()

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        waiting, failures = self._requests(batch)
        while waiting:
            if deadline.is_half_over():
                failures |= _unsent(waiting)
                break
            destination, indices = waiting.popleft()
            encoded = self._encoder.join(batch, indices)
            failures |= encoded.failures
            error = await self._send(batch, destination, encoded, deadline) if encoded.indices else None
            if error is None:
                continue
            # A batch that is refused as a whole, in one request, is left to the lane to split.
            if isinstance(error, SplitError) and (failures or len(encoded.indices) < len(batch)):
                middle = len(encoded.indices) // 2
                waiting.extendleft([(destination, encoded.indices[middle:]), (destination, encoded.indices[:middle])])
                continue
            failures |= Failures.of(encoded.indices, error)
            if isinstance(error, _STOPS):
                failures |= Failures.of(_indices(waiting), error)
                break
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        await self._session.close()

    def _requests(self, batch: Batch) -> tuple[deque[Group], Failures]:
        """Return the requests in order, one for each group or each record, and the records without a destination."""
        groups, failures = self._routing.group(batch)
        if self.config.batch_format != "none":
            return deque(groups), failures
        single: list[Group] = [(destination, (index,)) for destination, indices in groups for index in indices]
        return deque(sorted(single, key=itemgetter(1))), failures

    async def _send(
        self, batch: Batch, destination: Destination, encoded: EncodedRows, deadline: Deadline
    ) -> DeliveryError | None:
        """Send one request. Return the error that its records share, or None if they are stored."""
        url, *values = destination
        headers = dict(zip(self._header_names, values, strict=True))
        if self.config.idempotency_header is not None:
            headers[self.config.idempotency_header] = _idempotency_key(batch, encoded.indices)
        body = b"".join((self._opening, encoded.text, self._ending))
        if self.config.compression == "gzip":
            body = await gzipped(body)
        try:
            response = await self._session.send(self.config.method, url, body, deadline, headers)
        except DeliveryError as error:
            return error
        return self._statuses.error(response, len(encoded.indices), self.context.clock.now_ms())


def _indices(groups: Iterable[Group]) -> list[int]:
    return [index for _, indices in groups for index in indices]


def _unsent(groups: Iterable[Group]) -> Failures:
    """Return the failures of records that were not sent: they come again at once, in smaller batches."""
    message = "not sent yet: earlier requests of the batch took more than half of its time"
    indices = _indices(groups)
    is_alone = len(indices) == 1
    return Failures.of(indices, RetryableError(message, retry_after_s=0.0) if is_alone else SplitError(message))


def _body(config: HttpConfig) -> Template | None:
    if config.body is None:
        return None
    # A line break in a template of JSON is between its parts; in lines of JSON it would end the line.
    text = config.body.replace("\n", " ") if config.batch_format == "ndjson" else config.body
    return Template.compile(text, kind="payload" if config.batch_format == "none" else "json")


def _idempotency_key(batch: Batch, indices: Sequence[int]) -> str:
    first, last = batch.records[indices[0]], batch.records[indices[-1]]
    return first.id if first.seq == last.seq else f"{first.id}-{last.seq}"
