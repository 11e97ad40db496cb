"""SUBSCRIBE and UNSUBSCRIBE: checking the filters, changing session and router, choosing the reason codes."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from broker.access import Action, Verb
from broker.codec.packets import Subscribe, Subscription, Unsubscribe
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.core import Core
from broker.errors import InvalidTopic, MalformedPacket, ProtocolError
from broker.hooks import ClientInfo, SessionSubscribed, SessionUnsubscribed
from broker.session import Session
from broker.subscriber import Subscribed
from broker.topics import check_topic_filter, has_wildcard, split_shared
from broker.topicstage import TopicStage


def permits_of(core: Core, info: ClientInfo, packet: Subscribe) -> list[bool | None]:
    """Return whether each subscription of `packet` is allowed; None where access control has to be asked.

    An ill-formed filter is not: `subscribe` refuses it for its form, whatever its permit.
    """
    if info.bypasses_acl:
        return [True] * len(packet.subscriptions)
    permits: list[bool | None] = []
    for subscription in packet.subscriptions:
        try:
            topic_filter = split_shared(subscription.topic_filter)[1]
            check_topic_filter(topic_filter, core.config.max_topic_levels)
        except InvalidTopic:
            permits.append(False)
        else:
            permits.append(core.access.may_subscribe(info, topic_filter, subscription.qos))
    return permits


def action_of(subscription: Subscription) -> Action:
    """Return what access control is asked for a subscription, whose filter is well-formed."""
    return Action(Verb.SUBSCRIBE, split_shared(subscription.topic_filter)[1], subscription.qos)


def subscribe(
    core: Core, session: Session, packet: Subscribe, permits: Sequence[bool | None]
) -> tuple[list[int], list[str]]:
    """Make the subscriptions of `packet`. Return their reason codes, and the filters whose retained messages are due.

    Raises `WireError` where the connection has to end.
    """
    identifiers = (packet.properties or {}).get("subscription_identifier")
    codes = []
    with_retained = []
    for subscription, permit in zip(packet.subscriptions, permits, strict=True):
        if core.topic_stage is not None:
            staged = _staged(core.topic_stage, session.info, subscription.topic_filter)
            if isinstance(staged, int):
                codes.append(staged if permit else int(Reason.NOT_AUTHORIZED))
                continue
            subscription = replace(subscription, topic_filter=staged)
        refusal = check_subscription(subscription, session, core.config)
        if refusal is None and not permit:
            refusal = Reason.NOT_AUTHORIZED
        if refusal is not None:
            codes.append(int(refusal))
            continue
        subscribed = Subscribed(_for_bridge(subscription, session.info), identifiers[0] if identifiers else None)
        is_new = session.subscribe(subscribed)
        core.router.subscribe(session, subscribed)
        codes.append(subscription.qos)
        if wants_retained(subscription, is_new):
            with_retained.append(subscription.topic_filter)
        if core.hooks.session_subscribed is not None:
            properties = packet.properties or {}
            event = SessionSubscribed(session.info, subscription.topic_filter, subscription.qos, properties)
            core.hooks.session_subscribed(event)
    return codes, with_retained


def unsubscribe(core: Core, session: Session, packet: Unsubscribe) -> list[int]:
    """End the subscriptions of `packet`. Return their reason codes."""
    codes = []
    for named_filter in packet.topic_filters:
        topic_filter = named_filter
        if core.topic_stage is not None:
            staged = _staged(core.topic_stage, session.info, named_filter)
            topic_filter = staged if isinstance(staged, str) else named_filter
        subscribed = session.subscriptions.get(topic_filter)
        if subscribed is None:
            codes.append(int(Reason.NO_SUBSCRIPTION_EXISTED))
            continue
        # The router first: a subscription that it alone knew would be served for ever, and ended by nobody.
        core.router.unsubscribe(session, topic_filter)
        session.unsubscribe(topic_filter)
        codes.append(int(Reason.SUCCESS))
        if core.hooks.session_unsubscribed is not None:
            qos = subscribed.subscription.qos
            core.hooks.session_unsubscribed(
                SessionUnsubscribed(session.info, topic_filter, qos, packet.properties or {})
            )
    return codes


def _staged(stage: TopicStage, info: ClientInfo, full_filter: str) -> str | int:
    """Return what the topic stage makes of a filter, its share name kept. An ill-formed filter stays as it is."""
    try:
        share, topic_filter = split_shared(full_filter)
        check_topic_filter(topic_filter, levels_max=len(topic_filter) + 1)
    except InvalidTopic:
        return full_filter
    staged = stage.subscription(info, topic_filter)
    return staged if share is None or isinstance(staged, int) else f"$share/{share}/{staged}"


def check_subscription(subscription: Subscription, session: Session, config: BrokerConfig) -> Reason | None:
    """Return the reason code that a subscription is refused with whatever its permit, None if it is accepted.

    Raises `WireError` where the connection has to end.
    """
    full_filter = subscription.topic_filter
    try:
        share, topic_filter = split_shared(full_filter)
    except InvalidTopic:
        return Reason.TOPIC_FILTER_INVALID  # [MQTT-4.8.2-1, MQTT-4.8.2-2]
    try:
        check_topic_filter(topic_filter, levels_max=len(topic_filter) + 1)
    except InvalidTopic as error:
        raise MalformedPacket(str(error)) from error  # [MQTT-4.7.1-1, MQTT-4.7.1-2]
    if share is not None and subscription.no_local:
        raise ProtocolError(f"the shared subscription {full_filter!r} has No Local")  # [MQTT-3.8.3-4]
    if topic_filter.count("/") >= config.max_topic_levels:
        return Reason.TOPIC_FILTER_INVALID
    if share is not None and not config.shared_subscription:
        return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not config.wildcard_subscription and has_wildcard(topic_filter):
        return Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    if len(session.subscriptions) >= config.max_subscriptions and full_filter not in session.subscriptions:
        return Reason.QUOTA_EXCEEDED
    return None


def wants_retained(subscription: Subscription, is_new: bool) -> bool:
    """Return whether the retained messages of a subscription just made are to be sent [MQTT-3.3.1-9 to 3.3.1-11].

    Those of a shared subscription never are.
    """
    if subscription.topic_filter.startswith("$share/"):
        return False
    return subscription.retain_handling == 0 or (subscription.retain_handling == 1 and is_new)


def _for_bridge(subscription: Subscription, info: ClientInfo) -> Subscription:
    """Return `subscription` with the options that Mosquitto's bridges expect and cannot ask for before MQTT 5.

    Retain flags arrive as they were published, and the bridge does not get its own messages back.
    """
    if not info.is_bridge or subscription.topic_filter.startswith("$share/"):
        return subscription
    return replace(subscription, no_local=True, retain_as_published=True)
