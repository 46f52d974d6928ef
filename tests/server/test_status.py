"""Errors and the statuses they become: none is without one."""

from __future__ import annotations

import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

from policies.errors import (
    CatalogueError,
    FileError,
    InvalidRequestError,
    NotFoundError,
    OpportuneError,
    OverloadedError,
    Problem,
    SettingsError,
    StoreUnavailableError,
)
from server.status import status_of

ERRORS: dict[type[OpportuneError], OpportuneError] = {
    InvalidRequestError: InvalidRequestError([Problem("user_id", "is required")]),
    NotFoundError: NotFoundError("decision", "abc"),
    OverloadedError: OverloadedError(0.25),
    StoreUnavailableError: StoreUnavailableError(1.5),
}
# These stop a process or a command; no client ever waits for one.
OF_FILES = {FileError, CatalogueError, SettingsError}


def subclasses(error: type[OpportuneError]) -> set[type[OpportuneError]]:
    below = error.__subclasses__()
    return set(below).union(*(subclasses(cls) for cls in below))


def info_of(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def test_every_error_is_known_here() -> None:
    ours = {e for e in subclasses(OpportuneError) if e.__module__ == "policies.errors"}

    assert ERRORS.keys() | OF_FILES == ours


@pytest.mark.parametrize("error", ERRORS.values(), ids=lambda e: type(e).__name__)
def test_every_error_has_a_status_of_its_own(error: OpportuneError) -> None:
    status = status_of(error)

    assert type(error) in status_of.registry
    assert status.code not in {code_pb2.OK, code_pb2.UNKNOWN, code_pb2.INTERNAL}
    assert info_of(status).domain == "opportune.dev"
    assert info_of(status).reason
    assert status.message


@pytest.mark.parametrize("error", ERRORS.values(), ids=lambda e: type(e).__name__)
def test_a_status_carries_at_most_one_detail_of_each_type(
    error: OpportuneError,
) -> None:
    types = [detail.type_url for detail in status_of(error).details]

    assert len(set(types)) == len(types)


def test_no_two_errors_share_a_reason() -> None:
    reasons = [info_of(status_of(error)).reason for error in ERRORS.values()]

    assert len(set(reasons)) == len(reasons)


def test_a_bug_tells_a_client_nothing() -> None:
    status = status_of(ValueError("the password is swordfish"))

    assert status.code == code_pb2.INTERNAL
    assert "swordfish" not in str(status)
    assert info_of(status).reason == "INTERNAL"


def test_what_may_be_retried_says_when() -> None:
    for error, nanoseconds in (
        (OverloadedError(0.25), 250_000_000),
        (StoreUnavailableError(1.5), 1_500_000_000),
    ):
        retry = error_details_pb2.RetryInfo()
        details = status_of(error).details
        assert any(detail.Unpack(retry) for detail in details)
        assert nanoseconds == retry.retry_delay.ToNanoseconds()


def test_what_the_message_of_not_found_names_is_in_its_details_too() -> None:
    status = status_of(NotFoundError("decision", "abc"))
    resource = error_details_pb2.ResourceInfo()

    assert "abc" in status.message
    assert info_of(status).metadata["decision"] == "abc"
    assert any(detail.Unpack(resource) for detail in status.details)
    assert (resource.resource_type, resource.resource_name) == ("decision", "abc")
