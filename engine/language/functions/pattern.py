"""Regular expressions with a bound in time.

RE2 matches in time linear to the text. Patterns that it lacks (look-around, back-references, possessive repeats, more
than 1,000 repeats) are matched by the backtracking `regex` library, with a deadline for each call. Both have Perl's
syntax; classes such as ``\\w`` are ASCII, everything else counts characters. RE2's ``$`` does not match before a final
line feed as Perl's does: such texts are matched by `regex`, too. EMQX matches bytes unless a pattern begins with
``(*UTF)``; here that prefix has no meaning.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import re2
import regex

from engine.errors import EvaluationError
from engine.language.functions import argument
from engine.language.functions.argument import Text
from engine.language.functions.memo import remembered
from engine.language.functions.registry import function
from engine.model.value import as_binary, bounded, from_bytes

_PATTERN_LENGTH_MAX = 4096
"""Bound of a pattern, which may come from a message: compiling takes time and memory by its length."""
_SECONDS_MAX = 0.25
"""Deadline of a call that backtracks. `regex` measures it by the clock: it is long enough that a busy machine does not
make ordinary patterns exceed it."""
_CPU_SECONDS_MAX = 0.1
"""Bound of one replacement in CPU time of this thread. Each match is linear, their sum may be quadratic."""
_MEMORY_BYTES_MAX = 1 << 20
"""Bound of a compiled pattern, RE2's default divided by eight: patterns beyond it are refused or go to `regex`."""


class _Pattern(NamedTuple):
    """A compiled regular expression."""

    linear: Any
    """RE2's pattern on bytes; None where RE2 lacks a part of the pattern."""
    has_dollar: bool
    """Whether a line feed at the end of the text could make RE2 answer differently from Perl."""
    source: str

    def is_linear_on(self, data: bytes) -> bool:
        """Return whether RE2 answers for `data` as Perl does."""
        return self.linear is not None and not (self.has_dollar and data.endswith(b"\n"))


@lru_cache(maxsize=128)
def _compiled(name: str, source: str) -> _Pattern:
    if len(source) > _PATTERN_LENGTH_MAX:
        raise EvaluationError(
            f"{name}: expected a pattern of at most {_PATTERN_LENGTH_MAX} characters, found {len(source)}"
        )
    options = re2.Options()
    options.max_mem = _MEMORY_BYTES_MAX
    options.log_errors = False
    try:
        linear = re2.compile(source.encode(), options)
    except re2.error:
        _backtracking(name, source)  # raises where the pattern is wrong
        linear = None
    except UnicodeEncodeError as error:
        raise EvaluationError(f"{name}: expected a pattern of Unicode text, found half of a surrogate pair") from error
    return _Pattern(linear, "$" in source, source)


@lru_cache(maxsize=128)
def _backtracking(name: str, source: str) -> regex.Pattern[str]:
    try:
        return regex.compile(source, regex.VERSION0 | regex.ASCII)
    except (regex.error, ValueError, RecursionError) as error:
        raise EvaluationError(f"{name}: argument 2: expected a regular expression: {error}") from error


@function((r"regex_match('a23', '\d+')", True), (r"regex_match('a23', '^\d+$')", False))
def regex_match(text: str, pattern: str) -> bool:
    """Return whether the regular expression matches anywhere in the text.

    Fails for a text that is not a regular expression, and where backtracking takes too long.
    """
    return _first("regex_match", text, pattern) is not None


@function(
    (r"regex_extract('2021-05', '(\d+)-(\d+)')", ["2021", "05"]),
    (r"regex_extract('none', '(\d+)')", []),
)
def regex_extract(text: str, pattern: str) -> list[Text]:
    """Return the groups of the first match; an empty list without a match or a group.

    A group that takes no part in the match is empty text, or left out at the end of the list.
    """
    match = _first("regex_extract", text, pattern)
    groups = [] if match is None else list(match.groups())
    while groups and groups[-1] is None:
        groups.pop()
    return [_value(group or "") for group in groups]


@function(
    (r"regex_replace('hello 123', '\d+', 'world')", "hello world"),
    (r"regex_replace('abc', '(b)', '[\1]')", "a[b]c"),
    (r"regex_replace('abc', 'b', '<&>')", "a<b>c"),
)
def regex_replace(text: str, pattern: str, replacement: str) -> Text:
    r"""Return the text with all matches replaced.

    In `replacement`, `&` is the match, `\1` or `\g{1}` a group, `\&` the character &.
    """
    data, compiled = _asked("regex_replace", text, pattern)
    pieces = _replacement(argument.text("regex_replace", 3, replacement))
    if compiled.is_linear_on(data):
        result = _replaced(data, compiled.linear.finditer(data), pieces)
        if result is not None:
            return from_bytes(result)
    characters = _characters("regex_replace", data)
    matches = _slow_matches("regex_replace", compiled.source, characters)
    return _replaced(characters, matches, pieces)  # type: ignore[no-any-return]


def _asked(name: str, subject: Any, source: Any) -> tuple[bytes, _Pattern]:
    pattern = argument.text(name, 2, source).removeprefix("(*UTF)")
    return argument.octets(name, 1, subject), _compiled(name, pattern)


def _first(name: str, subject: Any, source: Any) -> Any:
    """Return the first match, or None."""
    data, pattern = _asked(name, subject, source)
    if pattern.is_linear_on(data):
        return pattern.linear.search(data)
    return next(_slow_matches(name, pattern.source, _characters(name, data)), None)


def _characters(name: str, data: bytes) -> str:
    characters = from_bytes(data)
    if type(characters) is not str:
        raise EvaluationError(f"{name}: argument 1: expected text for this pattern, found bytes that are not UTF-8")
    return characters


def _replaced(subject: Any, matches: Iterable[Any], pieces: Sequence[str | int]) -> Any:
    """Return the subject with matches replaced, or None where RE2 (on bytes) finds an empty match.

    After an empty match, Perl tries the same place for a longer match; RE2 can't.
    """
    is_binary = type(subject) is bytes
    result: list[Any] = []
    position, size, deadline = 0, len(subject), time.thread_time() + _CPU_SECONDS_MAX
    for number, match in enumerate(matches):
        start, end = match.span()
        if start == end and is_binary:
            return None
        parts = [_part(match, piece, is_binary) for piece in pieces]
        size += sum(map(len, parts))
        bounded(size, "regex_replace")
        result += (subject[position:start], *parts)
        position = end
        if number % 32 == 31 and time.thread_time() > deadline:  # reading the clock costs more than most matches
            raise EvaluationError(
                f"regex_replace: expected to end within {_CPU_SECONDS_MAX} s, found a text that takes longer"
            )
    result.append(subject[position:])
    return subject[:0].join(result)  # joined by an empty text, or by empty bytes


def _slow_matches(name: str, source: str, characters: str) -> Iterator[Any]:
    try:
        yield from _backtracking(name, source).finditer(characters, timeout=_SECONDS_MAX)
    except TimeoutError as error:
        raise EvaluationError(
            f"{name}: expected the pattern to end within {_SECONDS_MAX} s, found a text that takes longer"
        ) from error


def _value(part: Text) -> Text:
    return part if type(part) is str else from_bytes(part)  # type: ignore[arg-type]


_PIECE = regex.compile(r"&|\\(?:g\{(\d{1,3})\}|g(\d{1,3})|([1-9]\d?)|(.))", regex.DOTALL)


@remembered
def _replacement(template: str) -> tuple[str | int, ...]:
    """Return the literal parts and group numbers of a replacement in order; 0 is the match."""
    pieces: list[str | int] = []
    position = 0
    for match in _PIECE.finditer(template):
        number = match[1] or match[2] or match[3]
        pieces.append(template[position : match.start()])
        pieces.append(int(number) if number else match[4] or 0)
        position = match.end()
    pieces.append(template[position:])
    return tuple(piece for piece in pieces if piece != "")


def _part(match: Any, piece: str | int, is_binary: bool) -> Any:
    if isinstance(piece, str):
        return as_binary(piece) if is_binary else piece
    try:
        return match.group(piece) or (b"" if is_binary else "")
    except IndexError:
        return b"" if is_binary else ""
