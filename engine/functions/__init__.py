"""The functions of the rule language, one module per family.

Adding one takes one decorated function in its family's module; a new family also takes its line below.
"""

from __future__ import annotations

from engine.functions.registry import FUNCTIONS, Example, Function, function

__all__ = ["FUNCTIONS", "Example", "Function", "function"]
