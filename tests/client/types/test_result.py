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
        (f"{ADAPTER_HEADER} -0.5", AdapterRef("tone", 3, DIGEST, -0.5)),
        (f"{ADAPTER_HEADER} 1.e-", None),
    ],
)
def test_the_answering_adapter_is_read_from_its_header(header: str | None, expected: AdapterRef | None) -> None:
    assert AdapterRef.parse(header) == expected


@pytest.mark.parametrize("header", [ADAPTER_HEADER, f"{ADAPTER_HEADER} 0.7"])
def test_an_adapter_reference_is_written_as_the_header_has_it(header: str) -> None:
    assert str(AdapterRef.parse(header)) == header


def test_all_adapters_of_a_sum_are_read_from_their_header() -> None:
    meta = ResponseMeta.of(
        200,
        {"x-headmix-adapter": ADAPTER_HEADER, "x-headmix-adapters": f"{ADAPTER_HEADER} 0.7, other@1 {DIGEST} 1.0, @"},
    )
    answer = Completion.model_validate(COMPLETION, context=meta)
    assert answer.adapter == AdapterRef("tone", 3, DIGEST)
    assert answer.adapters == (AdapterRef("tone", 3, DIGEST, 0.7), AdapterRef("other", 1, DIGEST))


@pytest.mark.parametrize(("adapter", "expected"), [(None, ()), (AdapterRef("tone"), (AdapterRef("tone"),))])
def test_without_that_header_they_are_the_one_that_answered(
    adapter: AdapterRef | None, expected: tuple[AdapterRef, ...]
) -> None:
    assert Completion.model_validate(COMPLETION, context=ResponseMeta(adapter=adapter)).adapters == expected


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
