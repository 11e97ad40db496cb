"""The functions that generated code calls: operators, paths and conditions for values of any kind.

Fast paths are inline in the generated code (see `engine.language.sql.codegen`): two numbers, two texts, a step into a
map. All other values come here. A value that an operator can't take raises `EvaluationError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from broker.topics import topic_matches
from engine.errors import EvaluationError, Position
from engine.model.jsontext import UNDEFINED, decode
from engine.model.value import equal, from_bytes, kind_of, number_of, same, to_text

__all__ = [
    "FLOAT_MAX", "HEAD", "LIST_MAX", "PENDING", "TAIL", "TEXT_MAX", "add", "columns_of", "concat", "condition",
    "divide", "eq", "ge", "gt", "index", "int_divide", "key", "key_or_none", "le", "located", "lt", "modulo",
    "multiply", "ne", "negate", "number_or_none", "part", "put", "put_read", "reference_condition", "rows_of", "same",
    "sequence", "subtract", "topic_match", "within_range",
]  # fmt: skip

INTEGER_BITS_MAX = 4096
"""The size of the results of integer arithmetic. Erlang has no such bound, but a rule could fill the memory."""

FLOAT_MAX = 1.7976931348623157e308

TEXT_MAX = 16 << 20
"""The length of joined text in characters, or of joined binary data in bytes."""

LIST_MAX = 100_000
"""The number of elements of a range, and of the list of FOREACH."""


class _End:
    """One end of a list, as the target of an alias."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


PENDING = object()
"""The value of a CASE of which no branch has matched yet."""

HEAD = _End("HEAD")
TAIL = _End("TAIL")


# -- arithmetic


def add(left: Any, right: Any) -> Any:
    """Return the sum of two numbers; with text on one side, join the texts of both."""
    if type(left) is str and type(right) is str:
        return concat(left, right)
    if _are_numbers(left, right):
        return within_range(left + right)
    if _is_text(left) or _is_text(right):
        return concat(left, right)
    raise EvaluationError(f"can't add {kind_of(left)} and {kind_of(right)}")


def subtract(left: Any, right: Any) -> Any:
    """Return the difference of two numbers."""
    return within_range(left - right) if _are_numbers(left, right) else _no_numbers("subtract", left, right)


def multiply(left: Any, right: Any) -> Any:
    """Return the product of two numbers."""
    return within_range(left * right) if _are_numbers(left, right) else _no_numbers("multiply", left, right)


def divide(left: Any, right: Any) -> float:
    """Return the quotient of two numbers, always a float."""
    if not _are_numbers(left, right):
        _no_numbers("divide", left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    return within_range(left / right)


def int_divide(left: Any, right: Any) -> int:
    """Return the quotient of two integers, truncated towards zero."""
    _two_integers("div", left, right)
    # Python's // rounds towards minus infinity, Erlang's div towards zero.
    quotient: int = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def modulo(left: Any, right: Any) -> int:
    """Return the remainder of `int_divide`, with the sign of `left`."""
    _two_integers("mod", left, right)
    # Python's % takes the sign of the divisor, Erlang's rem that of the dividend.
    rest: int = abs(left) % abs(right)
    return -rest if left < 0 else rest


def negate(value: Any) -> Any:
    """Return the number with the opposite sign."""
    if type(value) is int or type(value) is float:
        return -value
    raise EvaluationError(f"can't negate {kind_of(value)}")


def concat(left: Any, right: Any) -> str | bytes:
    """Return the texts of two values, joined."""
    first, second = to_text(left), to_text(right)
    if len(first) + len(second) > TEXT_MAX:
        raise EvaluationError(f"the joined text would be longer than {TEXT_MAX} characters")
    if type(first) is str and type(second) is str:
        return first + second
    return from_bytes(_octets(first) + _octets(second))


def within_range(number: int | float) -> int | float:
    """Return `number`. Raises `EvaluationError` where it is out of the range of numbers."""
    if type(number) is int:
        if number.bit_length() > INTEGER_BITS_MAX:
            raise EvaluationError(f"the integer has more than {INTEGER_BITS_MAX} bits")
    elif not -FLOAT_MAX <= number <= FLOAT_MAX:
        raise EvaluationError("the number is beyond what a float can hold")
    return number


def _are_numbers(left: Any, right: Any) -> bool:
    kind, other = type(left), type(right)
    return (kind is int or kind is float) and (other is int or other is float)


def _is_text(value: Any) -> bool:
    return type(value) is str or type(value) is bytes


def _octets(text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EvaluationError(f"the text is not valid Unicode: {error.reason}") from error


def _no_numbers(verb: str, left: Any, right: Any) -> Any:
    odd = right if type(left) is int or type(left) is float else left
    raise EvaluationError(f"can't {verb} {kind_of(odd)}")


def _two_integers(name: str, left: Any, right: Any) -> None:
    if type(left) is not int or type(right) is not int:
        odd = right if type(left) is int else left
        raise EvaluationError(f"{name} needs two integers, not {kind_of(odd)}")
    if right == 0:
        raise EvaluationError("division by zero")


# -- comparison


def eq(left: Any, right: Any) -> bool:
    """Return ``left = right``. Two missing values are equal; text that holds a number equals that number."""
    kind, other = type(left), type(right)
    if kind is other:
        return equal(left, right)
    if left is UNDEFINED or right is UNDEFINED:
        return False
    if kind is str:
        return _text_equals(left, right)
    if other is str:
        return _text_equals(right, left)
    return equal(left, right)


def ne(left: Any, right: Any) -> bool:
    """Return ``left != right``, which is false where exactly one side is missing."""
    return (left is UNDEFINED) == (right is UNDEFINED) and not eq(left, right)


def lt(left: Any, right: Any) -> bool:
    """Return ``left < right``."""
    order = _order(left, right)
    return order is not None and order < 0


def gt(left: Any, right: Any) -> bool:
    """Return ``left > right``."""
    order = _order(left, right)
    return order is not None and order > 0


def le(left: Any, right: Any) -> bool:
    """Return ``left <= right``."""
    order = _order(left, right)
    return order is not None and order <= 0


def ge(left: Any, right: Any) -> bool:
    """Return ``left >= right``."""
    order = _order(left, right)
    return order is not None and order >= 0


def topic_match(topic: Any, topic_filter: Any) -> bool:
    """Return ``topic =~ filter``, which is false unless both are text."""
    return type(topic) is str and type(topic_filter) is str and topic_matches(topic_filter, topic)


_SYMBOLS = {True: "true", False: "false", None: "null"}


def _symbol(value: Any) -> str | None:
    return _SYMBOLS[value] if value is None or type(value) is bool else None


def _text_equals(text: str, other: Any) -> bool:
    if type(other) is int or type(other) is float:
        return number_of(text) == other
    return text == _symbol(other)


def _order(left: Any, right: Any) -> int | None:
    """Compare two values: negative, zero or positive; None where they have no order."""
    if left is UNDEFINED or right is UNDEFINED:
        return 0 if left is right else None
    if type(left) is str and type(right) is not str:
        left = _as_kind_of(right, left)
    elif type(right) is str and type(left) is not str:
        right = _as_kind_of(left, right)
    return None if left is UNDEFINED or right is UNDEFINED else _structural(_plain_symbol(left), _plain_symbol(right))


def _as_kind_of(other: Any, text: str) -> Any:
    """Convert `text` for a comparison with `other`; UNDEFINED where `other` is a number and `text` is not."""
    if type(other) is int or type(other) is float:
        number = number_of(text)
        return UNDEFINED if number is None else number
    if other is None or type(other) is bool:
        return _Symbol(text)
    return text


class _Symbol(str):
    """Text to be compared with true, false or null, which compare by name."""

    __slots__ = ()


def _plain_symbol(value: Any) -> Any:
    symbol = _symbol(value)
    return value if symbol is None else _Symbol(symbol)


_RANKS = {int: 0, float: 0, _Symbol: 1, dict: 2, list: 3, str: 4, bytes: 4}


def _structural(left: Any, right: Any) -> int:
    """Compare by kind (numbers, symbols, maps, lists, text), and within a kind by content."""
    rank, other = _RANKS.get(type(left), 5), _RANKS.get(type(right), 5)
    if rank != other:
        return rank - other
    if rank == 2:
        return _maps(left, right)
    if rank == 3:
        return _lists(left, right)
    if rank == 4 and type(left) is not type(right):
        left, right = _octets(left), _octets(right)
    if rank == 5:
        left, right = repr(left), repr(right)
    return int(left > right) - int(left < right)


def _lists(left: list[Any], right: list[Any]) -> int:
    for first, second in zip(left, right, strict=False):
        order = _structural(_plain_symbol(first), _plain_symbol(second))
        if order:
            return order
    return len(left) - len(right)


def _maps(left: dict[str, Any], right: dict[str, Any]) -> int:
    if len(left) != len(right):
        return len(left) - len(right)
    names, others = sorted(left), sorted(right)
    if names != others:
        return 1 if names > others else -1
    return _lists([left[name] for name in names], [right[name] for name in names])


# -- conditions


def condition(value: Any) -> bool:
    """Return a boolean used as condition. Raises `EvaluationError` for any other value."""
    if value is True or value is False:
        return value
    raise EvaluationError(f"a condition must be true or false, not {kind_of(value)}")


def reference_condition(value: Any) -> bool:
    """Return a column or field used as condition; a missing one is false, as in SQL."""
    return False if value is UNDEFINED or value is None else condition(value)


# -- paths


def key(value: Any, name: str) -> Any:
    """Return the value under `name` in a map or in the JSON text of a map, else UNDEFINED."""
    if type(value) is str:
        value = _opened(value)
    return value.get(name, UNDEFINED) if type(value) is dict else UNDEFINED


def key_or_none(value: Any, name: str) -> Any:
    """Return the same as `key`, with None for UNDEFINED."""
    found = key(value, name)
    return None if found is UNDEFINED else found


def index(value: Any, number: Any) -> Any:
    """Return an element of a list or of the JSON text of a list, counted from 1 or from the end, else UNDEFINED."""
    if type(value) is str:
        value = _opened(value)
    if type(value) is not list or type(number) is not int or number == 0:
        return UNDEFINED
    try:
        return value[number - 1 if number > 0 else number]
    except IndexError:
        return UNDEFINED


def number_or_none(value: Any) -> int | None:
    """Return the index for `put` from the value of an expression; None, which changes nothing, for other kinds."""
    return value if type(value) is int else None


def part(value: Any, first: int, last: int) -> list[Any]:
    """Return the elements from `first` to `last`, cut at the end. Raises where the range begins before the list."""
    items = _opened(value) if type(value) is str else value
    if type(items) is not list:
        raise EvaluationError(f"a range needs a list, not {kind_of(value)}")
    begin, end = _place(first, len(items)), _place(last, len(items))
    if end < begin - 1:
        raise EvaluationError(f"the range [{first}..{last}] ends before it begins")
    return items[begin - 1 : end]


def sequence(first: int, last: int) -> list[int]:
    """Return the integers from `first` to `last`."""
    if last < first - 1:
        raise EvaluationError(f"the range [{first}..{last}] ends before it begins")
    if last - first >= LIST_MAX:
        raise EvaluationError(f"the range [{first}..{last}] has more than {LIST_MAX} elements")
    return list(range(first, last + 1))


def rows_of(value: Any) -> list[Any]:
    """Return the list that FOREACH iterates over; an empty one for any other value."""
    if type(value) is not list:
        return []
    if len(value) > LIST_MAX:
        raise EvaluationError(f"the list has {len(value)} elements, more than {LIST_MAX}")
    return value


def _place(number: int, length: int) -> int:
    place = number if number >= 0 else length + number + 1
    if place < 1:
        raise EvaluationError(f"there is no element {number} in a list of {length}")
    return place


def _opened(text: str) -> Any:
    try:
        return decode(text)
    except ValueError:
        return UNDEFINED


def columns_of(message: Any) -> dict[str, Any]:
    """Return all columns, with None for UNDEFINED."""
    return {name: None if value is UNDEFINED else value for name, value in message.columns().items()}


# -- nested output


def put(root: Any, steps: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of `root` with `value` at the end of `steps`, with containers added as needed.

    A step is a key, an index, `HEAD` or `TAIL` (insert there), or the result of `number_or_none`. An index that is not
    in the list changes nothing. JSON text along the path is decoded and keeps its other keys.
    """
    return _put(root, steps, 0, value, False)


def put_read(root: Any, steps: tuple[Any, ...], value: Any) -> Any:
    """Put the value of a column without alias, as `put`; an index behind the end of the list appends."""
    return _put(root, steps, 0, value, True)


def _put(current: Any, steps: tuple[Any, ...], depth: int, value: Any, appending: bool) -> Any:
    if depth == len(steps):
        return value
    step = steps[depth]
    if type(current) is str:
        current = _opened(current)
    if type(step) is str:
        entries = dict(current) if type(current) is dict else {}
        entries[step] = _put(entries.get(step, UNDEFINED), steps, depth + 1, value, appending)
        return entries
    if type(current) is not list:
        return [_put(UNDEFINED, steps, depth + 1, value, appending)]
    place = _element(step, len(current))
    if place is not None:
        items = list(current)
        items[place] = _put(items[place], steps, depth + 1, value, appending)
        return items
    if step is HEAD:
        return [_put(UNDEFINED, steps, depth + 1, value, appending), *current]
    if step is TAIL or (appending and _is_place(step)):
        return [*current, _put(UNDEFINED, steps, depth + 1, value, appending)]
    return current


def _is_place(step: Any) -> bool:
    return step is HEAD or step is TAIL or (type(step) is int and step != 0)


def _element(step: Any, length: int) -> int | None:
    """Convert an index to one counted from 0 in a list of `length`; None where it is not in the list."""
    if type(step) is not int or step == 0 or abs(step) > length:
        return None
    return step - 1 if step > 0 else length + step


# -- errors


_WORDS: Mapping[type[BaseException], str] = {
    RecursionError: "a value nests too deeply",
    MemoryError: "a value takes too much memory",
    OverflowError: "a number is beyond what a float can hold",
    ZeroDivisionError: "division by zero",
}


def located(error: Exception, places: Callable[[int], Position | None]) -> EvaluationError:
    """Convert an exception of generated code to an `EvaluationError` with its position in the statement."""
    traceback = error.__traceback__
    place = None if traceback is None else places(traceback.tb_lineno)
    if isinstance(error, EvaluationError):
        return EvaluationError(error.message, error.position or place)
    message = _WORDS.get(type(error)) or f"{type(error).__name__}: {error}"
    return EvaluationError(message, place)
