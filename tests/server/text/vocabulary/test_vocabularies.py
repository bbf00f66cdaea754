from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.bases.base_folder import write_base_folder
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer
from headmix_server.text.vocabulary.vocabularies import Vocabularies


@pytest.fixture
def base(tmp_path: Path) -> Tokenizer:
    return load_tokenizer(write_base_folder(tmp_path))


def test_an_adapter_without_words_uses_the_bases_tokenizer_itself(base: Tokenizer) -> None:
    assert Vocabularies(base, base.vocab_size).tokenizer("a", ()) is base


def test_one_digests_words_are_never_anothers(base: Tokenizer) -> None:
    vocabularies = Vocabularies(base, base.vocab_size)
    one, other = vocabularies.tokenizer("one", ("<one>",)), vocabularies.tokenizer("other", ("<other>",))
    assert one.encode("<one>") == other.encode("<other>") == [base.vocab_size]
    assert one.encode("<other>") == base.encode("<other>")


def test_a_tokenizer_is_made_once_and_the_one_not_used_longest_goes_first(base: Tokenizer) -> None:
    vocabularies = Vocabularies(base, base.vocab_size, kept_words=2)
    first, second = vocabularies.tokenizer("1", ("<1>",)), vocabularies.tokenizer("2", ("<2>",))
    assert vocabularies.tokenizer("1", ("<1>",)) is first
    vocabularies.tokenizer("3", ("<3>",))
    assert vocabularies.tokenizer("1", ("<1>",)) is first
    assert vocabularies.tokenizer("2", ("<2>",)) is not second


def test_threads_that_ask_at_once_get_the_same(base: Tokenizer) -> None:
    vocabularies = Vocabularies(base, base.vocab_size)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: vocabularies.tokenizer("1", ("<1>",)), range(8)))
    assert len({id(tokenizer) for tokenizer in found}) == 1
