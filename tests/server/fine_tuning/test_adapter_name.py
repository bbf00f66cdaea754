import pytest

from headmix_server.catalog.names import is_name
from headmix_server.core.errors import InvalidRequest
from headmix_server.fine_tuning.adapter_name import adapter_name


@pytest.mark.parametrize(
    ("suffix", "name"), [("tone", "tone"), ("My Poet v2", "my-poet-v2"), ("-a_b.c-", "a_b.c"), ("é x", "x")]
)
def test_a_suffix_becomes_a_name(suffix: str, name: str) -> None:
    assert adapter_name(suffix, "base") == name


def test_a_long_suffix_and_none_become_names() -> None:
    assert is_name(adapter_name("x" * 64, "base"))
    assert adapter_name(None, "base") != adapter_name(None, "base")


@pytest.mark.parametrize("suffix", ["!!!", "Base"])
def test_a_suffix_without_a_name_of_its_own_is_refused(suffix: str) -> None:
    with pytest.raises(InvalidRequest):
        adapter_name(suffix, "base")
