"""Formatting by a pattern, as Erlang's ``io_lib:format`` does: ``~s``, ``~p``, ``~.2f``, ``~5..0b``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from math import copysign
from typing import Any, NamedTuple

from engine.errors import EvaluationError
from engine.language.functions.argument import integer, items, number, shown, text
from engine.language.functions.memo import remembered
from engine.language.functions.registry import function
from engine.model.value import UNDEFINED, Bits, bounded, to_text

_DIRECTIVE = re.compile(
    r"~(?P<width>-?\d+|\*)?(?:\.(?P<precision>\d+|\*)?(?:\.(?P<filler>.))?)?[tlkK]*(?P<letter>.)",
    re.DOTALL,
)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_NATIVE_BASES = {2: "b", 8: "o", 16: "x"}
_DIVIDED_BITS_MAX = 4096
"""Bound of an integer written in a base other than 2, 8, 10 and 16: the division takes quadratic time."""


class _Directive(NamedTuple):
    letter: str
    width: str
    precision: str
    filler: str
    source: str


@function(
    ("sprintf('hello, ~s!', 'steve')", "hello, steve!"),
    ("sprintf('~.2f and ~5..0b', 1.005, 42)", "1.00 and 00042"),
    ("sprintf('~p', 'a')", '<<"a">>'),
)
def sprintf(pattern: str, *values: Any) -> str:
    """Return the pattern with its directives replaced by the values.

    `~s` takes text, `~b` and `~B` integers (with a base after a point: `~.16b`), `~f` `~e` `~g` numbers (with digits
    after the point: `~.2f`), `~c` the code of a character, `~p` and `~w` any value, in Erlang's notation; `~n` is a
    line feed, `~~` a tilde, `~i` skips a value. A number after the tilde is the minimum width; a negative one pads on
    the right. Two points and a character set the padding. Fails where the number of values is not the number of
    directives.
    """
    return _formatted("sprintf", pattern, values)


@function(("sprintf_s('~s ~s', ['a', 'b'])", "a b"))
def sprintf_s(pattern: str, values: list[Any]) -> str:
    """Return the pattern with its directives replaced by the values of a list, as `sprintf` does."""
    return _formatted("sprintf_s", pattern, items("sprintf_s", 2, values))


def _formatted(name: str, pattern: Any, values: Sequence[Any]) -> str:
    pending = iter(values)
    parts: list[str] = []
    size = 0
    for piece in _pieces(name, text(name, 1, pattern)):
        parts.append(piece if isinstance(piece, str) else _directed(name, piece, pending))
        size += len(parts[-1])
        bounded(size, name)
    if next(pending, pending) is not pending:
        raise EvaluationError(f"{name}: expected a directive for each value, found more values than directives")
    return "".join(parts)


@remembered
def _pieces(name: str, pattern: str) -> tuple[str | _Directive, ...]:
    pieces: list[str | _Directive] = []
    position = 0
    while (tilde := pattern.find("~", position)) >= 0:
        match = _DIRECTIVE.match(pattern, tilde)
        if match is None or match["letter"] not in "scpwbB+#fegin~":
            raise EvaluationError(f"{name}: expected a directive, found {pattern[tilde : tilde + 10]!r}")
        pieces.append(pattern[position:tilde])
        pieces.append(
            _Directive(
                match["letter"], match["width"] or "", match["precision"] or "", match["filler"] or " ", match[0]
            )
        )
        position = match.end()
    pieces.append(pattern[position:])
    return tuple(piece for piece in pieces if piece)


def _directed(name: str, directive: _Directive, values: Iterator[Any]) -> str:
    width = _count(name, directive.width, values)
    precision = _count(name, directive.precision, values)
    if precision is not None and precision < 0:
        raise EvaluationError(f"{name}: expected a precision of 0 or more, found {precision}")
    if directive.letter in "n~":
        return ("\n" if directive.letter == "n" else "~") * (1 if width is None else abs(width))
    value = _next(name, values)
    if directive.letter == "i":
        return ""
    try:
        written = _WRITERS[directive.letter](name, value, precision)
    except (ValueError, OverflowError) as error:
        raise EvaluationError(
            f"{name}: {directive.source}: expected a value that can be written, found {shown(value)}: {error}"
        ) from error
    if directive.letter == "c":
        written *= abs(width or 1) if precision is None else precision
    return written if width is None or directive.letter == "p" else _filled(directive, written, width)


def _filled(directive: _Directive, written: str, width: int) -> str:
    if directive.letter not in "sc" and len(written) > abs(width):
        return "*" * abs(width)
    if directive.letter == "s":
        written = written[: abs(width)]
    missing = directive.filler * (abs(width) - len(written))
    return missing + written if width >= 0 else written + missing


def _count(name: str, written: str, values: Iterator[Any]) -> int | None:
    if not written:
        return None
    size = integer(name, 2, _next(name, values)) if written == "*" else int(written[:9])
    bounded(abs(size), name)
    return size


def _next(name: str, values: Iterator[Any]) -> Any:
    for value in values:
        return value
    raise EvaluationError(f"{name}: expected a value for each directive, found fewer values than directives")


def _text(name: str, value: Any, precision: int | None) -> str:
    written = str(to_text(value)) if value is None or value is UNDEFINED else text(name, 2, value)
    return written if precision is None else written[:precision].ljust(precision)


def _character(name: str, value: Any, precision: int | None) -> str:
    code = integer(name, 2, value)
    if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise EvaluationError(f"{name}: expected the code of a character, found {shown(code)}")
    return chr(code)


def _based(name: str, value: Any, precision: int | None) -> str:
    number_, base = integer(name, 2, value), 10 if precision is None else precision
    if not 2 <= base <= 36:
        raise EvaluationError(f"{name}: expected a base from 2 to 36, found {base}")
    if base in _NATIVE_BASES:
        bounded(number_.bit_length(), name)
        return format(number_, _NATIVE_BASES[base])
    if base == 10:
        return str(to_text(number_))
    if number_.bit_length() > _DIVIDED_BITS_MAX:
        raise EvaluationError(
            f"{name}: expected an integer of at most {_DIVIDED_BITS_MAX} bits, found a longer one; write it in base 16"
        )
    digits, rest = "", abs(number_)
    while rest or not digits:
        rest, digit = divmod(rest, base)
        digits = _DIGITS[digit] + digits
    return "-" + digits if number_ < 0 else digits


def _upper_based(name: str, value: Any, precision: int | None) -> str:
    return _based(name, value, precision).upper()


def _prefixed(name: str, value: Any, precision: int | None) -> str:
    written = _based(name, value, precision)
    sign, digits = ("-", written[1:]) if written[0] == "-" else ("", written)
    return f"{sign}{10 if precision is None else precision}#{digits}"


def _upper_prefixed(name: str, value: Any, precision: int | None) -> str:
    return _prefixed(name, value, precision).upper()


def _fixed(name: str, value: Any, precision: int | None) -> str:
    real, places = float(number(name, 2, value)), 6 if precision is None else min(precision, 253)
    whole, fraction = divmod(_scaled(real, places), 10**places)
    return f"{_sign(real)}{whole}.{fraction:0{places}d}" if places else f"{_sign(real)}{whole}"


def _exponent(name: str, value: Any, precision: int | None) -> str:
    # Erlang counts all digits, Python those after the point; and Erlang writes the exponent without a leading zero.
    real, places = float(number(name, 2, value)), _digits_after(precision)
    exponent = _magnitude(real)
    digits = str(_scaled(real, places - exponent)).zfill(places + 1)
    if len(digits) > places + 1:
        exponent += 1
    return f"{_sign(real)}{digits[0]}.{digits[1 : places + 1]}e{exponent:+d}"


def _general(name: str, value: Any, precision: int | None) -> str:
    real, digits = float(number(name, 2, value)), 6 if precision is None else precision
    size = _magnitude(real)
    if real and (-1 <= size < min(digits - 1, 4) or (size == -1 and digits == 1)):
        return _fixed(name, real, digits - 1 - size)
    return _exponent(name, real, digits)


def _magnitude(real: float) -> int:
    """Return the exponent of the number in scientific notation."""
    return int(f"{real:.16e}".partition("e")[2])


def _sign(real: float) -> str:
    return "-" if copysign(1, real) < 0 else ""


def _scaled(real: float, places: int) -> int:
    """Return the absolute value of the number times 10 to the power of `places`, halves rounded away from zero."""
    numerator, denominator = abs(real).as_integer_ratio()
    if places >= 0:
        numerator *= 10**places
    else:
        denominator *= 10**-places
    return (2 * numerator + denominator) // (2 * denominator)


def _digits_after(precision: int | None) -> int:
    return 5 if precision is None else min(max(precision, 2), 253) - 1


def _term(name: str, value: Any, precision: int | None) -> str:
    return _erlang(value, shows_text=False)


def _pretty(name: str, value: Any, precision: int | None) -> str:
    return _erlang(value, shows_text=True)


_WRITERS = {
    "s": _text, "c": _character, "b": _based, "B": _upper_based, "+": _prefixed, "#": _upper_prefixed, "f": _fixed,
    "e": _exponent, "g": _general, "p": _pretty, "w": _term,
}  # fmt: skip


def _erlang(value: Any, shows_text: bool) -> str:
    """Return a value in Erlang's notation; `shows_text` writes printable bytes as text instead of numbers."""
    if type(value) is str or type(value) is bytes:
        data = value.encode("utf-8", "replace") if isinstance(value, str) else value
        if shows_text and data and type(value) is str and all(map(_is_printable, data)):
            return "<<" + _quoted(value) + ">>"
        return "<<" + ",".join(map(str, data)) + ">>"
    if type(value) is list:
        return "[" + ",".join(_erlang(item, shows_text) for item in value) + "]"
    if type(value) is dict:
        entries = (f"{_erlang(k, shows_text)} => {_erlang(v, shows_text)}" for k, v in sorted(value.items()))
        return "#{" + ",".join(entries) + "}"
    if type(value) is float:
        return _shortest(value)
    if isinstance(value, Bits):
        whole = (value.value >> value.length % 8).to_bytes(value.length // 8, "big")
        return (
            "<<"
            + "".join(f"{byte}," for byte in whole)
            + f"{value.value % (1 << value.length % 8)}:{value.length % 8}>>"
        )
    return str(to_text(value))


def _is_printable(byte: int) -> bool:
    """Return whether Erlang takes a byte for a printable character of Latin-1."""
    return 32 <= byte < 127 or byte >= 160 or byte in b"\t\n\r\b\f\v\x1b"


def _shortest(value: float) -> str:
    """Return the fewest digits that identify the float, without an exponent unless that is shorter."""
    exact = Decimal(repr(value))
    plain = f"{exact:f}" if "." in f"{exact:f}" else f"{exact:f}.0"
    first, *others = exact.normalize().as_tuple().digits
    short = f"{_sign(value)}{first}.{''.join(map(str, others)) or 0}e{exact.adjusted()}"
    return plain if len(plain) <= len(short) and abs(value) < 2**53 else short


_QUOTED = str.maketrans(
    {
        "\\": "\\\\",
        '"': '\\"',
        "\n": "\\n",
        "\t": "\\t",
        "\r": "\\r",
        "\b": "\\b",
        "\f": "\\f",
        "\v": "\\v",
        "\x1b": "\\e",
    }
)


def _quoted(characters: str) -> str:
    return '"' + characters.translate(_QUOTED) + '"'
