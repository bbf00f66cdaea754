"""The OpenAPI document is a golden file: an API change is a change to `openapi.json`, visible in review.

Refresh it with `python -m tests.server.api.test_openapi`.
"""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from headmix_server.api.app import create_app
from headmix_server.api.state import ApiState
from headmix_server.core.observability.metrics import Metrics
from headmix_server.core.settings.settings import Settings

pytestmark = pytest.mark.drift


GOLDEN = Path(__file__).with_name("openapi.json")


class _NoParts:
    """The document only needs the routes."""

    settings = Settings()
    metrics = Metrics(series=1, version="0", base="")
    usage = None


def document() -> dict[str, Any]:
    """Return the application's OpenAPI document."""
    return create_app(cast("ApiState", _NoParts())).openapi()


def test_the_document_is_the_golden_file() -> None:
    assert document() == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_operation_is_described_and_has_a_typed_answer() -> None:
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), (method, path)
            answers = [body for code, body in operation["responses"].items() if code.startswith("2")]
            assert answers, (method, path)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
