"""The targets of fields: under which name, and at which position in a list, a field appears in the output row."""

from __future__ import annotations

from engine.language.sql.nodes import Const, Decoded, Expr, Field, Index, IndexBy, Key, Reference, Slice, Step, Target

__all__ = ["ElementOrder", "target_of"]


def target_of(item: Field) -> Target | None:
    """Return the target of a field: its alias, its own path, its text or that of its expression; None for ``*``."""
    if item.alias is not None or item.expr is None:
        return item.alias and Target(item.alias.name, item.alias.steps, item.alias.at, written=True)
    expr: Expr = item.expr.base if isinstance(item.expr, Slice) else item.expr
    if isinstance(expr, Reference):
        return Target(expr.name, expr.steps, item.at, written=False)
    if isinstance(expr, Decoded):
        return Target("payload", (), item.at, written=False)
    if isinstance(expr, Const) and isinstance(expr.value, str):
        return Target(expr.value, (), item.at, written=True)
    return Target(" ".join(item.text.split()), (), item.at, written=False)


class ElementOrder:
    """The positions in output lists of elements selected without alias: the order in which they are named.

    ``payload.l[3], payload.l[1]`` makes a list of two, and ``payload.l[3].a, payload.l[3].b`` one element of two keys.
    In a list that is in the output as a whole, or that an alias wrote into, an element keeps the position that it is
    read from.
    """

    def __init__(self) -> None:
        self._whole: set[tuple[str | int, ...]] = set()
        self._named: dict[tuple[str | int, ...], list[object]] = {}

    def take(self, target: Target) -> None:
        """Note a column or an alias that is in the output as a whole."""
        path = [target.name]
        for step in target.steps:
            if not isinstance(step, Key):
                break
            path.append(step.name)
        self._whole.add(tuple(path))

    def of(self, target: Target) -> tuple[Step, ...]:
        """Return the steps by which a path without alias goes into the output."""
        path: tuple[str | int, ...] = (target.name,)
        steps: list[Step] = []
        for number, step in enumerate(target.steps):
            if path in self._whole:
                return (*steps, *target.steps[number:])
            if isinstance(step, Key):
                path += (step.name,)
                steps.append(step)
                continue
            named = self._named.setdefault(path, [])
            if _identity(step) not in named:
                named.append(_identity(step))
            position = named.index(_identity(step)) + 1
            path += (position,)
            steps.append(Index(position, False, step.at))
        self._whole.add(path)
        return tuple(steps)


def _identity(step: Step) -> object:
    """Return a value that is equal for two indexes which the statement shows to mean the same element."""
    if isinstance(step, Index):
        return step.number
    expr = step.expr if isinstance(step, IndexBy) else None
    if isinstance(expr, Reference) and all(isinstance(inner, Key) for inner in expr.steps):
        return (expr.name, *(inner.name for inner in expr.steps if isinstance(inner, Key)))
    return id(step)
