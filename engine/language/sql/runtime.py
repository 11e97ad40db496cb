"""What generated code calls where its fast paths end: the rules of values, one function each.

Fast paths stand in the generated code itself (see `engine.language.sql.codegen`); whatever is not two numbers, two
texts or a step into a map comes here. What is wrong with a value is an `EvaluationError`.
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
"""The longest integer that arithmetic may make. Erlang has no such bound, and a rule could fill the memory."""

FLOAT_MAX = 1.7976931348623157e308

TEXT_MAX = 16 << 20
"""The longest text or binary that joining may make, in characters or bytes."""

LIST_MAX = 100_000
"""The most elements FOREACH goes through, and the most a range may make."""


class _End:
    """An end of a list, as the target of an alias."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


PENDING = object()
"""The value of a CASE of which no branch has applied yet."""

HEAD = _End("HEAD")
TAIL = _End("TAIL")


# -- arithmetic


def add(left: Any, right: Any) -> Any:
    """The sum of two numbers; where one side is text, both joined."""
    if type(left) is str and type(right) is str:
        return concat(left, right)
    if _are_numbers(left, right):
        return within_range(left + right)
    if _is_text(left) or _is_text(right):
        return concat(left, right)
    raise EvaluationError(f"can't add {kind_of(left)} and {kind_of(right)}")


def subtract(left: Any, right: Any) -> Any:
    """The difference of two numbers."""
    return within_range(left - right) if _are_numbers(left, right) else _no_numbers("subtract", left, right)


def multiply(left: Any, right: Any) -> Any:
    """The product of two numbers."""
    return within_range(left * right) if _are_numbers(left, right) else _no_numbers("multiply", left, right)


def divide(left: Any, right: Any) -> float:
    """The quotient of two numbers, always a float."""
    if not _are_numbers(left, right):
        _no_numbers("divide", left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    return within_range(left / right)


def int_divide(left: Any, right: Any) -> int:
    """The quotient of two integers without its fraction."""
    _two_integers("div", left, right)
    quotient: int = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def modulo(left: Any, right: Any) -> int:
    """What `int_divide` leaves, with the sign of `left`."""
    _two_integers("mod", left, right)
    rest: int = abs(left) % abs(right)
    return -rest if left < 0 else rest


def negate(value: Any) -> Any:
    """The number with the other sign."""
    if type(value) is int or type(value) is float:
        return -value
    raise EvaluationError(f"can't negate {kind_of(value)}")


def concat(left: Any, right: Any) -> str | bytes:
    """The texts of two values, joined."""
    first, second = to_text(left), to_text(right)
    if len(first) + len(second) > TEXT_MAX:
        raise EvaluationError(f"the joined text would be longer than {TEXT_MAX} characters")
    if type(first) is str and type(second) is str:
        return first + second
    return from_bytes(_octets(first) + _octets(second))


def within_range(number: int | float) -> int | float:
    """`number`, where it is one that the language can hold."""
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
    """``=``: two missing values are equal, a missing one equals nothing else; text that is a number is that number."""
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
    """``!=``: false where exactly one side is missing."""
    return (left is UNDEFINED) == (right is UNDEFINED) and not eq(left, right)


def lt(left: Any, right: Any) -> bool:
    """``<``"""
    order = _order(left, right)
    return order is not None and order < 0


def gt(left: Any, right: Any) -> bool:
    """``>``"""
    order = _order(left, right)
    return order is not None and order > 0


def le(left: Any, right: Any) -> bool:
    """``<=``"""
    order = _order(left, right)
    return order is not None and order <= 0


def ge(left: Any, right: Any) -> bool:
    """``>=``"""
    order = _order(left, right)
    return order is not None and order >= 0


def topic_match(topic: Any, topic_filter: Any) -> bool:
    """``=~``: whether a topic matches a topic filter; false where either is no text."""
    return type(topic) is str and type(topic_filter) is str and topic_matches(topic_filter, topic)


_SYMBOLS = {True: "true", False: "false", None: "null"}


def _symbol(value: Any) -> str | None:
    return _SYMBOLS[value] if value is None or type(value) is bool else None


def _text_equals(text: str, other: Any) -> bool:
    if type(other) is int or type(other) is float:
        return number_of(text) == other
    return text == _symbol(other)


def _order(left: Any, right: Any) -> int | None:
    """Negative, zero or positive; None where the two can't be ordered."""
    if left is UNDEFINED or right is UNDEFINED:
        return 0 if left is right else None
    if type(left) is str and type(right) is not str:
        left = _as_kind_of(right, left)
    elif type(right) is str and type(left) is not str:
        right = _as_kind_of(left, right)
    return None if left is UNDEFINED or right is UNDEFINED else _structural(_plain_symbol(left), _plain_symbol(right))


def _as_kind_of(other: Any, text: str) -> Any:
    """`text` as it compares with `other`: as a number with a number, UNDEFINED where it is none."""
    if type(other) is int or type(other) is float:
        number = number_of(text)
        return UNDEFINED if number is None else number
    if other is None or type(other) is bool:
        return _Symbol(text)
    return text


class _Symbol(str):
    """Text that is compared with true, false or null, by their names."""

    __slots__ = ()


def _plain_symbol(value: Any) -> Any:
    symbol = _symbol(value)
    return value if symbol is None else _Symbol(symbol)


_RANKS = {int: 0, float: 0, _Symbol: 1, dict: 2, list: 3, str: 4, bytes: 4}


def _structural(left: Any, right: Any) -> int:
    """The order of all values: numbers, symbols, maps, lists, text; within a kind by content."""
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
    """A value that stands where a condition is wanted."""
    if value is True or value is False:
        return value
    raise EvaluationError(f"a condition must be true or false, not {kind_of(value)}")


def reference_condition(value: Any) -> bool:
    """A column or field that stands where a condition is wanted; a missing one is false, as it is in SQL."""
    return False if value is UNDEFINED or value is None else condition(value)


# -- paths


def key(value: Any, name: str) -> Any:
    """The value under `name` in a map or the JSON text of one, else UNDEFINED."""
    if type(value) is str:
        value = _opened(value)
    return value.get(name, UNDEFINED) if type(value) is dict else UNDEFINED


def key_or_none(value: Any, name: str) -> Any:
    """As `key`, but None where there is nothing."""
    found = key(value, name)
    return None if found is UNDEFINED else found


def index(value: Any, number: Any) -> Any:
    """The element of a list or the JSON text of one, counted from 1 or from the end, else UNDEFINED."""
    if type(value) is str:
        value = _opened(value)
    if type(value) is not list or type(number) is not int or number == 0:
        return UNDEFINED
    try:
        return value[number - 1 if number > 0 else number]
    except IndexError:
        return UNDEFINED


def number_or_none(value: Any) -> int | None:
    """What an index found at run time is to `put`: a place, or None, which changes nothing."""
    return value if type(value) is int else None


def part(value: Any, first: int, last: int) -> list[Any]:
    """The elements from `first` to `last`; a range past the end is cut, one that begins before the list an error."""
    items = _opened(value) if type(value) is str else value
    if type(items) is not list:
        raise EvaluationError(f"a range needs a list, not {kind_of(value)}")
    begin, end = _place(first, len(items)), _place(last, len(items))
    if end < begin - 1:
        raise EvaluationError(f"the range [{first}..{last}] ends before it begins")
    return items[begin - 1 : end]


def sequence(first: int, last: int) -> list[int]:
    """The integers from `first` to `last`."""
    if last < first - 1:
        raise EvaluationError(f"the range [{first}..{last}] ends before it begins")
    if last - first >= LIST_MAX:
        raise EvaluationError(f"the range [{first}..{last}] has more than {LIST_MAX} elements")
    return list(range(first, last + 1))


def rows_of(value: Any) -> list[Any]:
    """What FOREACH goes through: a list, or nothing."""
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
    """All columns, as they leave the rule."""
    return {name: None if value is UNDEFINED else value for name, value in message.columns().items()}


# -- nested output


def put(root: Any, steps: tuple[Any, ...], value: Any) -> Any:
    """`root` with `value` at the end of `steps`; containers are made as needed and nothing is changed in place.

    A step is a key, an index, `HEAD` or `TAIL` (insert there), or what an index was at run time. An index that is not
    in the list changes nothing. JSON text in the way is opened and keeps its other keys.
    """
    return _put(root, steps, 0, value, False)


def put_read(root: Any, steps: tuple[Any, ...], value: Any) -> Any:
    """As `put`, for a column without alias: an element that the output's list does not have yet is appended."""
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
    """The element that an index means in a list of `length`, counted from 0."""
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
    """`error`, raised somewhere in generated code, as one that tells the place in the statement."""
    traceback = error.__traceback__
    place = None if traceback is None else places(traceback.tb_lineno)
    if isinstance(error, EvaluationError):
        return EvaluationError(error.message, error.position or place)
    message = _WORDS.get(type(error)) or f"{type(error).__name__}: {error}"
    return EvaluationError(message, place)
