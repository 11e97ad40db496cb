"""Writes rows as points to InfluxDB 1, 2 and 3 or to VictoriaMetrics, one request for each batch.

A point has the measurement, tags, fields and timestamp of the options, or of `write_syntax`, EMQX's form. Fields and
tags that are null or missing are left out; a row of which no field is left becomes a dead letter, as do integers beyond
64 bits, NaN and infinities. Numbers are floats unless their field has the suffix `i` or `u`, so that a device which
sends 21 and then 21.5 causes no field type conflict. Line breaks and tabs in measurements, tags and keys become `\\n`,
`\\r` and `\\t`.

A record is delivered once a request that holds it is answered with 204. InfluxDB stores the good points of a refused
request; the sink sends them again without those at fault. That leaves no doubles: a point with the measurement, tags
and time of another one overwrites it. For the same reason a point is stored exactly once, also after a crash or a lost
answer, and two messages of one series with the same timestamp leave one point: add a tag or use a finer `precision`.
Without `timestamp` a point has the time of its message, and with `ns` or `us` its sequence number below the
millisecond, so that both are kept.

VictoriaMetrics stores numbers and booleans alone. With `version: victoriametrics` text fields are left out; otherwise
the server would drop them without an error. It stores every sample that is sent, also a repeated one, unless it runs
with `-dedup.minScrapeInterval`, and it confirms samples some seconds before they are on its disk.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from connectors._shared.compression import gzipped
from connectors._shared.request import HttpSession, Origin, SessionOptions
from connectors._shared.response import HttpResponse
from connectors.influxdb.errors import REFUSED_POINTS, AnswerReader
from connectors.influxdb.lines import LineEncoder
from connectors.influxdb.options import InfluxdbConfig
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import (
    DeliveryError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.model.record import Batch

GZIP_LEVEL = 1
"""Lines repeat themselves: level 6 makes them 10 % smaller than level 1, and takes 0.7 µs a line instead of 0.25."""

_STOPS = (NotConnectedError, RetryableError, HoldError)
"""Errors of a request after which those behind it are not sent either."""

_NOTHING_WRITTEN = (400, 411, 422)
"""Answers to a request without points that come after login and target were found good."""

Records = dict[int, bytes]
"""Lines by the record's index in the batch, in order."""


class InfluxdbSink(Sink):
    """Rows as points of InfluxDB."""

    kind: ClassVar[str] = "influxdb"
    Config: ClassVar[type[ConnectorConfig]] = InfluxdbConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: influxdb\nurl: http://127.0.0.1:8086\norg: plant\nbucket: sensors\ntoken: secret\n"
        "measurement: climate\ntags: {device: \"${device}\"}\n",
        "type: influxdb\nurl: https://influxdb.plant:8086\ndatabase: sensors\nusername: headgate\npassword: secret\n"
        "measurement: \"climate_${area}\"\ntags: {device: \"${device}\"}\n"
        "fields: {temp: \"${temp}\", count: \"${count}i\", state: \"${state}\"}\ntimestamp: \"${at}\"\nprecision: s\n",
        "type: influxdb\nurl: https://eu.influxdb.example\nversion: 3\ndatabase: sensors\ntoken: secret\n"
        "write_syntax: |\n  climate,device=${device} temp=${temp},count=${count}i,state=\"${state}\" ${timestamp}\n",
        "type: influxdb\nurl: http://victoria-metrics:8428\nversion: victoriametrics\n"
        "measurement: climate\ntags: {device: \"${device}\"}\nfields: {temp: \"${temp}\"}\n",
    )  # fmt: skip

    def __init__(self, config: InfluxdbConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._encoder = LineEncoder(config)
        self._answers = AnswerReader(config, self._encoder.points_per_record)
        self._url = config.write_url()
        self._session = HttpSession(
            Origin.of(config.url),
            SessionOptions(
                base_dir=context.base_dir,
                headers=config.headers(),
                connect_timeout=config.connect_timeout,
                tls=config.tls,
                pool_size=config.pool_size,
                keep_alive=config.keep_alive,
            ),
        )

    async def connect(self) -> None:
        """Connect, and write no points: that checks login, database and bucket, but stores nothing."""
        await self._session.connect()
        try:
            response = await self._session.send(
                "POST", self._url, b"", Deadline(self.context.clock, self.config.connect_timeout)
            )
            error = self._answers.error(response, 0, self.context.clock.now_ms())
            if error is not None and (isinstance(error, _STOPS) or response.status not in _NOTHING_WRITTEN):
                raise error
        except BaseException:
            await self._session.close()
            raise

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        lines = self._encoder.encode(batch)
        failures = lines.failures
        waiting = deque([dict(zip(lines.indices, lines.texts, strict=True))])
        while waiting:
            if deadline.is_half_over():
                failures |= _unsent(waiting)
                break
            records = waiting.popleft()
            if not records:
                continue
            answer = await self._send(records, deadline)
            if isinstance(answer, _STOPS):
                waiting.appendleft(records)
                failures |= Failures.of(_indices(waiting), answer)
                break
            if isinstance(answer, HttpResponse):
                rejected, parts = self._divide(records, answer)
                failures |= rejected
                waiting.extendleft(reversed(parts))
            elif answer is not None:
                failures |= Failures.of(records, answer)
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        await self._session.close()

    async def _send(self, records: Records, deadline: Deadline) -> HttpResponse | DeliveryError | None:
        """Send records. Return None if they are stored, an error that they share, or the answer that refuses some."""
        body, headers = b"\n".join(records.values()), None
        if self.config.gzip and len(body) >= self.config.gzip_min:
            body, headers = await gzipped(body, GZIP_LEVEL), {"Content-Encoding": "gzip"}
        try:
            response = await self._session.send("POST", self._url, body, deadline, headers)
        except DeliveryError as error:
            return error
        refusal = self._answers.error(response, len(records), self.context.clock.now_ms())
        if isinstance(refusal, SplitError) or (isinstance(refusal, RejectError) and response.status in REFUSED_POINTS):
            return response
        return refusal

    def _divide(self, records: Records, response: HttpResponse) -> tuple[Failures, list[Records]]:
        """Return the rejections in a refusal, and the requests by which the other records are sent again."""
        indices = list(records)
        if len(indices) == 1:
            return Failures.of(indices, self._rejection(response)), []
        if response.status in REFUSED_POINTS:
            refusal = self._answers.refusal(response, list(records.values()))
            if refusal.rejected:
                rejected = Failures({indices[place]: error for place, error in refusal.rejected.items()})
                return rejected, [{index: text for index, text in records.items() if index not in rejected}]
            if 0 < len(refusal.suspects) < len(indices):
                suspects = {indices[place]: records[indices[place]] for place in sorted(refusal.suspects)}
                return Failures(), [{i: text for i, text in records.items() if i not in suspects}, suspects]
        middle = len(indices) // 2
        return Failures(), [{i: records[i] for i in half} for half in (indices[:middle], indices[middle:])]

    def _rejection(self, response: HttpResponse) -> DeliveryError:
        error = self._answers.error(response, 1, self.context.clock.now_ms())
        assert error is not None
        return error


def _indices(waiting: Iterable[Records]) -> Sequence[int]:
    return [index for records in waiting for index in records]


def _unsent(waiting: Iterable[Records]) -> Failures:
    """Return the failures of records that were not sent: they come again at once, in smaller batches."""
    message = "not sent yet: earlier requests of the batch took more than half of its time"
    indices = _indices(waiting)
    is_alone = len(indices) == 1
    return Failures.of(indices, RetryableError(message, retry_after_s=0.0) if is_alone else SplitError(message))
