import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.catalog.names import NAME_PATTERN, NOWHERE, Reference, check_name, known_form, parse_reference
from headmix_server.core.errors import InvalidRequest

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)


@given(NAMES, st.integers(1, 10**18 - 1))
def test_every_name_and_version_is_found_in_its_reference(name: str, number: int) -> None:
    check_name(name)
    assert known_form(name) == name
    assert parse_reference(name) == Reference(name, None)
    assert parse_reference(f"{name}@{number}") == Reference(name, number)


@given(st.text())
def test_any_text_is_a_reference_or_nowhere_and_never_an_error(text: str) -> None:
    reference = parse_reference(text)
    if reference != NOWHERE:
        written = reference.name if reference.number is None else f"{reference.name}@{reference.number}"
        assert written == text


@pytest.mark.parametrize(
    "text",
    ["", "A", "a b", "a\n", "a@", "a@0", "a@01", "a@-1", "a@1@2", "a@1000000000000000000", "@1", "a" * 64, "a@²"],
)
def test_malformed_references_lead_nowhere(text: str) -> None:
    assert parse_reference(text) == NOWHERE
    assert known_form(text) == NOWHERE.name


def test_a_reference_to_a_version_is_not_a_name() -> None:
    assert known_form("a@1") == NOWHERE.name
    with pytest.raises(InvalidRequest):
        check_name("a@1")


@pytest.mark.parametrize("name", ["", "Upper", "../up", "a/b", ".hidden", "a" * 64, "a\n", "é"])
def test_a_malformed_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_name(name)
    assert caught.value.param == "name"


def test_the_bases_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="belongs to the base"):
        check_name("smollm", reserved={"smollm"})
