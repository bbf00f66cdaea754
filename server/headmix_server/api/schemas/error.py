"""The one shape of errors, for OpenAPI; `api.middleware.error_responses` builds the bodies."""

from collections import defaultdict
from typing import Any

from headmix_server.api.schemas.body import ResponseBody
from headmix_server.core.errors import ERRORS_BY_CODE


class ErrorDetail(ResponseBody):
    """What went wrong; `faults` only if an artifact was refused."""

    message: str
    type: str
    param: str | None
    code: str
    faults: list[str] | None = None


class ErrorResponse(ResponseBody):
    """Every response other than a success."""

    error: ErrorDetail


def document_errors() -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entries of errors: each possible status with its codes."""
    return {status: {"model": ErrorResponse, "description": text} for status, text in _describe_statuses().items()}


def document_errors_beside_text(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the entries of these statuses for a route with a non-JSON success, whose type `model` would inherit."""
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{ErrorResponse.__name__}"}}}
    texts = _describe_statuses()
    return {status: {"content": content, "description": texts[status]} for status in statuses}


def _describe_statuses() -> dict[int, str]:
    codes: dict[int, list[str]] = defaultdict(list)
    for code, error in ERRORS_BY_CODE.items():
        codes[error.status].append(code)
    return {status: f"An error: {' or '.join(sorted(codes[status]))}." for status in sorted(codes)}
