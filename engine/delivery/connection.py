"""The connection of one sink, shared by its lanes: one task connects for all of them.

    connecting ──connect()──▶ open ──a lane lost it──▶ disconnected ──back-off──▶ connecting
        │                      └──a lane was held──▶ held ──health.interval──▶ probe = connect() ──▶ open
        └──fails: disconnected, or held──┘

- `Sink.connect` is never called while a write is under way, so that a sink may replace its connection in it.
- Lanes write only while the connection is open.
- Of several lanes that find the same connection lost, the first closes it, and the others find it closed.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Literal

import structlog

from engine.connector import ConnectorConfig, Sink
from engine.delivery.progress import text_of
from engine.delivery.retry import backoff_s
from engine.delivery.waiting import WakeUp, deadline, is_cancelled
from engine.errors import HoldError, RetryableError
from engine.service.clock import Clock

log = structlog.get_logger()

ConnectionState = Literal["connecting", "connected", "degraded", "held", "disconnected", "stopped"]


class SinkConnection:
    """Connects `sink` and keeps it connected."""

    def __init__(self, sink_id: str, sink: Sink, config: ConnectorConfig, clock: Clock, random: Random) -> None:
        self.is_open = False
        self.state: ConnectionState = "connecting"
        self.reason: str | None = None
        self.since_ms = clock.now_ms()
        self.last_error: str | None = None
        self.next_attempt_ms: int | None = None
        self._sink_id = sink_id
        self._sink = sink
        self._config = config
        self._clock = clock
        self._random = random
        self._failures = 0
        self._writing = 0
        self._wake_up = WakeUp(clock)
        self._waiting: list[WakeUp] = []

    async def run(self) -> None:
        """Connect whenever the connection is not open, until cancelled."""
        while True:
            if self.is_open or self._writing:
                await self._wake_up.wait()
                continue
            pause_s = self._pause_s()
            if pause_s > 0:
                self.next_attempt_ms = self._clock.now_ms() + round(pause_s * 1000)
                await self._clock.sleep(pause_s)
                self.next_attempt_ms = None
            await self._connect()

    def begin_write(self) -> None:
        """Note that a write is under way from here to `end_write`."""
        self._writing += 1

    def end_write(self) -> None:
        self._writing -= 1
        if not self._writing and not self.is_open:
            self._wake_up.set()

    async def opened(self, wake_up: WakeUp) -> None:
        """Wait until it is open; `wake_up` is the caller's own."""
        while not self.is_open:
            if wake_up not in self._waiting:
                self._waiting.append(wake_up)
            await wake_up.wait()

    def lost(self, error: BaseException) -> None:
        """Disconnect, because a lane found the connection lost."""
        if self.is_open:
            self._close("disconnected", error)

    def hold(self, error: BaseException) -> None:
        """Write nothing until a probe succeeds, because a lane found a configuration mistake."""
        if self.state != "held":
            log.warning("sink held", sink=self._sink_id, reason=text_of(error))
        self._close("held", error)

    def degraded(self, error: BaseException) -> None:
        """Note that a lane has to try again over this connection."""
        self.last_error = text_of(error)
        if self.is_open:
            self._set("degraded", self.last_error)

    def healthy(self) -> None:
        """Note that a write succeeded."""
        self._failures = 0
        if self.is_open and self.state != "connected":
            self._set("connected", None)

    def stopped(self) -> None:
        """Note that nothing is written any more."""
        self.is_open = False
        self.next_attempt_ms = None
        self._set("stopped", None)

    def _pause_s(self) -> float:
        if self.state == "held":
            return self._config.health.interval
        return backoff_s(self._config.retry, self._failures, self._random) if self._failures else 0.0

    async def _connect(self) -> None:
        limit_s = self._config.health.timeout if self.state == "held" else self._config.connect_timeout
        if self.state != "held":
            self._set("connecting", self.reason)
        try:
            async with deadline(self._clock, limit_s):
                await self._sink.connect()
        except HoldError as error:
            self.hold(error)
        except TimeoutError:
            self._failed(RetryableError(f"no connection within {limit_s:g} s"))
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            self._failed(error)
        except Exception as error:
            self._failed(error)
        else:
            self._open()

    def _open(self) -> None:
        if self.last_error is not None:
            log.info("sink connected", sink=self._sink_id)
        self.is_open = True
        self._set("connected", None)
        waiting, self._waiting = self._waiting, []
        for wake_up in waiting:
            wake_up.set()

    def _failed(self, error: BaseException) -> None:
        if self.state == "held":
            self.last_error = text_of(error)
            return
        if self._failures == 0:
            log.warning("sink can't be connected", sink=self._sink_id, reason=text_of(error))
        self._close("disconnected", error)

    def _close(self, state: ConnectionState, error: BaseException) -> None:
        self.is_open = False
        self._failures += 1
        self.last_error = text_of(error)
        self._set(state, self.last_error)
        self._wake_up.set()

    def _set(self, state: ConnectionState, reason: str | None) -> None:
        if state != self.state:
            self.since_ms = self._clock.now_ms()
        self.state = state
        self.reason = reason
