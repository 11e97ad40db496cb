"""Held acknowledgements: PUBACK and PUBREC in the order of their publishes, each as soon as its receipt allows.

Acknowledgements are sent in the order in which the publishes arrived [MQTT-4.6.0-2, MQTT-4.6.0-3]. Those of a batch
whose receipt names no hold are sent at once, unless an earlier batch still waits; all others queue up here:

    add() ── no hold, queue empty ────────────────────────────────────────────> sent
      └──> queued ── hold done, and everything queued before it sent ─────────> sent
                 └── hold failed ──> MQTT 5: 0x83 for each publish; before: the connection ends without an answer

Invariants:

- ``count``, ``size`` and ``quota`` are the sums over the queue.
- A QoS 2 packet id is remembered by the session once its publish was accepted, together with its hold, and is
  forgotten when that hold fails; a refused publish is never remembered [MQTT-4.3.3-9].
- Before MQTT 5 a refusal has no code. Nothing behind the first refused publish is acknowledged or remembered
  (``is_refusing``); once everything in front of it is acknowledged, ``refusal`` has the reason to close with.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from broker.codec.acks import encode_acks
from broker.codec.packets import Publish
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.qos2 import ReceivedIds
from broker.receipt import Hold, Receipt
from broker.received import Publishes

HOLD_FAILED: Final = Reason.IMPLEMENTATION_SPECIFIC_ERROR
"""The reason code of a publish whose hold failed: it is valid, and the broker is not able to accept it."""


class _Entry(Struct):
    """A queued batch; ``acks`` are its encoded acknowledgements, empty where some publish was refused."""

    hold: Hold | None
    publishes: Sequence[Publish]
    codes: bytes | bytearray
    acks: bytes
    quota: int
    size: int


class HeldAcks:
    """The acknowledgements of one connection.

    `send` takes encoded packets. `released` is called when a hold is done that entries wait for; the owner then calls
    `release`, and looks at ``refusal``.
    """

    __slots__ = (
        "_last_hold", "_queue", "_received", "_released", "_send", "_version", "count", "count_max", "is_refusing",
        "quota", "refusal", "size", "size_max",
    )  # fmt: skip

    def __init__(
        self,
        config: BrokerConfig,
        received: ReceivedIds,
        version: int,
        send: Callable[[bytes], None],
        released: Callable[[], None],
    ) -> None:
        self.count_max: Final = config.receive_maximum
        self.size_max: Final = config.max_held_bytes
        """The peer should not be read from while as many publishes, or as many bytes of them, wait."""
        self._received = received
        self._version = version
        self._send = send
        self._released = released
        self._queue: deque[_Entry] = deque()
        self._last_hold: Hold | None = None
        self.count = 0
        """Publishes that wait, QoS 0 included where they were accepted under a hold."""
        self.size = 0
        """Bytes of these publishes."""
        self.quota = 0
        """QoS 1 publishes among them, which count against the receive maximum; QoS 2 ids are counted by the session."""
        self.is_refusing = False
        self.refusal: int | None = None

    def add(self, batch: Publishes, receipt: Receipt) -> None:
        """Acknowledge `batch` as soon as `receipt`, the answer to its fresh publishes, allows."""
        fresh, hold = batch.fresh, receipt.hold
        codes = receipt.codes
        if codes is None:
            codes = bytes(len(fresh))
        elif not codes.isascii():  # a code of 0x80 or more
            self._note_refusals(batch, codes)
        elif batch.new_ids is None and hold is not None and self.refusal is None:
            # The hot path: QoS 0 and 1, nothing refused.
            acks = encode_acks(fresh, codes, self._version)
            # PUBACKs of one batch have one length, which their second byte tells: no loop has to count them.
            self._enqueue(_Entry(hold, fresh, codes, acks, len(acks) // (2 + acks[1]) if acks else 0, batch.size))
            return
        if batch.new_ids is None:
            self._add(fresh, codes, hold, batch.size)
            return
        hold = self._received.remember(batch.new_ids, hold)
        if len(batch.answers) == len(fresh):
            self._add(fresh, codes, hold, batch.size)
        else:
            self._add_with_duplicates(batch, codes, hold)

    def release(self) -> None:
        """Send all acknowledgements that wait no longer."""
        queue = self._queue
        while queue:
            hold = queue[0].hold
            if hold is not None and not hold.done:
                return
            entry = queue.popleft()
            self.count -= len(entry.publishes)
            self.size -= entry.size
            self.quota -= entry.quota
            if hold is not None and hold.failed:
                for publish in entry.publishes:
                    if publish.qos == 2:
                        self._received.forget(publish.packet_id, hold)
                self._answer_refused(entry.publishes, _failed(entry.codes))
            elif entry.codes.isascii():
                self._send(entry.acks)
            else:
                self._answer_refused(entry.publishes, entry.codes)

    def detach(self) -> None:
        """Send nothing any more, and drop what refers back to the connection and the client."""
        self._send = self._released = _ignore

    def held_ids(self) -> set[int]:
        """Return the packet ids of the QoS 1 publishes that wait."""
        return {publish.packet_id for entry in self._queue for publish in entry.publishes if publish.qos == 1}

    def _add(self, publishes: Sequence[Publish], codes: bytes | bytearray, hold: Hold | None, size: int) -> None:
        if self.refusal is not None:
            return
        refused = not codes.isascii()
        if hold is not None or self._queue:
            acks = b"" if refused else encode_acks(publishes, codes, self._version)
            self._enqueue(_Entry(hold, publishes, codes, acks, _quota(publishes, codes), size))
        elif refused:
            self._answer_refused(publishes, codes)
        else:
            self._send(encode_acks(publishes, codes, self._version))

    def _enqueue(self, entry: _Entry) -> None:
        self._queue.append(entry)
        self.quota += entry.quota
        self.count += len(entry.publishes)
        self.size += entry.size
        hold = entry.hold
        if hold is None or hold.done:
            self.release()
        # All batches of one group commit share its hold: one call of ``released`` serves them all.
        elif hold is not self._last_hold:
            self._last_hold = hold
            hold.add_done_callback(self._released)

    def _add_with_duplicates(self, batch: Publishes, codes: bytes | bytearray, hold: Hold | None) -> None:
        """Acknowledge one by one, a QoS 2 duplicate under the hold of its first arrival."""
        index = 0
        for publish in batch.answers:
            if index < len(batch.fresh) and batch.fresh[index] is publish:
                self._add([publish], codes[index : index + 1], hold, batch.size // len(batch.answers))
                index += 1
            else:
                packet_id = publish.packet_id
                is_known = packet_id in self._received  # else its first arrival was refused, or a PUBREL came behind it
                code = 0 if is_known else batch.refused.get(packet_id, 0)
                self._add([publish], bytes((code,)), self._received.hold_of(packet_id), 0)

    def _note_refusals(self, batch: Publishes, codes: bytes | bytearray) -> None:
        """Take the packet ids of refused publishes out of those to be remembered.

        A client before MQTT 5 sends everything from the first refused publish on again, so these count as refused too.
        """
        new_ids = batch.new_ids
        for publish, code in zip(batch.fresh, codes, strict=True):
            if publish.qos and code >= 0x80 and self._version < 5:
                self.is_refusing = True
            if publish.qos == 2 and new_ids is not None and (code >= 0x80 or self.is_refusing):
                new_ids.pop(publish.packet_id, None)
                batch.refused[publish.packet_id] = code

    def _answer_refused(self, publishes: Sequence[Publish], codes: bytes | bytearray) -> None:
        """Acknowledge publishes of which some were refused; before MQTT 5 only those in front of the first of them."""
        count = len(publishes)
        if self._version < 5:
            for index, (publish, code) in enumerate(zip(publishes, codes, strict=True)):
                if publish.qos and code >= 0x80:
                    self.refusal = code
                    count = index
                    break
        self._send(encode_acks(publishes[:count], codes[:count], self._version))
        if self.refusal is not None:
            self._queue.clear()
            self.count = self.size = self.quota = 0


def _quota(publishes: Sequence[Publish], codes: bytes | bytearray) -> int:
    """Count what waits against the receive maximum: QoS 1, and refused QoS 2, whose id the session does not know."""
    return sum(
        publish.qos == 1 or (publish.qos == 2 and code >= 0x80) for publish, code in zip(publishes, codes, strict=True)
    )


def _failed(codes: bytes | bytearray) -> bytes:
    """Return the codes of publishes whose hold failed; those that were refused anyway keep their reason."""
    return bytes(code if code >= 0x80 else HOLD_FAILED for code in codes)


def _ignore(*_: object) -> None:
    """Stand in for the callbacks of a connection that is gone."""
