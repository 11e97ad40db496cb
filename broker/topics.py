"""Topic names, topic filters, and two trees: filters by name, and names by filter. MQTT 5.0 section 4.7."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from broker.errors import InvalidTopic

T = TypeVar("T")

_TOPIC_BYTES_MAX: Final = 65_535
"""The length field of a string has two bytes."""
CACHED_BYTES_MAX: Final = 512
"""Longer names are not cached, so that 50,000 cached names have 25 MB at most. Names in use are shorter: AWS IoT allows
256 bytes."""


def check_topic_name(name: str, levels_max: int = 128) -> None:
    """Raise `InvalidTopic` unless `name` may be published to."""
    if "+" in name or "#" in name:
        raise InvalidTopic(f"the topic name {name!r} contains a wildcard")
    _check_text(name, levels_max)


def check_topic_filter(topic_filter: str, levels_max: int = 128) -> None:
    """Raise `InvalidTopic` unless `topic_filter` may be subscribed to."""
    _check_text(topic_filter, levels_max)
    if "#" not in topic_filter and "+" not in topic_filter:
        return
    levels = topic_filter.split("/")
    if "#" in levels[:-1]:
        raise InvalidTopic(f"the topic filter {topic_filter!r} has # before its last level")
    for level in levels:
        if len(level) > 1 and ("#" in level or "+" in level):
            raise InvalidTopic(f"the topic filter {topic_filter!r} has a wildcard and other characters in one level")


def _check_text(topic: str, levels_max: int) -> None:
    if not topic:
        raise InvalidTopic("the topic is empty")
    if "\0" in topic:
        raise InvalidTopic("the topic contains U+0000")
    if topic.count("/") >= levels_max:
        raise InvalidTopic(f"the topic has {topic.count('/') + 1} levels, of which at most {levels_max} are accepted")
    if len(topic) > _TOPIC_BYTES_MAX // 4 and len(topic.encode()) > _TOPIC_BYTES_MAX:
        raise InvalidTopic(f"the topic has more than {_TOPIC_BYTES_MAX} bytes")


def split_shared(topic_filter: str) -> tuple[str | None, str]:
    """Return share name and filter of ``$share/name/filter``; None and the filter itself where it is not shared.

    Raises `InvalidTopic` for a name or filter that is empty, and for a wildcard in the name.
    """
    if not topic_filter.startswith("$share/"):
        return None, topic_filter
    _, name, *rest = topic_filter.split("/", 2)
    if not name or "+" in name or "#" in name or not rest or not rest[0]:
        raise InvalidTopic(f"{topic_filter!r} does not have the form $share/name/filter")
    return name, rest[0]


def has_wildcard(topic_filter: str) -> bool:
    """Return whether `topic_filter` has a wildcard, and may so match more than one topic name."""
    return "+" in topic_filter or "#" in topic_filter


def topic_matches(topic_filter: str, name: str) -> bool:
    """Return whether `name` matches `topic_filter`; `FilterTree` gives the same answer for many filters at once.

    Total over any two texts, since rules compare what messages bring: in a filter that is not well-formed (``a/#/b``,
    ``a+``) a misplaced wildcard is an ordinary character. ``$share`` has no meaning here.
    """
    if topic_filter == name:
        return True
    if "#" not in topic_filter and "+" not in topic_filter:
        return False
    filter_levels, levels = topic_filter.split("/"), name.split("/")
    if name[:1] == "$" and filter_levels[0] in ("+", "#"):  # [MQTT-4.7.2-1]
        return False
    if filter_levels[-1] == "#":  # matches the parent level, too: a/# matches a
        del filter_levels[-1]
        if len(levels) < len(filter_levels):
            return False
        del levels[len(filter_levels) :]
    return len(levels) == len(filter_levels) and all(
        pattern in ("+", level) for pattern, level in zip(filter_levels, levels, strict=True)
    )


class TopicNames:
    """A cache of valid topic names by their bytes: a name in use is decoded and checked once, not for each message.

    ``known`` is read directly by the parser. All connections share it, and it is cleared when it is full.
    """

    __slots__ = ("_levels_max", "_size_max", "known")

    def __init__(self, levels_max: int = 128, size_max: int = 50_000) -> None:
        self.known: dict[bytes, str] = {}
        self._levels_max = levels_max
        self._size_max = size_max

    def decode(self, raw: bytes) -> str:
        """Return the topic name in `raw`. Raises `InvalidTopic`."""
        try:
            name = raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidTopic("the topic name is not valid UTF-8") from error
        check_topic_name(name, self._levels_max)
        if len(raw) <= CACHED_BYTES_MAX:
            if len(self.known) >= self._size_max:
                self.known.clear()
            self.known[raw] = name
        return name


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: dict[str, T] = {}


class _Tree(Generic[T]):
    """A tree of topic levels. Each node has values by key."""

    __slots__ = ("_root", "_size")

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, topic: str, value: T, key: str = "") -> T | None:
        """Store `value` under (`topic`, `key`). Return the value that it replaces."""
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                child = node.children[level] = _Node()
            node = child
        before = node.values.get(key)
        if before is None:
            self._size += 1
        node.values[key] = value
        return before

    def get(self, topic: str, key: str = "") -> T | None:
        """Return the value of exactly this topic and key."""
        node: _Node[T] | None = self._root
        for level in topic.split("/"):
            node = node.children.get(level) if node else None
        return node.values.get(key) if node else None

    def remove(self, topic: str, key: str = "") -> T | None:
        """Remove the value of (`topic`, `key`), and the branches that are empty then. Return the value."""
        path: list[tuple[_Node[T], str]] = []
        node = self._root
        for level in topic.split("/"):
            child = node.children.get(level)
            if child is None:
                return None
            path.append((node, level))
            node = child
        value = node.values.pop(key, None)
        if value is not None:
            self._size -= 1
        for parent, level in reversed(path):
            child = parent.children[level]
            if child.values or child.children:
                break
            del parent.children[level]
        return value


class FilterTree(_Tree[T]):
    """Values under topic filters, found by topic name, as subscriptions need it."""

    __slots__ = ()

    def match(self, name: str) -> list[T]:
        """The values of all filters that match the topic name `name`."""
        found: list[T] = []
        levels = name.split("/")
        nodes = [self._root]
        wild = name[:1] != "$"  # filters that start with a wildcard do not see topics that start with $ [MQTT-4.7.2-1]
        for level in levels:
            below: list[_Node[T]] = []
            for node in nodes:
                children = node.children
                if wild:
                    rest = children.get("#")
                    if rest is not None:
                        found.extend(rest.values.values())
                    any_level = children.get("+")
                    if any_level is not None:
                        below.append(any_level)
                exact = children.get(level)
                if exact is not None:
                    below.append(exact)
            nodes = below
            wild = True
            if not nodes:
                return found
        for node in nodes:
            found.extend(node.values.values())
            rest = node.children.get("#")  # sport/# matches sport itself
            if rest is not None:
                found.extend(rest.values.values())
        return found


class NameTree(_Tree[T]):
    """Values under topic names, found by topic filter, as retained messages need it."""

    __slots__ = ()

    def match(self, topic_filter: str) -> Iterator[T]:
        """Yield the values of all names that `topic_filter` matches, in no particular order."""
        nodes = [self._root]
        for index, level in enumerate(topic_filter.split("/")):
            if level == "#":
                for node in nodes:
                    yield from self._below(node, hide_dollar=index == 0)
                return
            if level == "+":
                nodes = [child for node in nodes for name, child in node.children.items() if index or name[:1] != "$"]
            else:
                nodes = [node.children[level] for node in nodes if level in node.children]
        for node in nodes:
            yield from node.values.values()

    def _below(self, top: _Node[T], *, hide_dollar: bool) -> Iterator[T]:
        yield from top.values.values()
        waiting = [child for name, child in top.children.items() if not (hide_dollar and name[:1] == "$")]
        while waiting:
            node = waiting.pop()
            yield from node.values.values()
            waiting.extend(node.children.values())
