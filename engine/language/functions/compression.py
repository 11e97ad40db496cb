"""Compression: gzip, raw deflate and zlib, with a bound on what may come out."""

from __future__ import annotations

import zlib

from engine.errors import EvaluationError
from engine.language.functions.argument import binary
from engine.language.functions.registry import function
from engine.model.value import from_bytes

DECOMPRESSED_BYTES_MAX = 8 << 20
"""What a decompressed value may take; a few kilobytes can claim to be gigabytes."""

_MEMBERS_MAX = 64
"""How many members a gzip container may have, one after the other."""

_GZIP, _RAW, _ZLIB = 31, -15, 15


@function(("gunzip(gzip('hello'))", "hello"))
def gzip(data: str) -> str | bytes:
    """The data compressed, in a gzip container."""
    return _compressed("gzip", data, _GZIP)


@function(("gunzip(base64_decode('H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=='))", "hello"))
def gunzip(data: str) -> str | bytes:
    """The data of a gzip container."""
    return _decompressed("gunzip", data, _GZIP)


@function(("base64_encode(zip('hello'))", "y0jNyckHAA=="))
def zip_(data: str) -> str | bytes:
    """The data compressed as raw deflate: no header, no checksum."""
    return _compressed("zip", data, _RAW)


@function(("unzip(base64_decode('y0jNyckHAA=='))", "hello"))
def unzip(data: str) -> str | bytes:
    """The data of raw deflate."""
    return _decompressed("unzip", data, _RAW)


@function(("base64_encode(zip_compress('hello'))", "eJzLSM3JyQcABiwCFQ=="))
def zip_compress(data: str) -> str | bytes:
    """The data compressed, in a zlib container."""
    return _compressed("zip_compress", data, _ZLIB)


@function(("zip_uncompress(base64_decode('eJzLSM3JyQcABiwCFQ=='))", "hello"))
def zip_uncompress(data: str) -> str | bytes:
    """The data of a zlib container."""
    return _decompressed("zip_uncompress", data, _ZLIB)


def _compressed(name: str, data: object, window: int) -> str | bytes:
    compressor = zlib.compressobj(wbits=window)
    return from_bytes(compressor.compress(binary(name, 1, data)) + compressor.flush())


def _decompressed(name: str, data: object, window: int) -> str | bytes:
    rest, done, left = binary(name, 1, data), b"", DECOMPRESSED_BYTES_MAX
    for _ in range(_MEMBERS_MAX if window == _GZIP else 1):
        decompressor = zlib.decompressobj(window)
        try:
            part = decompressor.decompress(rest, left + 1)
        except zlib.error as error:
            raise EvaluationError(f"{name}: {error}") from error
        done, left, rest = done + part, left - len(part), decompressor.unused_data
        if left < 0:
            raise EvaluationError(f"{name}: the result would be longer than {DECOMPRESSED_BYTES_MAX} bytes")
        if not decompressor.eof:
            raise EvaluationError(f"{name}: the data ends too early")
        if not rest:
            return from_bytes(done)
    raise EvaluationError(f"{name}: {len(rest)} bytes follow the compressed data")
