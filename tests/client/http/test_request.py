"""Names in paths, and responses of the wrong type."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix.errors import InvalidArgumentError, InvalidResponseError
from headmix.http.request import parser_of, segment
from headmix.operations import adapters
from headmix.types import Completion
from headmix.types.result import ResponseMeta


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name not in {".", ".."}))
def test_a_name_is_one_path_segment_whatever_it_contains(name: str) -> None:
    written = segment(name)
    assert not set(written) & set("/?#\\ ")
    assert unquote(written) == name


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_address_another_path_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not a name"):
        adapters.remove(name)


@pytest.mark.parametrize("body", [b"", b"null", b"<html>", b'{"id": 5}', b"\xff"])
def test_a_body_of_another_shape_is_named(body: bytes) -> None:
    with pytest.raises(InvalidResponseError, match="not a Completion"):
        parser_of(Completion)(body, ResponseMeta())


def test_requests_are_frozen() -> None:
    with pytest.raises(AttributeError):
        adapters.list_adapters().path = "/other"  # type: ignore[misc] # the mistake under test
