"""Topics that the cluster does not have: how often they are looked for, and when their records are given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from aiokafka.errors import InvalidTopicError, KafkaError, TopicAuthorizationFailedError

from connectors.kafka.errors import classify
from connectors.kafka.producer import SharedProducer, create_topics
from engine.errors import DeliveryError, HoldError, RejectError, RetryableError
from engine.service.clock import Clock

FIND_TOPIC_S = 2.0
"""Longest wait for a topic to be known: one that was just created takes a moment to reach all brokers."""
LOOK_AGAIN_S = 5.0
"""Shortest time between two searches for a missing topic."""
REJECT_AFTER_S = 30.0
"""Time for which records of a missing topic are retried before they are rejected."""
MISSING_MAX = 1000
"""Missing topics remembered before old ones are forgotten: rows can name any number of them."""


class MissingTopics:
    """Looks for topics that are not known, and says what is to be done about those that the cluster lacks."""

    def __init__(
        self,
        where: str,
        policy: Literal["hold", "reject", "create"],
        *,
        is_fixed: bool,
        client_options: Callable[[], Mapping[str, Any]],
        request_timeout_s: float,
        clock: Clock,
    ) -> None:
        """`is_fixed` says that the topic is the configuration's, and no record's. The rest is that of the sink."""
        self._where = where
        self._policy = policy
        self._is_fixed = is_fixed
        self._client_options = client_options
        self._timeout_s = min(FIND_TOPIC_S, request_timeout_s / 4)
        self._clock = clock
        self._seen: dict[str, tuple[float, float]] = {}
        """When each topic was first and last found missing, by the monotonic clock."""

    def clear(self) -> None:
        """Forget all topics, so that they are looked for at once."""
        self._seen.clear()

    async def among(self, topics: Sequence[str], shared: SharedProducer) -> Mapping[str, DeliveryError]:
        """Return those of `topics` that the cluster lacks, each with its error. Look for all of them at once."""
        unknown = [topic for topic in topics if not shared.partition_count(topic)]
        if not unknown:
            return {}
        now = self._clock.monotonic()
        due = [topic for topic in unknown if topic not in self._seen or now - self._seen[topic][1] >= LOOK_AGAIN_S]
        errors = await self._find(shared, due) if due else {}
        absent = [topic for topic in unknown if not shared.partition_count(topic)]
        self._remember(set(due), set(absent), now)
        return {topic: errors.get(topic) or self._error(topic, now) for topic in absent}

    async def _find(self, shared: SharedProducer, topics: Sequence[str]) -> Mapping[str, DeliveryError]:
        """Look for topics, and create them where the options say so. Return the errors of those that failed."""
        await shared.find_topics(topics, self._timeout_s)
        errors: dict[str, Exception] = {
            topic: TopicAuthorizationFailedError(topic) for topic in topics if shared.is_forbidden(topic)
        }
        absent = [topic for topic in topics if not shared.partition_count(topic) and topic not in errors]
        if absent and self._policy == "create":
            try:
                errors |= await create_topics(absent, self._client_options())
            except (KafkaError, OSError) as error:
                errors |= dict.fromkeys(absent, error)
            await shared.find_topics([topic for topic in absent if topic not in errors], self._timeout_s)
        return {topic: self._classified(topic, error) for topic, error in errors.items()}

    def _classified(self, topic: str, error: Exception) -> DeliveryError:
        found = classify(error, f"{self._where}, topic {topic}")
        is_records_fault = isinstance(error, InvalidTopicError) and not self._is_fixed
        return RejectError(found.message, code=found.code) if is_records_fault else found

    def _remember(self, looked_for: set[str], absent: set[str], now: float) -> None:
        for topic in looked_for - absent:
            self._seen.pop(topic, None)
        self._seen |= {topic: (self._seen.get(topic, (now, now))[0], now) for topic in looked_for & absent}
        if len(self._seen) > MISSING_MAX:
            self._seen = {topic: seen for topic, seen in self._seen.items() if now - seen[1] < 2 * REJECT_AFTER_S}

    def _error(self, topic: str, now: float) -> DeliveryError:
        message = f"{self._where} has no topic {topic}"
        if self._policy != "reject":
            return HoldError(f"{message}; create it, or set `on_unknown_topic`", code="unknown_topic")
        if now - self._seen.get(topic, (now, now))[0] < REJECT_AFTER_S:
            return RetryableError(message, code="unknown_topic")
        return RejectError(message, code="unknown_topic")
