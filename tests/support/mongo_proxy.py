"""A proxy in front of a MongoDB server that answers commands in its place, or cuts the connection before an answer.

The test server has no users, replica sets or time series: their errors come from here, in the form of the protocol, so
that the driver raises what it would raise.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Mapping
from typing import Any

import bson

OP_MSG = 2013
_HEADER = struct.Struct("<iiii")
WRITES = ("insert", "update", "delete")

Answer = Mapping[str, Any]


def failure(code: int, message: str, name: str = "Error", **more: Any) -> Answer:
    """Return the answer of a command that failed."""
    return {"ok": 0.0, "code": code, "errmsg": message, "codeName": name, **more}


class MongoProxy:
    """Forwards to a server. `commands` are those that came, without the documents of bulks."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.commands: list[dict[str, Any]] = []
        self.answer: Callable[[Mapping[str, Any]], Answer | None] = lambda command: None
        """Returns the answer to give in place of the server's, or None to ask the server."""
        self.cuts_after: set[str] = set()
        """Names of commands whose answer is thrown away once, with the connection."""

    async def start(self) -> None:
        """Listen; after `stop`, on the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def uri(self) -> str:
        return f"mongodb://127.0.0.1:{self._port}"

    def named(self, name: str) -> list[dict[str, Any]]:
        """Return the commands of one name."""
        return [command for command in self.commands if next(iter(command)) == name]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            source, upstream = await asyncio.open_connection(*self._target)
            while True:
                message = await _message(reader)
                command = _command(message)
                answer = None
                if command is not None:
                    self.commands.append(command)
                    answer = self.answer(command)
                if command is not None and answer is not None:
                    writer.write(_reply(message, answer))
                    continue
                upstream.write(message)
                reply = await _message(source)
                name = "" if command is None else next(iter(command))
                if name in self.cuts_after:
                    self.cuts_after.discard(name)
                    return
                writer.write(reply)
        except (OSError, EOFError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            if upstream is not None:
                upstream.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER.size)
    return header + await reader.readexactly(_HEADER.unpack(header)[0] - _HEADER.size)


def _command(message: bytes) -> dict[str, Any] | None:
    """Return the command of an OP_MSG; its body may follow the documents of a bulk."""
    if _HEADER.unpack_from(message)[3] != OP_MSG:
        return None
    position = _HEADER.size + 4
    while position < len(message):
        kind, position = message[position], position + 1
        (size,) = struct.unpack_from("<i", message, position)
        if kind == 0:
            return dict(bson.decode(message[position : position + size]))
        position += size
    return None


def _reply(message: bytes, answer: Answer) -> bytes:
    body = struct.pack("<iB", 0, 0) + bson.encode(answer)
    request = _HEADER.unpack_from(message)[1]
    return _HEADER.pack(_HEADER.size + len(body), 1, request, OP_MSG) + body
