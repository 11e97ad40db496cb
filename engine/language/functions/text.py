"""Text: case, white space, length, parts, splitting, joining, padding.

Lengths and positions count grapheme clusters, the characters that a reader sees: an accent belongs to its letter, CR LF
is one. ASCII text without CR has one code point per cluster and is not segmented. Functions that only search for parts
work on binary data, too.
"""

from __future__ import annotations

from typing import Any

import regex

from engine.errors import EvaluationError
from engine.language.functions.argument import Text, alike, count, integer, items, octets, word
from engine.language.functions.argument import text as plain
from engine.language.functions.registry import function
from engine.model.value import TEXT_BYTES_MAX, as_binary, bounded, float_text, from_bytes, to_text

_cluster = regex.compile(r"[\U0001F1E6-\U0001F1FF]{2}[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]*|\X")
"""A grapheme cluster. Flags are pairs of regional indicators; ``\\X`` alone looks at all indicators before each one, in
quadratic time on a text of flags."""
_WHERE = ("all", "leading", "trailing")
_SPLITS = ("notrim", "leading", "leading_notrim", "trailing", "trailing_notrim")
_SIDES = ("leading", "trailing", "both")


def _are_texts(text: Any, other: Any) -> bool:
    return type(text) is str and type(other) is str


def _is_simple(characters: str) -> bool:
    """Return whether every code point is a character of its own."""
    return characters.isascii() and "\r" not in characters


def _clusters(characters: str) -> list[str]:
    return list(characters) if _is_simple(characters) else _cluster.findall(characters)


@function(("lower('Hello')", "hello"))
def lower(text: str) -> str:
    """Return the text in lower case."""
    return text.lower() if type(text) is str else plain("lower", 1, text).lower()


@function(("upper('abc')", "ABC"))
def upper(text: str) -> str:
    """Return the text in upper case."""
    return text.upper() if type(text) is str else plain("upper", 1, text).upper()


@function(("trim('  a ')", "a"), ("trim('--a-', '-')", "a"))
def trim(text: str, characters: str | None = None) -> str:
    """Return the text without white space, or without the characters of `characters`, at both ends."""
    return plain("trim", 1, text).strip(_edge("trim", characters))


@function(("ltrim('  a ')", "a "), ("ltrim('007', '0')", "7"))
def ltrim(text: str, characters: str | None = None) -> str:
    """Return the text without white space, or without the characters of `characters`, at its start."""
    return plain("ltrim", 1, text).lstrip(_edge("ltrim", characters))


@function(("rtrim(' a  ')", " a"), ("rtrim('xxayz', 'zy')", "xxa"))
def rtrim(text: str, characters: str | None = None) -> str:
    """Return the text without white space, or without the characters of `characters`, at its end."""
    return plain("rtrim", 1, text).rstrip(_edge("rtrim", characters))


def _edge(name: str, characters: Any) -> str | None:
    return None if characters is None else plain(name, 2, characters)


@function(("reverse('hello')", "olleh"))
def reverse(text: str) -> str:
    """Return the text with its characters in reverse order."""
    characters = plain("reverse", 1, text)
    return characters[::-1] if _is_simple(characters) else "".join(reversed(_clusters(characters)))


@function(("strlen('hello')", 5))
def strlen(text: str) -> int:
    """Return the number of characters of the text; an accent belongs to its letter."""
    characters = plain("strlen", 1, text)
    return len(characters) if _is_simple(characters) else len(_clusters(characters))


@function(("substr('sensor/7', 7)", "7"), ("substr('hello', 1, 3)", "ell"), ("substr('', 3)", ""))
def substr(text: str, start: int, length: int | None = None) -> str:
    """Return the characters of the text from `start` (the first is 0), at most `length`.

    Fails for a negative `start` or `length`. A `start` behind the end gives empty text.
    """
    characters = plain("substr", 1, text)
    end = None if length is None else count("substr", 2, start) + count("substr", 3, length)
    part = slice(count("substr", 2, start), end)
    return characters[part] if _is_simple(characters) else "".join(_clusters(characters)[part])


@function(("concat('a', 1.5)", "a1.5"), ("concat('a', nope)", "aundefined"), ("concat(['a', 'b', 1])", "ab1"))
def concat(value: Any, *more: Any) -> Text:
    """Return the texts of all values, or of the elements of a single list, joined.

    Values are converted as `str` does.
    """
    if len(more) == 1 and type(value) is str and type(more[0]) is str:
        return value + more[0]
    return _joined("", value if type(value) is list and not more else (value, *more))


def _joined(separator: str, values: Any) -> Text:
    parts: list[Any] = [value if type(value) is str else to_text(value) for value in values]
    try:
        return separator.join(parts)
    except TypeError:
        return from_bytes(separator.encode().join(map(as_binary, parts)))


@function(
    ("split('a;;b', ';')", ["a", "b"]),
    ("split('a;;b', ';', 'notrim')", ["a", "", "b"]),
    ("split('a;b;c', ';', 'leading')", ["a", "b;c"]),
    ("split('a;b;c;', ';', 'trailing_notrim')", ["a;b;c", ""]),
)
def split(text: str, separator: str, option: str = "") -> list[Text]:
    """Return the parts of the text between occurrences of `separator`, without empty parts.

    `option` is 'notrim' (keep empty parts), 'leading' or 'trailing' (split once, at the first or the last separator),
    'leading_notrim' or 'trailing_notrim' (both).
    """
    whole: Any
    whole, by = (text, separator) if _are_texts(text, separator) else alike("split", text, separator)
    if option != "":
        word("split", 3, option, _SPLITS)
    # An option is a side, "notrim", or both joined: it is read by its beginning and its end.
    if not by:
        parts = [whole]
    elif option[:7] == "leading":
        parts = whole.split(by, 1)
    else:
        parts = whole.rsplit(by, 1) if option[:8] == "trailing" else whole.split(by)
    kept = parts if option[-6:] == "notrim" else [part for part in parts if part]
    return kept if type(whole) is str else [from_bytes(part) for part in kept]


@function(
    ("tokens('a,b;c', ',;')", ["a", "b", "c"]),
    ("tokens('a b', ' ', 'nocrlf')", ["a", "b"]),
)
def tokens(text: str, separators: str, option: str = "") -> list[Text]:
    """Return the parts of the text between any of the characters of `separators`, without empty parts.

    The option 'nocrlf' adds carriage return and line feed to the separators.
    """
    whole, by = alike("tokens", text, separators)
    if option != "":
        word("tokens", 3, option, ("nocrlf",))
        by += "\r\n" if type(whole) is str else b"\r\n"
    first, others = by[:1], by[1:]
    if others:
        is_text = type(whole) is str
        table = dict.fromkeys(map(ord, others), first) if is_text else bytes.maketrans(others, first * len(others))
        whole = whole.translate(table)
    parts = whole.split(first) if by else [whole]
    return [part if type(part) is str else from_bytes(part) for part in parts if part]


@function(
    ("replace('ab..cd..ef', '..', '**')", "ab**cd**ef"),
    ("replace('ab..cd..ef', '..', '**', 'trailing')", "ab..cd**ef"),
)
def replace(text: str, part: str, replacement: str, where: str = "all") -> Text:
    """Return the text with `part` replaced by `replacement`.

    `where` is 'all' (the default), 'leading' (the first occurrence only) or 'trailing' (the last one only).
    """
    whole: Any
    whole, old, new = text, part, replacement
    if not (_are_texts(text, part) and type(replacement) is str):
        whole, old, new = alike("replace", text, part, replacement)
    if where != "all":
        word("replace", 4, where, _WHERE)
    if not old:
        return whole  # type: ignore[no-any-return]
    if where == "all":
        if len(new) > len(old) and len(whole) * len(new) > TEXT_BYTES_MAX:
            bounded(len(whole) + whole.count(old) * (len(new) - len(old)), "replace")
        result = whole.replace(old, new)
    elif where == "leading":
        result = whole.replace(old, new, 1)
    else:
        result = new.join(whole.rsplit(old, 1))
    return result if type(result) is str else from_bytes(result)


@function(
    ("find('..., Value: 1.2', 'Value:')", "Value: 1.2"),
    ("find('a.b.c', '.', 'trailing')", ".c"),
    ("find('abc', 'x')", ""),
)
def find(text: str, part: str, where: str = "leading") -> Text:
    """Return the text from the first ('leading') or the last ('trailing') occurrence of `part` to its end.

    Without an occurrence, the result is empty text.
    """
    whole: Any
    whole, wanted = (text, part) if _are_texts(text, part) else alike("find", text, part)
    word("find", 3, where, ("leading", "trailing"))
    position = whole.find(wanted) if where == "leading" or not wanted else whole.rfind(wanted)
    found = whole[position:] if position >= 0 else whole[:0]
    return found if type(found) is str else from_bytes(found)


@function(("rm_prefix('foo/bar', 'foo/')", "bar"), ("rm_prefix('foo/bar', 'x')", "foo/bar"))
def rm_prefix(text: str, prefix: str) -> Text:
    """Return the text without `prefix`, or unchanged where it does not begin with it."""
    whole, first = alike("rm_prefix", text, prefix)
    rest = whole.removeprefix(first)
    return rest if type(rest) is str else from_bytes(rest)


@function(
    ("pad('hello', 8)", "hello   "),
    ("pad('hello', 8, 'both')", " hello  "),
    ("pad('7', 3, 'leading', '0')", "007"),
)
def pad(text: str, length: int, side: str = "trailing", filler: str = " ") -> str:
    """Return the text padded to `length` characters at its end ('trailing'), its start ('leading') or both.

    `filler` is a space by default. A longer text is returned unchanged.
    """
    characters, fill = plain("pad", 1, text), plain("pad", 4, filler)
    word("pad", 3, side, _SIDES)
    missing = integer("pad", 2, length) - strlen(characters)
    if missing <= 0:
        return characters
    bounded(len(characters) + missing * max(len(fill), 1), "pad")
    before = {"leading": missing, "both": missing // 2}.get(side, 0)
    return fill * before + characters + fill * (missing - before)


@function(("ascii('a')", 97))
def ascii_(text: str) -> int:
    """Return the first byte of the text as an integer. Fails for empty text."""
    data = octets("ascii", 1, text)
    if not data:
        raise EvaluationError("ascii: argument 1: expected at least one character, found empty text")
    return data[0]


@function(("join_to_string(['a', 'b'])", "a, b"), ("join_to_string('-', ['a', 1, true, 1.5])", "a-1-true-1.5"))
def join_to_string(separator: Any, values: Any = None) -> Text:
    """Return the texts of a list's elements, joined by a separator; with the list alone, by a comma and a space."""
    if values is None:
        return _joined(", ", items("join_to_string", 1, separator))
    by, elements = plain("join_to_string", 1, separator), items("join_to_string", 2, values)
    if len(by) * len(elements) > TEXT_BYTES_MAX:
        bounded(len(by) * len(elements), "join_to_string")
    return _joined(by, elements)


@function(
    ("join_to_sql_values_string(['a', 1, true, nope, 1.5, [1, 2]])", "'a', 1, 'true', NULL, 1.5, '[1,2]'"),
)
def join_to_sql_values_string(values: list[Any]) -> str:
    """Return the elements of a list as SQL literals, separated by commas.

    Sinks bind parameters, which is safer than statements made of text.
    """
    return ", ".join(map(_sql_literal, items("join_to_sql_values_string", 1, values)))


def _sql_literal(value: Any) -> str:
    if type(value) is int:
        return to_text(value)  # type: ignore[return-value]
    if type(value) is float:
        return float_text(value)
    if value is None:
        return "'null'"
    written = to_text(value)
    if written == "undefined" and type(value) is not str:
        return "NULL"
    if type(written) is bytes:
        return f"0x{written.hex()}"
    return "'" + str(written).replace("\\", "\\\\").replace("'", "\\'") + "'"


_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "'": "'", '"': '"', "?": "?",
    "\\": "\\",
}  # fmt: skip
_escape = regex.compile(r"\\(?:x([0-9A-Fa-f]+)|(.))", regex.DOTALL)


@function((r"unescape('a\tb')", "a\tb"), (r"unescape('\x41G')", "AG"))
def unescape(text: str) -> str:
    r"""Return the text with its escapes resolved.

    Escapes are `\n` `\t` `\r` `\b` `\f` `\v` `\a` `\'` `\"` `\?` `\\` and `\x` with hexadecimal digits. Fails for any
    other escape.
    """
    characters = plain("unescape", 1, text)
    return characters if "\\" not in characters else _escape.sub(_unescaped, characters)


def _unescaped(match: regex.Match[str]) -> str:
    digits, letter = match.groups()
    try:
        return chr(int(digits, 16)).encode().decode() if digits else _ESCAPES[letter]
    except (KeyError, ValueError, OverflowError) as error:
        raise EvaluationError(f"unescape: expected an escape, found {match[0][:20]}") from error
