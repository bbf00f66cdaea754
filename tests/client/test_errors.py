"""The error tree's promises."""

import inspect
import pickle
import re

import pytest

from headmix import errors
from headmix.errors import APIError, ErrorDetail, HeadmixError, InvalidAdapterError, StreamError, api_error

CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, Exception) and not member.__name__.startswith("_")
]


def test_there_is_one_root() -> None:
    assert all(issubclass(member, HeadmixError) for member in CLASSES)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│├└─ ]*)(\w+Error)\b", line)
        if match:
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            drawn[match[2]] = path[depth - 1] if depth else "Exception"
    assert drawn.keys() == {member.__name__ for member in CLASSES}
    for name, parent in drawn.items():
        bases = [base.__name__ for base in getattr(errors, name).__mro__]
        assert parent in bases, f"{name} is drawn under {parent}"


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (401, "invalid_api_key", "AuthenticationError"),
        (403, "forbidden", "PermissionDeniedError"),
        (404, "model_not_found", "NotFoundError"),
        (400, "invalid_request_error", "BadRequestError"),
        (400, "task_mismatch", "TaskMismatchError"),
        (400, "context_length_exceeded", "ContextLengthError"),
        (422, "invalid_adapter", "InvalidAdapterError"),
        (422, None, "BadRequestError"),
        (413, "payload_too_large", "PayloadTooLargeError"),
        (422, "adapter_too_large", "AdapterTooLargeError"),
        (507, "insufficient_storage", "InsufficientStorageError"),
        (429, "rate_limit_exceeded", "RateLimitError"),
        (503, "server_overloaded", "ServerOverloadedError"),
        (503, "engine_unavailable", "EngineUnavailableError"),
        (503, None, "ServiceUnavailableError"),
        (500, "numerical_error", "NumericalError"),
        (500, None, "InternalServerError"),
        (502, None, "InternalServerError"),
        (404, None, "NotFoundError"),
        (405, None, "BadRequestError"),
        (307, None, "APIError"),
    ],
)
def test_each_status_and_code_has_its_class(status: int, code: str | None, name: str) -> None:
    error = api_error(status, ErrorDetail("no", status=status, code=code))
    assert type(error).__name__ == name
    assert (error.status, error.code, str(error)) == (status, code, "no")


def test_errors_survive_pickling() -> None:
    detail = ErrorDetail("bad", status=422, code="invalid_adapter", faults=("one", "two"))
    copy = pickle.loads(pickle.dumps(api_error(422, detail)))
    assert isinstance(copy, InvalidAdapterError)
    assert copy.faults == ("one", "two")
    lost = pickle.loads(pickle.dumps(errors.APITimeoutError("late", sent=False)))
    assert (str(lost), lost.sent) == ("late", False)


def test_a_stream_error_is_not_an_error_answer() -> None:
    assert not issubclass(StreamError, APIError)
