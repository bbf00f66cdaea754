"""Texts cut to a number of tokens are cut as transformers cuts them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from harness.bases.base_folder import CORPUS
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_server.text.tokenizer import load_tokenizer
from headmix_server.text.truncation import NothingLeftError, Truncation


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keeps_first", [False, True])
def test_a_text_keeps_the_tokens_that_transformers_keeps(tmp_path: Path, kind: str, keeps_first: bool) -> None:
    folder = write_tokenizer(tmp_path, kind)
    tokenizer = load_tokenizer(folder)
    oracle = PreTrainedTokenizerFast.from_pretrained(folder, truncation_side="right" if keeps_first else "left")
    ids = tokenizer.encode(CORPUS[0])
    for length in range(sum(tokenizer.around) + 1, len(ids) + 2):
        expected = oracle(CORPUS[0], truncation=True, max_length=length)["input_ids"]
        assert list(Truncation(length, keeps_first).cut(ids, tokenizer.around)) == expected


@given(ids=st.lists(st.integers(0, 9), max_size=30), length=st.integers(1, 40), keeps_first=st.booleans())
def test_ids_keep_their_last_or_first(ids: list[int], length: int, keeps_first: bool) -> None:
    expected = ids[:length] if keeps_first else ids[max(0, len(ids) - length) :]
    assert list(Truncation(length, keeps_first).cut(ids)) == expected


def test_where_no_token_of_the_text_would_stay_is_an_error() -> None:
    with pytest.raises(NothingLeftError):
        Truncation(2).cut([1, 5, 6, 2], (1, 1))
    assert list(Truncation(2).cut([1, 2], (1, 1))) == [1, 2]
