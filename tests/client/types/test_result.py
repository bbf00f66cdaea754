"""What every result shares."""

import pytest
from pydantic import ValidationError

from headmix.types import AdapterRef, Completion
from headmix.types.result import ResponseMeta
from tests.client.wire import ADAPTER_HEADER, COMPLETION, DIGEST


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (ADAPTER_HEADER, AdapterRef("tone", 3, DIGEST)),
        ("tone@3", AdapterRef("tone", 3)),
        ("tone", AdapterRef("tone")),
        (None, None),
        ("", None),
        ("tone@x y z", None),
    ],
)
def test_the_answering_adapter_is_read_from_its_header(header: str | None, expected: AdapterRef | None) -> None:
    assert AdapterRef.parse(header) == expected


def test_an_adapter_reference_is_written_as_the_header_has_it() -> None:
    assert str(AdapterRef.parse(ADAPTER_HEADER)) == ADAPTER_HEADER


def test_answers_are_frozen_and_ignore_what_they_do_not_know() -> None:
    answer = Completion.model_validate(COMPLETION | {"system_fingerprint": "new"})
    with pytest.raises(ValidationError, match="frozen"):
        answer.id = "other"  # type: ignore[misc] # the mistake under test


def test_metadata_is_beside_the_fields_not_among_them() -> None:
    meta = ResponseMeta(200, "r-1", AdapterRef("tone", 3))
    answer = Completion.model_validate(COMPLETION, context=meta)
    assert (answer.request_id, answer.adapter) == ("r-1", AdapterRef("tone", 3))
    assert "request_id" not in answer.model_dump()
    assert Completion.model_validate(COMPLETION).request_id is None
