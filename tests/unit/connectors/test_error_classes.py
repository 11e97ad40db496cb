"""Error classes by the server's code: they decide whether rows are retried, held or dead-lettered."""

from __future__ import annotations

import asyncpg
import pytest
from aiokafka import errors as kafka
from asyncpg.exceptions import PostgresError

from connectors.kafka.errors import classify as classify_kafka
from connectors.postgresql.errors import classify as classify_postgresql
from connectors.postgresql.errors import connecting, is_fault_of_row, translated
from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError

SQLSTATES = {
    NotConnectedError: ["08006", "08003", "25006", "57P01", "57P03", "26000", "22P03"],
    RetryableError: ["40001", "40P01", "40003", "53100", "53300", "55P03", "57014", "58030", "XX000", "42P07"],
    HoldError: ["28P01", "28000", "3D000", "3F000", "42501", "42P01", "42703", "42601", "42P10", "57P04", "0A000"],
}
ROW_FAULTS = [
    "22003",
    "22007",
    "22P02",
    "23502",
    "23503",
    "23505",
    "23514",
    "23P01",
    "54000",
    "P0001",
    "44000",
    "21000",
]


@pytest.mark.parametrize(("asked_for", "code"), [(kind, code) for kind, codes in SQLSTATES.items() for code in codes])
def test_sqlstate_decides_the_error_class(asked_for: type[DeliveryError], code: str) -> None:
    """A wrong class would dead-letter rows, or retry them for ever."""
    error = PostgresError.new({"C": code, "M": "the server's words", "S": "ERROR"})
    found = classify_postgresql(error, "PostgreSQL at h/d")
    assert type(found) is asked_for
    assert found.code == code
    assert "the server's words" in found.message
    assert not is_fault_of_row(error)


@pytest.mark.parametrize("code", ROW_FAULTS)
def test_sqlstate_of_a_rows_fault(code: str) -> None:
    """Errors of these codes are about one row, all others about the batch."""
    assert is_fault_of_row(PostgresError.new({"C": code, "M": "x", "S": "ERROR"}))


def test_outdated_plan_reconnects() -> None:
    """ALTER TABLE by another program must not hold the sink."""
    for error in (asyncpg.InvalidCachedStatementError("x"), asyncpg.OutdatedSchemaCacheError("x")):
        with pytest.raises(NotConnectedError), translated("PostgreSQL"):
            raise error


def test_a_timeout_is_an_outage_only_while_connecting() -> None:
    """A slow statement must not close all connections."""
    with pytest.raises(RetryableError), translated("PostgreSQL"):
        raise TimeoutError
    with pytest.raises(NotConnectedError), connecting("PostgreSQL"):
        raise TimeoutError


KAFKA_ERRORS = {
    NotConnectedError: [
        kafka.KafkaConnectionError, kafka.NodeNotReadyError, kafka.OutOfOrderSequenceNumber, kafka.ProducerFenced,
        kafka.UnknownProducerId, OSError,
    ],
    RetryableError: [
        kafka.NotLeaderForPartitionError, kafka.LeaderNotAvailableError, kafka.RequestTimedOutError,
        kafka.NotEnoughReplicasError, kafka.NotEnoughReplicasAfterAppendError, kafka.KafkaStorageError,
        kafka.CorruptRecordException,
    ],
    HoldError: [
        kafka.SaslAuthenticationFailed, kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError,
        kafka.UnsupportedVersionError, kafka.InvalidRequiredAcksError, kafka.PolicyViolationError,
        kafka.UnsupportedSaslMechanismError, kafka.IllegalSaslStateError, kafka.InvalidTopicError,
    ],
    RejectError: [kafka.InvalidTimestampError, kafka.UnsupportedForMessageFormatError],
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked_for", "error"), [(kind, error) for kind, errors in KAFKA_ERRORS.items() for error in errors]
)
def test_kafka_error_decides_the_error_class(asked_for: type[DeliveryError], error: type[Exception]) -> None:
    """Each error of Kafka has a class and a reason in words."""
    found = classify_kafka(error(), "Kafka at h:9092")
    assert type(found) is asked_for
    assert len(found.message) > len("Kafka at h:9092: ")
