import pytest
from hypothesis import given
from hypothesis import strategies as st

from headmix_server.catalog.names import (
    NAME_PATTERN,
    NOWHERE,
    Reference,
    check_name,
    known_form,
    parse_adapter,
    parse_reference,
)
from headmix_server.core.errors import InvalidRequest

NAMES = st.from_regex(NAME_PATTERN, fullmatch=True)


@given(NAMES, st.integers(1, 10**18 - 1))
def test_every_name_and_version_is_found_in_its_reference(name: str, number: int) -> None:
    check_name(name)
    assert known_form(name) == name
    assert parse_reference(name) == Reference(None, name, None)
    assert parse_reference(f"{name}@{number}") == Reference(None, name, number)


@given(st.text())
def test_any_text_is_a_reference_or_nowhere_but_never_an_error(text: str) -> None:
    reference = parse_reference(text)
    if reference != NOWHERE:
        owner = "" if reference.owner is None else f"{reference.owner}/"
        version = "" if reference.number is None else f"@{reference.number}"
        assert f"{owner}{reference.name}{version}" == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "A", "a b", "a\n", "a@", "a@0", "a@01", "a@-1", "a@1@2", "a@1000000000000000000", "@1", "a" * 64, "a@²"),
        *("/a", "a/", "a//b", "a/b/c", "A/b", "a@1/b", "../a", f"a/{'b' * 64}"),
    ],
)
def test_malformed_references_lead_nowhere(text: str) -> None:
    assert parse_reference(text) == parse_adapter(text) == NOWHERE
    assert known_form(text) == NOWHERE.name


def test_another_tenants_adapter_has_its_owner_before_its_name() -> None:
    assert parse_reference("acme/tone@3") == ("acme", "tone", 3)
    assert parse_adapter("acme/tone") == ("acme", "tone", None)
    assert parse_adapter("tone") == (None, "tone", None)


def test_a_reference_to_a_version_is_not_a_name() -> None:
    assert known_form("a@1") == NOWHERE.name
    assert parse_adapter("a@1") == NOWHERE
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
