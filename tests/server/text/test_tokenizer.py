from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from harness.adapters.artifacts import classifier_config
from harness.bases.base_folder import IM_END, write_base_folder, write_byte_fallback_folder
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_adapters.text.base_text import read_base_text
from headmix_adapters.train.data.examples import encode_classification, encode_generation
from headmix_adapters.train.data.rows import Row
from headmix_server.text.tokenizer import Tokenizer, load_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def oracle(folder: Path) -> PreTrainedTokenizerFast:
    loaded: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return loaded


@given(text=st.text())
def test_ids_are_those_transformers_gives(tokenizer: Tokenizer, oracle: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.encode(text) == oracle.encode(text)
    assert tokenizer.encode(text, add_special_tokens=False) == oracle.encode(text, add_special_tokens=False)


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_comes_back_from_its_ids(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(text=st.text())
def test_the_bytes_of_the_tokens_are_the_bytes_of_the_text(tokenizer: Tokenizer, text: str) -> None:
    assert b"".join(tokenizer.token_bytes(token) or b"" for token in tokenizer.encode(text)) == text.encode()


def test_special_tokens_are_left_out_of_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"a{IM_END}b")
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"a{IM_END}b"


def test_bytes_of_characters_that_the_vocabulary_lacks_are_tokens(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_byte_fallback_folder(tmp_path))
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"
    assert tokenizer.token_bytes(3 + 0xE9) == b"\xe9"
    assert (tokenizer.fallback_byte(3 + 0xE9), tokenizer.fallback_byte(260)) == (0xE9, None)


@pytest.mark.parametrize("kind", KINDS)
def test_serving_cuts_a_text_as_training_does(tmp_path: Path, kind: str) -> None:
    """With flags, tokens that only a config declares, special tokens in the text, and truncated texts."""
    config = {"add_bos_token": False, "add_eos_token": True, "pad_token": "<pad>", "extra_special_tokens": ["<extra>"]}
    folder = write_tokenizer(tmp_path, kind, config=config)
    tokenizer, texts = load_tokenizer(folder), [" The fox<pad> <extra>s </s>", "naïve 日本 <|im_end|>", "fox " * 50]
    rows = [Row(f"a:{number}", {"text": text, "label": "positive"}) for number, text in enumerate(texts)]
    trained = encode_classification(rows, read_base_text(folder), classifier_config(), 1000)
    assert [example.input_ids for example in trained.examples] == [tokenizer.encode(text) for text in texts]
    parts = [Row("a:1", {"prompt": text, "completion": "fox"}) for text in texts]
    if tokenizer.eos_ids:
        (first, *_) = encode_generation(parts, read_base_text(folder), 1000).examples
        assert first.input_ids[: len(tokenizer.encode(texts[0]))] == tokenizer.encode(texts[0])
        assert first.input_ids[-1] in tokenizer.eos_ids
