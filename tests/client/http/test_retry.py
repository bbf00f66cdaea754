"""When a failed request is sent again."""

import pytest

from headmix.config import RETRY_AFTER_MAX, RETRY_MAX_DELAY
from headmix.errors import (
    APIConnectionError,
    APITimeoutError,
    EngineUnavailableError,
    ErrorDetail,
    HeadmixError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from headmix.http.retry import RetryPolicy

POLICY = RetryPolicy(max_retries=2)


def refused(retry_after: float | None = None) -> RateLimitError:
    return RateLimitError(ErrorDetail("slow down", status=429, retry_after=retry_after))


def test_retry_after_is_honoured() -> None:
    assert POLICY.delay(0, refused(7), repeatable=False) == 7


def test_a_retry_after_beyond_the_limit_is_left_to_the_caller() -> None:
    assert POLICY.delay(0, refused(RETRY_AFTER_MAX + 1), repeatable=True) is None


def test_attempts_end() -> None:
    assert POLICY.delay(2, refused(0), repeatable=True) is None
    assert RetryPolicy(0).delay(0, refused(0), repeatable=True) is None


def test_backoff_grows_and_is_bounded() -> None:
    patient = RetryPolicy(max_retries=100)
    delays = [patient.delay(attempt, refused(), repeatable=True) or 0 for attempt in range(50)]
    assert delays[0] < delays[3] < delays[6]
    assert max(delays) <= RETRY_MAX_DELAY


@pytest.mark.parametrize(
    ("error", "repeatable", "expected"),
    [
        (APIConnectionError("refused", sent=False), False, True),
        (APITimeoutError("connect", sent=False), False, True),
        (APIConnectionError("reset", sent=True), True, True),
        (APIConnectionError("reset", sent=True), False, False),
        (APITimeoutError("read", sent=True), True, False),
        (EngineUnavailableError(ErrorDetail("starting", status=503)), False, True),
        (NotFoundError(ErrorDetail("no", status=404)), True, False),
        (InternalServerError(ErrorDetail("bug", status=500)), True, False),
    ],
)
def test_only_what_cannot_have_had_an_effect_is_repeated(error: HeadmixError, repeatable: bool, expected: bool) -> None:
    assert (POLICY.delay(0, error, repeatable) is not None) is expected


def test_what_the_server_says_is_of_no_use_is_not_sent_again() -> None:
    error = RateLimitError(ErrorDetail("over the quota", status=429, should_retry=False))
    assert POLICY.delay(0, error, repeatable=True) is None
