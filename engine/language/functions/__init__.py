"""The functions of the rule language, one module per family.

Adding one takes one decorated function in its family's module; a new family also takes its place in the line below.
"""

from __future__ import annotations

from engine.language.functions import (
    bits,
    compression,
    context,
    conversion,
    date,
    digest,
    encoding,
    identity,
    jsonquery,
    kind,
    listing,
    mapping,
    maths,
    memory,
    null,
    pattern,
    sprintf,
    term,
    text,
)  # fmt: skip
from engine.language.functions.registry import FUNCTIONS, Example, Function, function

FAMILIES = (
    context, null, kind, conversion, maths, bits, text, pattern, sprintf, mapping, listing, encoding, digest,
    compression, date, identity, memory, jsonquery, term,
)  # fmt: skip
"""The families in the order of the reference; the first line of a module's docstring is its introduction."""

__all__ = ["FAMILIES", "FUNCTIONS", "Example", "Function", "function"]
