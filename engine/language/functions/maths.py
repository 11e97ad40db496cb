"""Numbers: rounding, roots and powers, logarithms, trigonometry. A result that is not a finite number is an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from engine.errors import EvaluationError
from engine.language.functions.argument import integer, number, refuse, shown
from engine.language.functions.registry import function
from engine.model.value import equal, fixed


def _real(name: str, operation: Callable[..., float], *values: Any) -> float:
    numbers = [number(name, position, value) for position, value in enumerate(values, 1)]
    try:
        return operation(*numbers)
    except (ValueError, OverflowError, ZeroDivisionError) as error:
        given = ", ".join(str(n) if type(n) is float else shown(n) for n in numbers)
        raise EvaluationError(f"{name}({given}): expected a result that is a finite real number: {error}") from error


@function(("eq(1, 1.0)", True), ("eq('1', 1)", False))
def eq(left: Any, right: Any) -> bool:
    """Return whether two values are equal. Integers and floats compare as numbers; nothing else is converted."""
    return equal(left, right)


@function(("div(7, 2)", 3), ("div(-7, 2)", -3))
def div(dividend: int, divisor: int) -> int:
    """Return the quotient of two integers, truncated toward zero. Fails for a divisor of 0."""
    dividend, divisor = integer("div", 1, dividend), integer("div", 2, divisor)
    if divisor == 0:
        raise EvaluationError("div: argument 2: expected a divisor other than 0, found 0 (division by zero)")
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


@function(("mod(7, 3)", 1), ("mod(-7, 3)", -1))
def mod(dividend: int, divisor: int) -> int:
    """Return the remainder of integer division, with the sign of the dividend. Fails for a divisor of 0."""
    dividend, divisor = integer("mod", 1, dividend), integer("mod", 2, divisor)
    if divisor == 0:
        raise EvaluationError("mod: argument 2: expected a divisor other than 0, found 0 (division by zero)")
    remainder = abs(dividend) % abs(divisor)
    return remainder if dividend >= 0 else -remainder


@function(("abs(-12)", 12), ("abs(-1.5)", 1.5))
def abs_(value: int | float) -> int | float:
    """Return the absolute value of a number."""
    return abs(number("abs", 1, value))


@function(("ceil(0.8)", 1), ("ceil(-0.8)", 0))
def ceil(value: int | float) -> int:
    """Return the smallest integer not below the number."""
    return math.ceil(number("ceil", 1, value))


@function(("floor(3.6)", 3), ("floor(-3.6)", -4))
def floor(value: int | float) -> int:
    """Return the largest integer not above the number."""
    return math.floor(number("floor", 1, value))


@function(("round(2.5)", 3), ("round(-4.5)", -5), ("round(21.549, 1)", 21.5))
def round_(value: int | float, decimals: int = 0) -> int | float:
    """Return the nearest integer, halves rounded away from zero.

    With `decimals` from 1 to 15, return the nearest float with that many decimals.
    """
    kind = type(value)
    if decimals:
        if type(decimals) is not int or not 0 < decimals <= 15:
            refuse("round", 2, "an integer from 0 to 15", decimals)
        return float(fixed(_real("round", float, value), decimals))
    if kind is float:
        whole = int(value)
        if abs(value - whole) < 0.5:
            return whole
        return whole + 1 if value > 0 else whole - 1
    return number("round", 1, value)


@function(("sqrt(9)", 3.0))
def sqrt(value: int | float) -> float:
    """Return the square root. Fails for a negative number."""
    return _real("sqrt", math.sqrt, value)


@function(("exp(1)", 2.718281828459045))
def exp(value: int | float) -> float:
    """Return e to the power of the number. Fails for a result beyond the range of floats."""
    return _real("exp", math.exp, value)


@function(("power(2, 3)", 8.0))
def power(base: int | float, exponent: int | float) -> float:
    """Return `base` to the power of `exponent`, as a float.

    Fails where the result is not a real number or beyond the range of floats.
    """
    return _real("power", math.pow, base, exponent)


@function(("log(1)", 0.0))
def log(value: int | float) -> float:
    """Return the natural logarithm. Fails for a number of 0 or less."""
    return _real("log", math.log, value)


@function(("log10(100)", 2.0))
def log10(value: int | float) -> float:
    """Return the logarithm to base 10. Fails for a number of 0 or less."""
    return _real("log10", math.log10, value)


@function(("log2(8)", 3.0))
def log2(value: int | float) -> float:
    """Return the logarithm to base 2. Fails for a number of 0 or less."""
    return _real("log2", math.log2, value)


@function(("fmod(-6.5, 2.5)", -1.5))
def fmod(dividend: int | float, divisor: int | float) -> float:
    """Return the remainder of division as a float, with the sign of the dividend. Fails for a divisor of 0."""
    return _real("fmod", math.fmod, dividend, divisor)


@function(("sin(0.5)", 0.479425538604203))
def sin(angle: int | float) -> float:
    """Return the sine of an angle in radians."""
    return _real("sin", math.sin, angle)


@function(("cos(0)", 1.0))
def cos(angle: int | float) -> float:
    """Return the cosine of an angle in radians."""
    return _real("cos", math.cos, angle)


@function(("tan(0)", 0.0))
def tan(angle: int | float) -> float:
    """Return the tangent of an angle in radians."""
    return _real("tan", math.tan, angle)


@function(("asin(0.5)", 0.5235987755982989))
def asin(value: int | float) -> float:
    """Return the arc sine in radians. Fails for a number outside of -1 to 1."""
    return _real("asin", math.asin, value)


@function(("acos(1)", 0.0))
def acos(value: int | float) -> float:
    """Return the arc cosine in radians. Fails for a number outside of -1 to 1."""
    return _real("acos", math.acos, value)


@function(("atan(0.5)", 0.4636476090008061))
def atan(value: int | float) -> float:
    """Return the arc tangent in radians."""
    return _real("atan", math.atan, value)


@function(("sinh(0.5)", 0.5210953054937474))
def sinh(value: int | float) -> float:
    """Return the hyperbolic sine."""
    return _real("sinh", math.sinh, value)


@function(("cosh(0)", 1.0))
def cosh(value: int | float) -> float:
    """Return the hyperbolic cosine."""
    return _real("cosh", math.cosh, value)


@function(("tanh(0.5)", 0.46211715726000974))
def tanh(value: int | float) -> float:
    """Return the hyperbolic tangent."""
    return _real("tanh", math.tanh, value)


@function(("asinh(0)", 0.0))
def asinh(value: int | float) -> float:
    """Return the inverse hyperbolic sine."""
    return _real("asinh", math.asinh, value)


@function(("acosh(1.5)", 0.9624236501192069))
def acosh(value: int | float) -> float:
    """Return the inverse hyperbolic cosine. Fails for a number below 1."""
    return _real("acosh", math.acosh, value)


@function(("atanh(0)", 0.0))
def atanh(value: int | float) -> float:
    """Return the inverse hyperbolic tangent. Fails for a number outside of -1 to 1, and for -1 and 1."""
    return _real("atanh", math.atanh, value)
