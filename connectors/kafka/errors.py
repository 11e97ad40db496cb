"""The instruction in an error of Kafka or its client."""

from __future__ import annotations

import ssl

from aiokafka import errors as kafka

from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError

TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)
"""The batch is larger than the topic allows; smaller ones may be accepted."""


class InvalidRecordError(kafka.BrokerResponseError):  # type: ignore[misc]
    """The broker refused a record by its content: one without a key in a compacted topic, for example."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker does not accept such a record; one of a compacted topic needs a key."


# The client knows no code above 72, and would report this one as unknown.
kafka.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

FAULT_OF_RECORD = (kafka.InvalidTimestampError, kafka.UnsupportedForMessageFormatError, InvalidRecordError)
"""A record of the batch can't be stored."""

NEW_PRODUCER = (
    kafka.OutOfOrderSequenceNumber,
    kafka.UnknownProducerId,
    kafka.InvalidProducerEpoch,
    kafka.InvalidProducerIdMapping,
    kafka.ProducerFenced,
    kafka.ProducerClosed,
)
"""The broker no longer knows the producer's sequence; a new producer starts another one."""

_HOLD = (
    kafka.SaslAuthenticationFailed,
    kafka.AuthenticationFailedError,
    kafka.AuthenticationMethodNotSupported,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
    kafka.TopicAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.UnsupportedVersionError,
    kafka.IncompatibleBrokerVersion,
    kafka.InvalidRequiredAcksError,
    kafka.InvalidTopicError,
    kafka.PolicyViolationError,
    kafka.UnsupportedCodecError,
    ssl.SSLError,
)
_NOT_CONNECTED = (kafka.KafkaConnectionError, kafka.NodeNotReadyError, kafka.NoBrokersAvailable, OSError, *NEW_PRODUCER)

_ADVICE: dict[type[Exception], str] = {
    kafka.SaslAuthenticationFailed: "correct `sasl`, or the user at the server",
    kafka.UnsupportedSaslMechanismError: "choose a `sasl.mechanism` that the server offers",
    kafka.IllegalSaslStateError: "this listener does not use SASL: remove `sasl`, or use another port",
    kafka.TopicAuthorizationFailedError: "allow the sink's user to write to the topic",
    kafka.ClusterAuthorizationFailedError: "allow the sink's user to write idempotently, or set `idempotent: false`",
}


def classify(error: Exception, where: str) -> DeliveryError:
    """Return the instruction in an error of the client or the server. An error that is not listed is retried."""
    code = type(error).__name__
    message = f"{where}: {reason(error)}"
    advice = _ADVICE.get(type(error))
    if isinstance(error, _HOLD):
        return HoldError(f"{message}; {advice}" if advice else message, code=code)
    if isinstance(error, FAULT_OF_RECORD):
        return RejectError(message, code=code)
    if isinstance(error, _NOT_CONNECTED):
        return NotConnectedError(message, code=code)
    return RetryableError(message, code=code)


def reason(error: Exception) -> str:
    """Return the reason in words. Brokers send codes alone; the client has a description of each."""
    text = str(error).strip()
    if not isinstance(error, kafka.BrokerResponseError):
        return text or type(error).__name__
    words = text.partition(f"{type(error).__name__}: ")[2] or error.description or text
    return f"{words} (error {error.errno})"
