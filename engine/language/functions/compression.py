"""Compression: gzip, raw deflate and zlib, with a bound of the decompressed size."""

from __future__ import annotations

import zlib

from engine.errors import EvaluationError
from engine.language.functions.argument import binary
from engine.language.functions.registry import function
from engine.model.value import from_bytes

DECOMPRESSED_BYTES_MAX = 8 << 20
"""Bound of a decompressed value. Deflate compresses up to 1,032 to 1: a message of 1 MiB could become a gigabyte. Eight
times that size (the default of ``mqtt.max_packet_size``) is the bound."""

_MEMBERS_MAX = 64
"""Bound of the members of a gzip container (RFC 1952 allows any number): each costs a decompressor, however empty."""

_GZIP, _RAW, _ZLIB = 31, -15, 15
"""The ``wbits`` of zlib for each format, with its largest window."""
_FORMATS = {_GZIP: "gzip", _RAW: "deflate", _ZLIB: "zlib"}


@function(("gunzip(gzip('hello'))", "hello"))
def gzip(data: str) -> str | bytes:
    """Return the data compressed in gzip format."""
    return _compressed("gzip", data, _GZIP)


@function(("gunzip(base64_decode('H4sIAAAAAAAAA8tIzcnJBwCGphA2BQAAAA=='))", "hello"))
def gunzip(data: str) -> str | bytes:
    """Return the data decompressed from gzip format.

    Fails where the data is not gzip, ends too early, or is longer than 8 MiB decompressed.
    """
    return _decompressed("gunzip", data, _GZIP)


@function(("base64_encode(zip('hello'))", "y0jNyckHAA=="))
def zip_(data: str) -> str | bytes:
    """Return the data compressed as raw deflate, without header and checksum."""
    return _compressed("zip", data, _RAW)


@function(("unzip(base64_decode('y0jNyckHAA=='))", "hello"))
def unzip(data: str) -> str | bytes:
    """Return the data decompressed from raw deflate.

    Fails where the data is not deflate, ends too early, or is longer than 8 MiB decompressed.
    """
    return _decompressed("unzip", data, _RAW)


@function(("base64_encode(zip_compress('hello'))", "eJzLSM3JyQcABiwCFQ=="))
def zip_compress(data: str) -> str | bytes:
    """Return the data compressed in zlib format."""
    return _compressed("zip_compress", data, _ZLIB)


@function(("zip_uncompress(base64_decode('eJzLSM3JyQcABiwCFQ=='))", "hello"))
def zip_uncompress(data: str) -> str | bytes:
    """Return the data decompressed from zlib format.

    Fails where the data is not zlib, ends too early, or is longer than 8 MiB decompressed.
    """
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
            raise EvaluationError(f"{name}: expected {_FORMATS[window]} data: {error}") from error
        done, left, rest = done + part, left - len(part), decompressor.unused_data
        if left < 0:
            raise EvaluationError(f"{name}: expected at most {DECOMPRESSED_BYTES_MAX} bytes decompressed, found more")
        if not decompressor.eof:
            raise EvaluationError(f"{name}: expected more data: the compressed data ends too early")
        if not rest:
            return from_bytes(done)
    raise EvaluationError(f"{name}: expected the end of the data, found {len(rest)} bytes behind the compressed data")
