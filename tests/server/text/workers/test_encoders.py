"""A worker keeps only a few copies of a tokenizer, and no tenant's copy is evicted by another's many."""

from pathlib import Path

import pytest

from harness.bases.base_folder import write_base_folder
from headmix_adapters.text.tokenizer import BaseTokenizer
from headmix_server.text.adapter_template import AdapterTemplate
from headmix_server.text.workers.encoder import Words
from headmix_server.text.workers.encoders import COPY_FACTOR, KEPT_TEMPLATES, Encoders

FIRST = 10_000


def words(name: str) -> Words:
    return Words(name, (f"<{name}>",), FIRST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_base_folder(tmp_path)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words that copies were made with."""
    names: list[str] = []
    with_words = BaseTokenizer.with_words

    def note(tokenizer: BaseTokenizer, own: tuple[str, ...]) -> BaseTokenizer:
        names.append(own[0])
        return with_words(tokenizer, own)

    monkeypatch.setattr(BaseTokenizer, "with_words", note)
    return names


def room_for(copies: int, folder: Path) -> int:
    size = len(Encoders(folder).get(None, "t").json)
    return copies * COPY_FACTOR * size


def test_a_copy_is_made_once_while_it_is_used(folder: Path, made: list[str]) -> None:
    encoders = Encoders(folder)
    for name in ("a", "b", "a", "b"):
        assert encoders.get(words(name), "t").encode(f"<{name}>") == [FIRST]
    assert made == ["<a>", "<b>"]


def test_a_tenant_that_goes_through_many_adapters_pushes_out_its_own_copies_only(folder: Path, made: list[str]) -> None:
    encoders = Encoders(folder, kept_bytes=room_for(3, folder))
    encoders.get(words("other"), "other")
    for number in range(5):
        encoders.get(words(f"mine{number}"), "mine")
    made.clear()
    encoders.get(words("other"), "other")
    encoders.get(words("mine4"), "mine")
    encoders.get(words("mine3"), "mine")
    assert made == []
    encoders.get(words("mine0"), "mine")
    assert made == ["<mine0>"]


def test_one_copy_fits_however_large_it_is(folder: Path, made: list[str]) -> None:
    encoders = Encoders(folder, kept_bytes=1)
    for name in ("a", "a", "b", "a"):
        assert encoders.get(words(name), name).encode(f"<{name}>") == [FIRST]
    assert made == ["<a>", "<b>", "<a>"]


def test_the_templates_of_adapters_are_compiled_once_and_only_a_few_are_kept(folder: Path) -> None:
    encoders = Encoders(folder)
    first = AdapterTemplate("{{ messages }} 0")
    compiled = encoders.template(first)
    assert compiled is encoders.template(AdapterTemplate("{{ messages }} 0"))
    for number in range(1, KEPT_TEMPLATES):
        encoders.template(AdapterTemplate(f"{{{{ messages }}}} {number}"))
    assert encoders.template(first) is compiled
    for number in range(KEPT_TEMPLATES):
        encoders.template(AdapterTemplate(f"{{{{ messages }}}} again {number}"))
    assert encoders.template(first) is not compiled


def test_without_one_of_its_own_an_adapter_has_the_bases_template(folder: Path) -> None:
    encoders = Encoders(folder)
    assert encoders.template(None) is encoders.template(None)
    assert encoders.template(None) is not encoders.template(AdapterTemplate("{{ messages }}"))
