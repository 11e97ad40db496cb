"""Code of one arithmetic operation: inline for two numbers or two texts, a call of the runtime for other kinds.

A result is checked against the range of numbers only where it can leave it: not after ``x + 32`` or ``x / 10``.
"""

from __future__ import annotations

from engine.language.sql.emit import Atom, Writer

__all__ = ["number_guard", "operation"]

_CALLS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "div": "int_divide", "mod": "modulo", "||": "concat",
}  # fmt: skip

_HARMLESS_MAX = 1e290
"""A summand up to this keeps a float in range: it is less than half a unit in the last place of the largest float."""


def operation(writer: Writer, op: str, left: Atom, right: Atom) -> Atom:
    """Write ``left op right`` and return its value."""
    slow = f"{_CALLS[op]}({left.text}, {right.text})"
    if op in ("||", "+") and "str" in (left.kind, right.kind):
        return _join(writer, left, right, slow)
    if op == "||":
        return writer.assign(slow, "defined")
    if op in ("div", "mod"):
        return writer.assign(_of_integers(op, left, right) or slow, "int")
    guard = number_guard(left, right)
    if guard is None or (op == "/" and not _literal(right)):
        return writer.assign(slow, {"/": "float", "+": "defined"}.get(op, "number"))
    return _of_numbers(writer, op, left, right, guard, slow)


def number_guard(left: Atom, right: Atom) -> str | None:
    """Return the test that both are numbers: empty where that is known, None where it is impossible."""
    if not left.may_be_number or not right.may_be_number:
        return None
    unknown = dict.fromkeys(atom.text for atom in (left, right) if not atom.is_number)
    return " and ".join(f"(type({text}) is float or type({text}) is int)" for text in unknown)


def _of_numbers(writer: Writer, op: str, left: Atom, right: Atom, guard: str, slow: str) -> Atom:
    fast = f"{left.text} {op} {right.text}"
    kind = "float" if op == "/" else "number"
    stays = _stays_in_range(op, left, right)
    if stays and guard:
        return writer.assign(f"{fast} if {guard} else {slow}", "defined" if op == "+" else kind)
    if stays:
        return writer.assign(fast, kind)
    result = writer.fresh()
    if not guard:
        _checked(writer, result, fast)
        return Atom(result, kind)
    unknown = right if left.is_number else left
    factor = left if left.is_number else right
    if op == "*" and factor.kind == "int" and _literal(factor) is not None:
        # An integer times a literal grows by no more than the statement is long; only a float can leave its range.
        writer.line(f"if type({unknown.text}) is int: {result} = {fast}")
        header = f"elif type({unknown.text}) is float:"
    else:
        header = f"if {guard}:"
    with writer.block(header):
        _checked(writer, result, fast)
    writer.line(f"else: {result} = {slow}")
    return Atom(result, "defined" if op == "+" else kind)


def _checked(writer: Writer, result: str, text: str) -> None:
    writer.line(f"{result} = {text}")
    writer.line(f"if not -FLOAT_MAX <= {result} <= FLOAT_MAX: within_range({result})")


def _stays_in_range(op: str, left: Atom, right: Atom) -> bool:
    number = _literal(right)
    if op == "/":
        return number is not None and abs(number) >= 1
    if number is None:
        number = _literal(left)
    if number is None:
        return False
    return abs(number) <= (1 if op == "*" else _HARMLESS_MAX)


def _literal(atom: Atom) -> float | None:
    """Return the number of an atom whose text is a literal."""
    if not atom.is_number:
        return None
    try:
        return float(atom.text)
    except ValueError:
        return None


def _join(writer: Writer, left: Atom, right: Atom, slow: str) -> Atom:
    fast = f"{left.text} + {right.text}"
    if not (left.is_text_literal or right.is_text_literal):
        # Two texts of any length: by aliases of aliases they could grow without bound.
        if left.kind != right.kind:
            return writer.assign(slow, "defined")
        joined = writer.assign(fast, "str")
        writer.line(f"if len({joined.text}) > TEXT_MAX: {slow}")
        return joined
    if left.kind == right.kind:
        return writer.assign(fast, "str")
    unknown = right if left.kind == "str" else left
    if unknown.kind not in ("any", "defined"):
        return writer.assign(slow, "defined")
    return writer.assign(f"{fast} if type({unknown.text}) is str else {slow}", "defined")


def _of_integers(op: str, left: Atom, right: Atom) -> str | None:
    """Return ``div`` or ``mod`` by a positive literal, with Python's operators for operands that are not negative."""
    if not right.text.isdigit() or right.text == "0" or left.kind not in ("any", "defined", "number", "int"):
        return None
    python = "//" if op == "div" else "%"
    is_int = "" if left.kind == "int" else f"type({left.text}) is int and "
    return f"{left.text} {python} {right.text} if {is_int}{left.text} >= 0 else {_CALLS[op]}({left.text}, {right.text})"
