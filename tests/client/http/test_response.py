"""How error responses and their headers are read."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix.errors import APIConnectionError, APITimeoutError, InvalidAdapterError, RateLimitError
from headmix.http.response import error_of, parse_retry_after, transport_errors


def answer(status: int, body: bytes, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, content=body, headers=headers)


def test_all_the_server_says_is_on_the_error() -> None:
    body = b'{"error": {"message": "slow", "type": "rate_limit_error", "param": "n", "code": "rate_limit_exceeded"}}'
    error = error_of(answer(429, body, {"retry-after": "3", "x-request-id": "r-1"}), body)
    assert isinstance(error, RateLimitError)
    assert (error.message, error.type, error.param, error.code) == (
        "slow",
        "rate_limit_error",
        "n",
        "rate_limit_exceeded",
    )
    assert (error.status, error.request_id, error.retry_after, error.body) == (429, "r-1", 3.0, body.decode())


def test_every_fault_of_an_artifact_is_kept() -> None:
    body = b'{"error": {"message": "2 faults", "code": "invalid_adapter", "faults": ["q: shape", "v: rank"]}}'
    error = error_of(answer(422, body), body)
    assert isinstance(error, InvalidAdapterError)
    assert error.faults == ("q: shape", "v: rank")


@given(st.binary(max_size=60) | st.sampled_from([b"null", b"[]", b'{"error": "text"}', b'{"error": {"code": 5}}']))
def test_any_body_makes_an_error_with_a_message(body: bytes) -> None:
    error = error_of(answer(502, body), body)
    assert error.message.startswith("HTTP 502 Bad Gateway")


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("5", 5.0), ("0.5", 0.5), ("-1", 0.0), ("soon", None)])
def test_retry_after_in_seconds(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header) == seconds


def test_retry_after_as_a_date() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    assert 3500 < (parse_retry_after(later) or 0) <= 3600
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize(
    ("failure", "kind", "sent"),
    [
        (httpx2.ConnectError("refused"), APIConnectionError, False),
        (httpx2.ConnectTimeout("late"), APITimeoutError, False),
        (httpx2.PoolTimeout("full"), APITimeoutError, False),
        (httpx2.ReadTimeout("late"), APITimeoutError, True),
        (httpx2.ReadError("reset"), APIConnectionError, True),
        (httpx2.RemoteProtocolError("cut"), APIConnectionError, True),
        (httpx2.StreamClosed(), APIConnectionError, True),
    ],
)
def test_transport_failures_become_ours_and_say_whether_the_request_was_sent(
    failure: Exception, kind: type[APIConnectionError], sent: bool
) -> None:
    with pytest.raises(kind) as caught, transport_errors():
        raise failure
    assert type(caught.value) is kind
    assert caught.value.sent is sent
    assert caught.value.__cause__ is failure
