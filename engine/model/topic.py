"""MQTT topic names against topic filters, as FROM, ``=~`` and the topic functions match them."""

from __future__ import annotations

__all__ = ["topic_matches"]


def topic_matches(topic_filter: str, topic: str) -> bool:
    """Whether `topic` matches `topic_filter`. A wildcard at the first level matches no topic that begins with ``$``.

    A filter that is none (``a/#/b``, ``a+``) matches level by level as it stands; ``$share`` has no meaning here.
    """
    if topic_filter == topic:
        return True
    if "#" not in topic_filter and "+" not in topic_filter:
        return False
    levels, names = topic_filter.split("/"), topic.split("/")
    if topic[:1] == "$" and levels[0] in ("+", "#"):
        return False
    if levels[-1] == "#":
        del levels[-1]
        if len(names) < len(levels):
            return False
        del names[len(levels) :]
    return len(names) == len(levels) and all(level in ("+", name) for level, name in zip(levels, names, strict=True))
