"""The way of a client's publishes: access control, topic stage, the application's hook, the exchange, in this order.

A will takes the same way once it is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from broker.access import Action, Verb
from broker.asking import Answers, ask_all
from broker.codec.packets import Publish, Will, WillPublish
from broker.codec.reasons import Reason
from broker.core import Core
from broker.hooks import ClientInfo
from broker.receipt import ACCEPTED, Hold, Receipt, join
from broker.topicstage import Taken, TopicStage

Permits = Sequence[bool | None]
"""Whether each publish of a run is allowed; None where access control has to be asked."""


class Unanswered(Struct):
    """Publishes that cannot be handed on before access control was asked for some of them."""

    permits: Permits
    actions: list[Action]
    """The distinct actions whose permit is missing."""


def take_in(core: Core, info: ClientInfo, fresh: list[Publish], now_ms: int) -> Receipt | Unanswered:
    """Hand on the publishes of one read, or answer which permissions have to be asked first.

    The receipt is that of the application and of the exchange joined.
    """
    core.stats.messages_received += len(fresh)
    if not info.bypasses_acl:
        may_publish = core.access.may_publish
        for index, publish in enumerate(fresh):
            permit = may_publish(info, publish.topic, publish.qos, publish.retain)
            if permit is not True:
                permits: list[bool | None] = [True] * index
                return _take_in_checked(core, info, fresh, [*permits, permit], now_ms)
    if core.topic_stage is not None:
        return _hand_on_allowed(core, info, fresh, [True] * len(fresh), now_ms)
    # All of them are allowed: the hot path, which creates no object for each publish.
    hook = core.hooks.published
    receipt = hook(info, fresh, now_ms) if hook is not None and fresh else ACCEPTED
    if receipt.codes is None:
        routed = core.exchange.publish(fresh, info, now_ms)
        if receipt.hold is None:
            return routed
        return Receipt(receipt.hold if routed.hold is None else join(receipt.hold, routed.hold), routed.codes)
    codes = bytearray(len(fresh))
    hold = _route_accepted(core, info, fresh, range(len(fresh)), receipt, codes, now_ms)
    return Receipt(hold, codes)


def take_in_answered(
    core: Core, info: ClientInfo, fresh: list[Publish], unanswered: Unanswered, answers: Answers, now_ms: int
) -> Receipt:
    """Hand on the publishes of one read after its missing permissions were asked."""
    allowed = answers.allowed
    permits = [
        permit if permit is not None else action_of(publish) in allowed
        for permit, publish in zip(unanswered.permits, fresh, strict=True)
    ]
    return _hand_on_allowed(core, info, fresh, permits, now_ms)


def publish_will(core: Core, will: Will, info: ClientInfo) -> None:
    """Publish a will that is due, as if its client had published it; ask for its permission first where that is needed.

    Nobody is told of a refusal: the client has gone.
    """
    properties = {name: value for name, value in (will.properties or {}).items() if name != "will_delay_interval"}
    publish = WillPublish(will.topic, will.payload, will.qos, will.retain, False, 0, properties or None)
    permit: bool | None = True
    if not info.bypasses_acl:
        permit = core.access.may_publish(info, will.topic, will.qos, will.retain)
    if permit is not None:
        _hand_on_allowed(core, info, [publish], [permit], core.now_ms())
        return

    def answered(answers: Answers | BaseException) -> None:
        allowed = False
        if isinstance(answers, Answers):
            core.stats.authorizations_failed += answers.failures
            allowed = bool(answers.allowed)
        _hand_on_allowed(core, info, [publish], [allowed], core.now_ms())
        core.flush()

    core.spawn(ask_all(core.access, info, [action_of(publish)], core.config.authorization_timeout), answered)


def action_of(publish: Publish) -> Action:
    """Return what access control is asked for `publish`."""
    return Action(Verb.PUBLISH, publish.topic, publish.qos, publish.retain)


def _take_in_checked(
    core: Core, info: ClientInfo, fresh: list[Publish], permits: list[bool | None], now_ms: int
) -> Receipt | Unanswered:
    """Take in publishes that are not all allowed at once; `permits` has the answers for the first of them."""
    may_publish = core.access.may_publish
    permits += [may_publish(info, each.topic, each.qos, each.retain) for each in fresh[len(permits) :]]
    if None in permits:
        missing = [action_of(publish) for permit, publish in zip(permits, fresh, strict=True) if permit is None]
        return Unanswered(permits, list(dict.fromkeys(missing)))
    return _hand_on_allowed(core, info, fresh, permits, now_ms)


def _hand_on_allowed(core: Core, info: ClientInfo, fresh: Sequence[Publish], permits: Permits, now_ms: int) -> Receipt:
    """Hand on the publishes that `permits` allows and the topic stage passes; the others are refused."""
    codes = bytearray(len(fresh))
    allowed = []
    for index, permit in enumerate(permits):
        if permit:
            allowed.append(index)
        else:
            core.stats.messages_refused += 1
            codes[index] = _refusal(info, Reason.NOT_AUTHORIZED)
    staged: Hold | None = None
    if core.topic_stage is not None:
        allowed, staged = _pass_stage(core, core.topic_stage, info, fresh, allowed, codes)
    hook = core.hooks.published
    offered = [fresh[index] for index in allowed]
    receipt = hook(info, offered, now_ms) if hook is not None and allowed else ACCEPTED
    hold = _route_accepted(core, info, fresh, allowed, receipt, codes, now_ms)
    return Receipt(join(staged, hold), codes)


def _pass_stage(
    core: Core,
    stage: TopicStage,
    info: ClientInfo,
    fresh: Sequence[Publish],
    allowed: Sequence[int],
    codes: bytearray,
) -> tuple[list[int], Hold | None]:
    """Pass publishes (`allowed`, indices of `fresh`) through the topic stage and note the codes of those it refuses.

    Returns the indices of those that go on, under the topics they have now, and the hold of those that the stage took.
    """
    passed = []
    hold: Hold | None = None
    for index in allowed:
        result = stage.publish(info, fresh[index])
        if isinstance(result, str):
            fresh[index].topic = result
            passed.append(index)
        elif isinstance(result, Taken):
            hold = join(hold, result.hold)
        else:
            core.stats.messages_refused += 1
            codes[index] = _refusal(info, result)
    return passed, hold


def _refusal(info: ClientInfo, reason_code: int) -> int:
    """Return the code for a publish that its client may not publish: before MQTT 5 there is none but success."""
    return reason_code if info.protocol_version == 5 else Reason.SUCCESS


def _route_accepted(
    core: Core,
    info: ClientInfo,
    fresh: Sequence[Publish],
    offered: Sequence[int],
    receipt: Receipt,
    codes: bytearray,
    now_ms: int,
) -> Hold | None:
    """Route what the application accepted of `offered` (indices of `fresh`), and note the codes of all of it.

    Returns the hold of both. MQTT 3 clients send everything from a refused publish on again, so none of that is routed.
    """
    accepted = []
    comes_again = False
    for position, index in enumerate(offered):
        code = 0 if receipt.codes is None else receipt.codes[position]
        if code >= 0x80:
            core.stats.messages_refused += 1
            codes[index] = code
            comes_again |= info.protocol_version < 5 and fresh[index].qos > 0
        elif not (comes_again and fresh[index].qos):
            accepted.append(index)
    routed = core.exchange.publish([fresh[index] for index in accepted], info, now_ms)
    if routed.codes is not None:
        for index, code in zip(accepted, routed.codes, strict=True):
            codes[index] = code
    return join(receipt.hold, routed.hold)
