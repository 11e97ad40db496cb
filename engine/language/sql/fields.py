"""Code for a column list: when each field is computed, and the aliases that later expressions see.

A field is computed when something needs it: fields that WHERE refers to before WHERE, the others after it. So a
message that WHERE drops costs little, and WHERE guards the fields from values that they can't work with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from engine.language.sql.emit import UNDEFINED_ATOM, Atom
from engine.language.sql.expressions import Expressions
from engine.language.sql.nodes import Field, Index, IndexBy, Key, Step, Target
from engine.language.sql.paths import Path
from engine.language.sql.scope import Alias, Aliases, FieldScope, Scope
from engine.language.sql.targets import target_of
from engine.language.sql.walk import references

__all__ = ["Fields"]


class Fields:
    """The fields of one column list, over the scope `behind`.

    `referenced` are the names that any expression of the statement reads: a field that is among them keeps UNDEFINED.
    """

    def __init__(self, code: Expressions, fields: tuple[Field, ...], behind: Scope, referenced: set[str]) -> None:
        self.code = code
        self.behind = behind
        self.listed = fields
        self.targets = [target_of(item) for item in fields]
        self._referenced = referenced
        self._aliases = Aliases()
        self._atoms: dict[int, Atom] = {}
        self._target_steps: dict[int, str] = {}

    def scope(self, index: int | None = None, *, shows_through: bool = True) -> Scope:
        """Return the scope of the field at `index`, or of an expression behind the whole list."""
        return FieldScope(self.behind, self._aliases, len(self.listed) if index is None else index, shows_through)

    def compute(self, names: Iterable[str]) -> None:
        """Write the fields that make the aliases `names`, and those that they depend on."""
        for index in sorted(self._needed(names)):
            self._compute(index)

    def compute_all(self) -> None:
        """Write the fields that are not computed yet."""
        for index in range(len(self.listed)):
            self._compute(index)

    def atom(self, index: int) -> Atom:
        """Return the value of a computed field."""
        return self._atoms[index]

    def target_steps(self, index: int) -> str:
        """Return the steps of the alias of a computed field, as the text of a tuple."""
        return self._target_steps[index]

    def steps_text(self, steps: tuple[Step, ...], index: int | None = None) -> str:
        """Write steps into the output as the text of a tuple; indexes see the scope of the field at `index`."""
        scope = self.scope(index)
        texts = []
        for step in steps:
            if isinstance(step, Key):
                texts.append(self.code.writer.names.literal(step.name))
            elif isinstance(step, Index):
                zero = "TAIL" if step.tail else "HEAD"
                texts.append(self.code.writer.names.literal(step.number) if step.number else zero)
            else:
                texts.append(f"number_or_none({self.code.index_value(scope, step).text})")
        return f"({', '.join(texts)},)" if texts else "()"

    def column(self, name: str) -> Atom:
        """Write and return the value of `name` without the aliases of this list."""
        return self.behind.resolve(name, Path(self.code.writer))

    def _needed(self, names: Iterable[str]) -> set[int]:
        needed: set[int] = set()
        wanted = [(name, len(self.listed)) for name in names]
        while wanted:
            name, limit = wanted.pop()
            for index, target in enumerate(self.targets[:limit]):
                if target is not None and target.written and target.name == name and index not in needed:
                    needed.add(index)
                    wanted += [(inner, index) for inner in self._names_in(index)]
        return needed

    def _names_in(self, index: int) -> Iterator[str]:
        item, target = self.listed[index], self.targets[index]
        if item.expr is not None:
            yield from (reference.name for reference in references(item.expr))
        for step in target.steps if target is not None else ():
            if isinstance(step, IndexBy):
                yield from (reference.name for reference in references(step.expr))

    def _compute(self, index: int) -> None:
        expr, target = self.listed[index].expr, self.targets[index]
        if index in self._atoms or expr is None or target is None:
            return
        is_read = target.written and target.name in self._referenced
        atom = self.code.value(expr, self.scope(index), null=not is_read and not target.steps)
        self._atoms[index] = atom
        if target.written:
            self._target_steps[index] = self.steps_text(target.steps, index)
            if is_read:
                self._make_visible(index, target, atom)

    def _make_visible(self, index: int, target: Target, atom: Atom) -> None:
        whole = True
        if target.steps:
            earlier = self._aliases.before(target.name, index)
            base = self._aliased_base(target.name, index) if earlier is None else earlier.atom
            whole = earlier is not None and earlier.whole
            text = f"put({base.text}, {self._target_steps[index]}, {atom.text})"
            atom = self.code.writer.assign(text, "defined")
        self._aliases.add(target.name, Alias(index, atom, whole))

    def _aliased_base(self, name: str, index: int) -> Atom:
        """Return the value that the first path alias is put into: the column, where it was selected as a whole."""
        for item, target in zip(self.listed[:index], self.targets, strict=False):
            if item.expr is None or (target is not None and target.name == name and not target.steps):
                return self.column(name)
        return UNDEFINED_ATOM
