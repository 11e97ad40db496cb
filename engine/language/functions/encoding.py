"""Conversion between data and text: JSON, hexadecimal, base64."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from binascii import unhexlify
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import binary, refuse, shown, text
from engine.language.functions.registry import function
from engine.model.jsontext import decode
from engine.model.value import Bits, from_bytes, to_json

_NO_WHITE_SPACE = dict.fromkeys(map(ord, " \t\r\n\v\f"))
_FROM_URLSAFE = str.maketrans("-_", "+/")


@function(("json_encode([1, 1.0, true, 'a'])", '[1,1.0,true,"a"]'))
def json_encode(value: Any) -> str:
    """Return the value as JSON text.

    Binary data becomes `{"$base64": …}`, undefined becomes null. Fails for a bit string.
    """
    return to_json(value)


@function(("json_decode('{\"a\": [1, 2]}')", {"a": [1, 2]}))
def json_decode(value: str) -> Any:
    """Return the value of a JSON text. Fails for text that is not exactly one JSON value."""
    if type(value) is not str:
        refuse("json_decode", 1, "JSON text", value)
    try:
        return decode(value)
    except ValueError as error:
        raise EvaluationError(f"json_decode: argument 1: expected one JSON value: {error}") from error


@function(("bin2hexstr('abc')", "616263"), ("bin2hexstr('abc', '0x')", "0x616263"))
def bin2hexstr(data: str, prefix: str = "") -> str:
    """Return the bytes in upper-case hexadecimal, after `prefix`.

    A bit string is padded with zero bits on its left.
    """
    return (text("bin2hexstr", 2, prefix) if prefix != "" else "") + _hexadecimal("bin2hexstr", data)


@function(("sqlserver_bin2hexstr('abc')", "0x616263"))
def sqlserver_bin2hexstr(data: str) -> str:
    """Return the bytes as a binary literal of SQL Server: `0x` and upper-case hexadecimal digits."""
    return "0x" + _hexadecimal("sqlserver_bin2hexstr", data)


def _hexadecimal(name: str, data: Any) -> str:
    if isinstance(data, Bits):
        return f"{data.value:0{(data.length + 3) // 4}X}"
    return binary(name, 1, data).hex().upper()


@function(("hexstr2bin('616263')", "abc"), ("hexstr2bin('0x616263', '0x')", "abc"))
def hexstr2bin(digits: str, prefix: str = "") -> str | bytes:
    """Return the bytes of hexadecimal digits, which follow `prefix` where given.

    An odd number of digits is padded with a 0 on its left. Fails for other characters, and where the prefix is missing.
    """
    if type(digits) is not str:
        refuse("hexstr2bin", 1, "text", digits)
    if prefix != "":
        prefix = text("hexstr2bin", 2, prefix)
        if not digits.startswith(prefix):
            raise EvaluationError(
                f"hexstr2bin: argument 1: expected text that begins with {prefix[:40]!r}, found {shown(digits)}"
            )
        digits = digits[len(prefix) :]
    try:
        return from_bytes(unhexlify(digits if len(digits) % 2 == 0 else "0" + digits))
    except ValueError as error:
        raise EvaluationError(f"hexstr2bin: argument 1: expected hexadecimal digits, found {shown(digits)}") from error


@function(
    ("base64_encode('hello')", "aGVsbG8="),
    ("base64_encode('hello', 'no_padding')", "aGVsbG8"),
    ("base64_encode(hexstr2bin('FBEF'), 'urlsafe', 'no_padding')", "--8"),
)
def base64_encode(data: str, option: str = "", other_option: str = "") -> str:
    """Return the bytes in base64.

    Options, in any order: 'no_padding' leaves out =, 'urlsafe' writes - and _ for + and /.
    """
    options = (option, other_option)
    encoded = b64encode(binary("base64_encode", 1, data), b"-_" if "urlsafe" in options else None).decode()
    return encoded.rstrip("=") if "no_padding" in options else encoded


@function(("base64_decode('aGVs bG8=')", "hello"), ("base64_decode('aGVsbG8', 'no_padding')", "hello"))
def base64_decode(encoded: str, option: str = "", other_option: str = "") -> str | bytes:
    """Return the bytes of a base64 text. White space in it is ignored.

    Options, in any order: 'no_padding' accepts text without =, 'urlsafe' accepts - and _ for + and /.
    """
    options = (option, other_option)
    plain = text("base64_decode", 1, encoded).translate(_NO_WHITE_SPACE)
    if "urlsafe" in options:
        plain = plain.translate(_FROM_URLSAFE)
    if "no_padding" in options:
        plain = plain.rstrip("=")
        plain += "=" * (-len(plain) % 4)
    try:
        return from_bytes(b64decode(plain, validate=True))
    except (Base64Error, ValueError) as error:
        raise EvaluationError(f"base64_decode: argument 1: expected base64: {error}") from error
