"""An HTTP endpoint that records requests, and fails on command.

In a process of its own (it can be killed and started again on the same port):

    python tests/support/http_server.py RECORDS.jsonl [--port 8000]

prints ``listening on 127.0.0.1:PORT`` when it listens, and appends a line for each record to the file before it
answers: ``{"method", "path", "key", "record"}``; ``key`` is the header Idempotency-Key, ``path`` has its query. A body
is one record (JSON, or else text), or a JSON array or lines of JSON of them, by its content type.

``POST /control`` with a JSON object sets the behaviour from then on, ``GET /control`` returns the records so far:

    {"mode": "ok"}                                                    accept everything
    {"mode": "status", "status": 429, "headers": {"Retry-After": "1"}}    refuse everything with this answer
    {"mode": "hang"}                                                  accept the request, never answer
    {"mode": "cut"}                                                   read the request, then close the connection
    {"mode": "cut_after"}                                             record the request, then close the connection
    {..., "times": 3}                                                 for three requests, then "ok" again
    {..., "delay": 0.2}                                               wait before every answer
    {..., "poison": "bad"}                                            answer 422 if the body contains this text
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from aiohttp import web

HANG_S = 3600.0


@dataclass
class Behaviour:
    """Behaviour of the server on requests."""

    mode: Literal["ok", "status", "hang", "cut", "cut_after"] = "ok"
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    times: int | None = None
    delay: float = 0.0
    poison: str | None = None


class RecordingServer:
    """The endpoint, in this process or in one of its own."""

    def __init__(self, records: Path, port: int = 0) -> None:
        self.records_path = records
        self.port = port
        self.behaviour = Behaviour()
        self.requests = 0
        self.records = 0
        self.seen_headers: list[dict[str, str]] = []
        self._file = -1
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen: on a free port at first, on the same port after a stop."""
        self._file = os.open(self.records_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        application = web.Application(client_max_size=64 << 20)
        application.router.add_get("/control", self._tell)
        application.router.add_post("/control", self._control)
        application.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
            os.close(self._file)

    def recorded(self) -> list[dict[str, Any]]:
        """Return all accepted records, in the order of arrival."""
        return [json.loads(line) for line in self.records_path.read_text().splitlines()]

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response({"requests": self.requests, "records": self.records, "mode": self.behaviour.mode})

    async def _control(self, request: web.Request) -> web.Response:
        self.behaviour = Behaviour(**await request.json())
        return await self._tell(request)

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests += 1
        self.seen_headers.append(dict(request.headers))
        behaviour = self._next_behaviour()
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if behaviour.mode == "hang":
            await asyncio.sleep(HANG_S)
        if behaviour.mode == "status":
            return web.Response(status=behaviour.status, headers=behaviour.headers, text=behaviour.body)
        if behaviour.poison is not None and behaviour.poison.encode() in body:
            return web.Response(status=422, text=f"there is {behaviour.poison} in it")
        if behaviour.mode != "cut":
            self._record(request, body)
        if behaviour.mode in ("cut", "cut_after") and request.transport is not None:
            request.transport.abort()
        return web.Response(status=204)

    def _next_behaviour(self) -> Behaviour:
        behaviour = self.behaviour
        if behaviour.times is not None:
            behaviour.times -= 1
            if behaviour.times <= 0:
                self.behaviour = Behaviour(poison=behaviour.poison)
        return behaviour

    def _record(self, request: web.Request, body: bytes) -> None:
        about = {"method": request.method, "path": request.path_qs, "key": request.headers.get("Idempotency-Key")}
        records = _records(request.content_type, body)
        self.records += len(records)
        lines = [json.dumps({**about, "record": record}) for record in records]
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def _records(content_type: str, body: bytes) -> list[Any]:
    if content_type == "application/x-ndjson":
        return [json.loads(line) for line in body.splitlines()]
    try:
        value = json.loads(body)
    except ValueError:
        return [body.decode(errors="replace")]
    return value if isinstance(value, list) else [value]


async def _serve(records: Path, port: int) -> None:
    server = RecordingServer(records, port)
    await server.start()
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Record what is sent to an HTTP endpoint.")
    parser.add_argument("records", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.records, arguments.port))
