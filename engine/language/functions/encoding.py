"""JSON, hexadecimal and base64: data as text and back."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from binascii import unhexlify
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import binary, refuse, text
from engine.language.functions.registry import function
from engine.model.jsontext import decode
from engine.model.value import Bits, from_bytes, to_json

_NO_WHITE_SPACE = dict.fromkeys(map(ord, " \t\r\n\v\f"))
_FROM_URLSAFE = str.maketrans("-_", "+/")


@function(("json_encode([1, 1.0, true, 'a'])", '[1,1.0,true,"a"]'))
def json_encode(value: Any) -> str:
    """The value as JSON text. Bytes that are no UTF-8 become `{"$base64": …}`, undefined becomes null."""
    return to_json(value)


@function(("json_decode('{\"a\": [1, 2]}')", {"a": [1, 2]}))
def json_decode(value: str) -> Any:
    """The value of a JSON text."""
    if type(value) is not str:
        refuse("json_decode", 1, "JSON text", value)
    try:
        return decode(value)
    except ValueError as error:
        raise EvaluationError(f"json_decode: not JSON: {error}") from error


@function(("bin2hexstr('abc')", "616263"), ("bin2hexstr('abc', '0x')", "0x616263"))
def bin2hexstr(data: str, prefix: str = "") -> str:
    """The bytes in upper-case hexadecimal, after `prefix`. A bit string is filled up with zero bits at its left."""
    return (text("bin2hexstr", 2, prefix) if prefix != "" else "") + _hexadecimal("bin2hexstr", data)


@function(("sqlserver_bin2hexstr('abc')", "0x616263"))
def sqlserver_bin2hexstr(data: str) -> str:
    """The bytes as SQL Server writes binary literals: `0x` and hexadecimal digits."""
    return "0x" + _hexadecimal("sqlserver_bin2hexstr", data)


def _hexadecimal(name: str, data: Any) -> str:
    if isinstance(data, Bits):
        return f"{data.value:0{(data.length + 3) // 4}X}"
    return binary(name, 1, data).hex().upper()


@function(("hexstr2bin('616263')", "abc"), ("hexstr2bin('0x616263', '0x')", "abc"))
def hexstr2bin(digits: str, prefix: str = "") -> str | bytes:
    """The bytes that hexadecimal digits stand for. Where `prefix` is given, the text must begin with it."""
    if type(digits) is not str:
        refuse("hexstr2bin", 1, "text", digits)
    if prefix != "":
        prefix = text("hexstr2bin", 2, prefix)
        if not digits.startswith(prefix):
            raise EvaluationError(f"hexstr2bin: the text does not begin with {prefix[:40]!r}")
        digits = digits[len(prefix) :]
    try:
        return from_bytes(unhexlify(digits if len(digits) % 2 == 0 else "0" + digits))
    except ValueError as error:
        raise EvaluationError("hexstr2bin: argument 1 is not hexadecimal") from error


@function(
    ("base64_encode('hello')", "aGVsbG8="),
    ("base64_encode('hello', 'no_padding')", "aGVsbG8"),
    ("base64_encode(hexstr2bin('FBEF'), 'urlsafe', 'no_padding')", "--8"),
)
def base64_encode(data: str, option: str = "", other_option: str = "") -> str:
    """The bytes in base64. Options: 'no_padding' leaves the = off, 'urlsafe' writes - and _ for + and /."""
    options = (option, other_option)
    encoded = b64encode(binary("base64_encode", 1, data), b"-_" if "urlsafe" in options else None).decode()
    return encoded.rstrip("=") if "no_padding" in options else encoded


@function(("base64_decode('aGVs bG8=')", "hello"), ("base64_decode('aGVsbG8', 'no_padding')", "hello"))
def base64_decode(encoded: str, option: str = "", other_option: str = "") -> str | bytes:
    """The bytes that base64 stands for; white space in it is skipped. Options: 'no_padding', 'urlsafe'."""
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
        raise EvaluationError(f"base64_decode: argument 1 is not base64: {error}") from error
