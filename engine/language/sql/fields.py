"""A column list to Python: when each field is computed, what later expressions see of it, what row comes out.

A field is computed when something needs it: those that WHERE refers to before WHERE, the others behind it. So a
message that WHERE drops costs little, and a condition guards the fields from what they can't work with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Union

from engine.language.sql.emit import UNDEFINED_ATOM, Atom
from engine.language.sql.expressions import Expressions
from engine.language.sql.nodes import Const, Decoded, Expr, Field, Index, IndexBy, Key, Reference, Slice, Step, Target
from engine.language.sql.scope import Columns, FieldScope, Scope
from engine.language.sql.walk import references

__all__ = ["Fields", "Places", "target_of"]

Tree = dict[str, Union["Tree", Atom]]
"""A map in the output whose keys are known: written as one dict display."""


@dataclass(frozen=True, slots=True)
class Visible:
    """What an alias is from the field at ``index`` on; ``whole`` tells one of the whole column from paths into it."""

    index: int
    atom: Atom
    whole: bool


@dataclass(slots=True)
class Root:
    """One column of the output while it is put together: a value, or a tree of them.

    ``puts`` are the paths that written aliases put into it; they stay when the column itself comes behind them.
    """

    value: Atom | Tree
    is_alias: bool = False
    puts: list[tuple[str, tuple[Step, ...], Atom]] = field(default_factory=list)


class Places:
    """Where the elements of lists come to stand that are selected without alias: in the order in which they are named.

    ``payload.l[3], payload.l[1]`` makes a list of two, and ``payload.l[3].a, payload.l[3].b`` one element of two keys.
    In a list that is in the output as a whole, or that an alias wrote into, an element has the place that it is read
    from.
    """

    def __init__(self) -> None:
        self._whole: set[tuple[str | int, ...]] = set()
        self._named: dict[tuple[str | int, ...], list[object]] = {}

    def take(self, target: Target) -> None:
        """A column or an alias is put there as it is."""
        path = [target.name]
        for step in target.steps:
            if not isinstance(step, Key):
                break
            path.append(step.name)
        self._whole.add(tuple(path))

    def of(self, target: Target) -> tuple[Step, ...]:
        """The steps by which a path without alias goes into the output."""
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
            place = named.index(_identity(step)) + 1
            path += (place,)
            steps.append(Index(place, False, step.at))
        self._whole.add(path)
        return tuple(steps)


class Fields:
    """The fields of one column list over `behind`, what their expressions see besides each other.

    `referenced` are the names that any expression of the statement reads: a field that is among them keeps UNDEFINED.
    """

    def __init__(
        self, code: Expressions, fields: tuple[Field, ...], behind: Scope, columns: Columns, referenced: set[str]
    ) -> None:
        self._code = code
        self._fields = fields
        self._behind = behind
        self._columns = columns
        self._referenced = referenced
        self._targets = [target_of(item) for item in fields]
        self._atoms: dict[int, Atom] = {}
        self._steps: dict[int, str] = {}
        self._visible: dict[str, list[Visible]] = {}

    def visible(self, name: str, index: int) -> Visible | None:
        """The written alias `name` as the field at `index` sees it."""
        found = [alias for alias in self._visible.get(name, ()) if alias.index < index]
        return max(found, key=lambda alias: alias.index) if found else None

    def scope(self, shows_through: bool) -> Scope:
        """What an expression behind the whole list sees."""
        return FieldScope(self._behind, self, len(self._fields), shows_through)

    def compute(self, names: Iterable[str]) -> None:
        """Write the fields that make the aliases `names`, and those they are made of."""
        for index in sorted(self._needed(names)):
            self._compute(index)

    def compute_all(self) -> None:
        """Write the fields that are not computed yet."""
        for index in range(len(self._fields)):
            self._compute(index)

    def atom(self, index: int) -> Atom:
        """The value of a computed field."""
        return self._atoms[index]

    # -- values

    def _needed(self, names: Iterable[str]) -> set[int]:
        needed: set[int] = set()
        wanted = [(name, len(self._fields)) for name in names]
        while wanted:
            name, limit = wanted.pop()
            for index, target in enumerate(self._targets[:limit]):
                if target is not None and target.written and target.name == name and index not in needed:
                    needed.add(index)
                    wanted += [(inner, index) for inner in self._names_in(index)]
        return needed

    def _names_in(self, index: int) -> Iterator[str]:
        item, target = self._fields[index], self._targets[index]
        if item.expr is not None:
            yield from (reference.name for reference in references(item.expr))
        for step in target.steps if target is not None else ():
            if isinstance(step, IndexBy):
                yield from (reference.name for reference in references(step.expr))

    def _compute(self, index: int) -> None:
        expr, target = self._fields[index].expr, self._targets[index]
        if index in self._atoms or expr is None or target is None:
            return
        is_read = target.written and target.name in self._referenced
        scope = FieldScope(self._behind, self, index, shows_through=True)
        atom = self._code.value(expr, scope, null=not is_read and not target.steps)
        self._atoms[index] = atom
        if target.written:
            self._steps[index] = self._step_texts(target.steps, scope)
        self._make_visible(index, atom)

    def _make_visible(self, index: int, atom: Atom) -> None:
        target = self._targets[index]
        if target is None or not target.written or target.name not in self._referenced:
            return
        whole = True
        if target.steps:
            earlier = self.visible(target.name, index)
            base = self._visible_base(target.name, index) if earlier is None else earlier.atom
            whole = earlier is not None and earlier.whole
            atom = self._code.writer.assign(f"put({base.text}, {self._steps[index]}, {atom.text})", "defined")
        self._visible.setdefault(target.name, []).append(Visible(index, atom, whole))

    def _visible_base(self, name: str, index: int) -> Atom:
        """What the first path is put into: the column, where it was selected as a whole."""
        for item, target in zip(self._fields[:index], self._targets, strict=False):
            if item.expr is None or (target is not None and target.name == name and not target.steps):
                return self._behind.resolve(self._code, name, (), False, self._behind)
        return UNDEFINED_ATOM

    def _step_texts(self, steps: tuple[Step, ...], scope: Scope) -> str:
        """The steps of a target as the text of a tuple."""
        texts = []
        for step in steps:
            if isinstance(step, Key):
                texts.append(self._code.writer.names.literal(step.name))
            elif isinstance(step, Index):
                zero = "TAIL" if step.tail else "HEAD"
                texts.append(self._code.writer.names.literal(step.number) if step.number else zero)
            else:
                place = self._code.place(step, scope)
                texts.append(f"number_or_none({place.text})")
        return f"({', '.join(texts)},)" if texts else "()"

    # -- the row

    def row(self, star: str | None = None, star_overrides: dict[str, str] | None = None) -> str:
        """The text of the row that the fields make. `star` is what ``*`` stands for, where it is not the columns."""
        roots: dict[str, Root] = {}
        places = Places()
        has_star = False
        for index, (item, target) in enumerate(zip(self._fields, self._targets, strict=True)):
            if target is None:
                has_star = True
                self._put_star(roots)
            elif target.written or isinstance(item.expr, Const) or not target.steps:
                self._put_named(roots, index, target, has_star)
                places.take(target)
            else:
                self._put_path(roots, index, target, has_star, places)
        texts = {name: self._output(root.value) for name, root in roots.items()}
        if not has_star:
            return _display(texts, self._code)
        return self._star_display(star, {**(star_overrides or {}), **texts})

    def _put_star(self, roots: dict[str, Root]) -> None:
        """``*`` behind other fields: written aliases stay, what was merely selected gives way to its column."""
        for name, root in list(roots.items()):
            if root.is_alias:
                continue
            if root.puts:
                self._replay(root, self._behind.resolve(self._code, name, (), False, self._behind))
            elif self._behind.knows(name):
                column = self._behind.resolve(self._code, name, (), False, self._behind)
                if self._columns.names() is not None:
                    del roots[name]
                else:
                    value = self._materialized(root.value)
                    text = f"{value.text} if {column.text} is U else {column.text}"
                    root.value = self._code.writer.assign(text)

    def _put_named(self, roots: dict[str, Root], index: int, target: Target, has_star: bool) -> None:
        """A field under a name of its own: an alias, or a column selected as a whole."""
        atom, name = self._atoms[index], target.name
        root = roots.get(name)
        if target.steps:
            if root is None:
                root = roots[name] = self._started(name, has_star)
            root.puts.append(("put", target.steps, atom))
            self._put(root, "put", target.steps, self._steps[index], atom)
        elif target.written:
            roots[name] = Root(atom, is_alias=True)
        elif root is None or root.is_alias or not root.puts:
            roots[name] = Root(atom, is_alias=root is not None and root.is_alias)
        else:
            self._replay(root, self._behind.resolve(self._code, name, (), False, self._behind))

    def _put_path(self, roots: dict[str, Root], index: int, target: Target, has_star: bool, places: Places) -> None:
        """A path selected without alias: it comes out under the same path."""
        root = roots.get(target.name)
        if root is None:
            root = roots[target.name] = self._started(target.name, has_star)
            if root.value != {}:
                places.take(Target(target.name, (), target.at, written=False))
        steps = places.of(target)
        texts = self._step_texts(steps, FieldScope(self._behind, self, index, shows_through=True))
        self._put(root, "put_read", steps, texts, self._atoms[index])

    def _started(self, name: str, has_star: bool) -> Root:
        if has_star and self._behind.knows(name):
            return Root(self._behind.resolve(self._code, name, (), False, self._behind))
        return Root({})

    def _replay(self, root: Root, base: Atom) -> None:
        puts, root.value = list(root.puts), base
        for call, steps, atom in puts:
            scope = FieldScope(self._behind, self, len(self._fields), shows_through=True)
            self._put(root, call, steps, self._step_texts(steps, scope), atom)

    def _put(self, root: Root, call: str, steps: tuple[Step, ...], texts: str, atom: Atom) -> None:
        if isinstance(root.value, dict) and _plant(root.value, steps, atom):
            return
        base = self._materialized(root.value)
        root.value = self._code.writer.assign(f"{call}({base.text}, {texts}, {atom.text})", "defined")

    def _materialized(self, value: Atom | Tree) -> Atom:
        if isinstance(value, Atom):
            return value
        return self._code.writer.assign(self._tree_text(value, raw=True), "map") if value else UNDEFINED_ATOM

    def _output(self, value: Atom | Tree) -> str:
        return value.output() if isinstance(value, Atom) else self._tree_text(value)

    def _tree_text(self, tree: Tree, raw: bool = False) -> str:
        texts = {}
        for name, item in tree.items():
            if isinstance(item, Atom):
                texts[name] = item.text if raw else item.output()
            else:
                texts[name] = self._tree_text(item, raw)
        return _display(texts, self._code)

    def _star_display(self, star: str | None, texts: dict[str, str]) -> str:
        names = self._columns.names()
        if star is not None:
            return "{" + ", ".join([f"**{star}", *self._items(texts)]) + "}"
        if names is None:
            return "{" + ", ".join(["**columns_of(m)", "'metadata': METADATA", *self._items(texts)]) + "}"
        columns = {}
        for name in names:
            if name not in texts:
                columns[name] = self._columns.read(self._code.writer, name).output()
        return _display({**columns, **texts}, self._code)

    def _items(self, texts: dict[str, str]) -> list[str]:
        return [f"{self._code.writer.names.literal(name)}: {text}" for name, text in texts.items()]


def _display(texts: dict[str, str], code: Expressions) -> str:
    return "{" + ", ".join(f"{code.writer.names.literal(name)}: {text}" for name, text in texts.items()) + "}"


def _plant(tree: Tree, steps: tuple[Step, ...], atom: Atom) -> bool:
    """Put `atom` into the tree at `steps`, if all of the way is known now."""
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


def _identity(step: Step) -> object:
    """What tells one element of a list from another as far as the statement shows it."""
    if isinstance(step, Index):
        return step.number
    expr = step.expr if isinstance(step, IndexBy) else None
    if isinstance(expr, Reference) and all(isinstance(inner, Key) for inner in expr.steps):
        return (expr.name, *(inner.name for inner in expr.steps if isinstance(inner, Key)))
    return id(step)


def target_of(item: Field) -> Target | None:
    """Where a field goes: its alias, else its own path, its text or the text of its expression; None for ``*``."""
    if item.alias is not None or item.expr is None:
        return item.alias and Target(item.alias.name, item.alias.steps, item.alias.at, written=True)
    expr: Expr = item.expr.base if isinstance(item.expr, Slice) else item.expr
    if isinstance(expr, Reference):
        steps = expr.steps
        if all(isinstance(step, (Key, Index, IndexBy)) for step in steps):
            return Target(expr.name, steps, item.at, written=False)
    if isinstance(expr, Decoded):
        return Target("payload", (), item.at, written=False)
    if isinstance(expr, Const) and isinstance(expr.value, str):
        return Target(expr.value, (), item.at, written=True)
    return Target(" ".join(item.text.split()), (), item.at, written=False)
