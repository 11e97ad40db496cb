"""The functions of the rule language, one module per family.

To add a function, write one decorated function in the module of its family. A new family is added to the import and to
`FAMILIES` below.
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
"""The modules of the families in the order of the reference."""

__all__ = ["FAMILIES", "FUNCTIONS", "Example", "Function", "function"]
