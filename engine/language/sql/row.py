"""Code for output rows: the expression that builds the dict of one row from computed fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

from engine.language.sql.columns import ColumnSource
from engine.language.sql.emit import UNDEFINED_ATOM, Atom
from engine.language.sql.fields import Fields
from engine.language.sql.nodes import Const, Key, Step, Target
from engine.language.sql.targets import ElementOrder

__all__ = ["RowBuilder"]

Tree = dict[str, Union["Tree", Atom]]
"""A map in the output whose keys are known: written as one dict display."""


@dataclass(slots=True)
class Root:
    """One column of the output row under construction: a value, or a tree of values.

    ``puts`` are the paths that written aliases put into it; they stay when the column itself follows.
    """

    value: Atom | Tree
    is_alias: bool = False
    puts: list[tuple[str, tuple[Step, ...], Atom]] = field(default_factory=list)


class RowBuilder:
    """Builds the row of a column list, field by field; used once."""

    def __init__(self, fields: Fields, columns: ColumnSource) -> None:
        self._fields = fields
        self._columns = columns
        self._writer = fields.code.writer
        self._roots: dict[str, Root] = {}
        self._order = ElementOrder()
        self._has_star = False

    def text(self, star: str | None = None, star_overrides: dict[str, str] | None = None) -> str:
        """Return the row as an expression. `star` is the dict that ``*`` stands for, where it is not the columns."""
        for index, (item, target) in enumerate(zip(self._fields.listed, self._fields.targets, strict=True)):
            if target is None:
                self._has_star = True
                self._put_star()
            elif target.written or isinstance(item.expr, Const) or not target.steps:
                self._put_named(index, target)
                self._order.take(target)
            else:
                self._put_path(index, target)
        texts = {name: self._output(root.value) for name, root in self._roots.items()}
        if not self._has_star:
            return self._display(texts)
        return self._star_display(star, {**(star_overrides or {}), **texts})

    def _put_star(self) -> None:
        """Put ``*`` behind other fields: written aliases stay, columns selected without alias are replaced."""
        for name, root in list(self._roots.items()):
            if root.is_alias:
                continue
            if root.puts:
                self._replay(root, self._fields.column(name))
            elif self._fields.behind.knows(name):
                column = self._fields.column(name)
                if self._columns.names() is not None:
                    del self._roots[name]
                else:
                    value = self._materialized(root.value)
                    text = f"{value.text} if {column.text} is U else {column.text}"
                    root.value = self._writer.assign(text)

    def _put_named(self, index: int, target: Target) -> None:
        """Put a field under a name of its own: an alias, or a column selected as a whole."""
        atom, name = self._fields.atom(index), target.name
        root = self._roots.get(name)
        if target.steps:
            if root is None:
                root = self._roots[name] = self._started(name)
            root.puts.append(("put", target.steps, atom))
            self._put(root, "put", target.steps, self._fields.target_steps(index), atom)
        elif target.written:
            self._roots[name] = Root(atom, is_alias=True)
        elif root is None or root.is_alias or not root.puts:
            self._roots[name] = Root(atom, is_alias=root is not None and root.is_alias)
        else:
            self._replay(root, self._fields.column(name))

    def _put_path(self, index: int, target: Target) -> None:
        """Put a path selected without alias under the same path."""
        root = self._roots.get(target.name)
        if root is None:
            root = self._roots[target.name] = self._started(target.name)
            if root.value != {}:
                self._order.take(Target(target.name, (), target.at, written=False))
        steps = self._order.of(target)
        texts = self._fields.steps_text(steps, index)
        self._put(root, "put_read", steps, texts, self._fields.atom(index))

    def _started(self, name: str) -> Root:
        if self._has_star and self._fields.behind.knows(name):
            return Root(self._fields.column(name))
        return Root({})

    def _replay(self, root: Root, base: Atom) -> None:
        puts, root.value = list(root.puts), base
        for call, steps, atom in puts:
            self._put(root, call, steps, self._fields.steps_text(steps), atom)

    def _put(self, root: Root, call: str, steps: tuple[Step, ...], texts: str, atom: Atom) -> None:
        if isinstance(root.value, dict) and _insert(root.value, steps, atom):
            return
        base = self._materialized(root.value)
        root.value = self._writer.assign(f"{call}({base.text}, {texts}, {atom.text})", "defined")

    def _materialized(self, value: Atom | Tree) -> Atom:
        if isinstance(value, Atom):
            return value
        return self._writer.assign(self._tree_text(value, raw=True), "map") if value else UNDEFINED_ATOM

    def _output(self, value: Atom | Tree) -> str:
        return value.output() if isinstance(value, Atom) else self._tree_text(value)

    def _tree_text(self, tree: Tree, raw: bool = False) -> str:
        texts = {}
        for name, item in tree.items():
            if isinstance(item, Atom):
                texts[name] = item.text if raw else item.output()
            else:
                texts[name] = self._tree_text(item, raw)
        return self._display(texts)

    def _star_display(self, star: str | None, texts: dict[str, str]) -> str:
        names = self._columns.names()
        if star is not None:
            return "{" + ", ".join([f"**{star}", *self._items(texts)]) + "}"
        if names is None:
            return "{" + ", ".join(["**columns_of(m)", "'metadata': METADATA", *self._items(texts)]) + "}"
        columns = {}
        for name in names:
            if name not in texts:
                columns[name] = self._columns.read(self._writer, name).output()
        return self._display({**columns, **texts})

    def _display(self, texts: dict[str, str]) -> str:
        return "{" + ", ".join(self._items(texts)) + "}"

    def _items(self, texts: dict[str, str]) -> list[str]:
        return [f"{self._writer.names.literal(name)}: {text}" for name, text in texts.items()]


def _insert(tree: Tree, steps: tuple[Step, ...], atom: Atom) -> bool:
    """Insert `atom` into the tree at `steps`. Return false where the path is not known before run time."""
    if not all(isinstance(step, Key) for step in steps):
        return False
    place = tree
    names = [step.name for step in steps if isinstance(step, Key)]
    for name in names[:-1]:
        inner = place.get(name)
        if isinstance(inner, Atom):
            return False
        if inner is None:
            break
        place = inner
    place = tree
    for name in names[:-1]:
        inner = place.setdefault(name, {})
        assert not isinstance(inner, Atom)
        place = inner
    place[names[-1]] = atom
    return True
