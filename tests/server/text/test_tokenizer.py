import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from headmix_server.text.tokenizer import Tokenizer, TokenizerError, load_tokenizer
from tests.support.base_folder import IM_END, write_base_folder, write_byte_fallback_folder


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
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))) == text.encode()


def test_special_tokens_are_left_out_of_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(f"a{IM_END}b")
    assert tokenizer.decode(ids) == "ab"
    assert tokenizer.decode(ids, skip_special_tokens=False) == f"a{IM_END}b"


def test_every_declared_end_token_ends_a_generation(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_ids == {0, 2}


def test_generation_config_decides_over_config(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}), encoding="utf-8")
    assert load_tokenizer(folder).eos_ids == {7, 2}


def test_an_explicit_add_bos_token_is_followed(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_byte_fallback_folder(tmp_path))
    assert tokenizer.encode("ab")[0] == 1
    assert tokenizer.encode("ab", add_special_tokens=False)[0] != 1
    assert tokenizer.decode(tokenizer.encode("ab é")) == "ab é"
    assert tokenizer.token_bytes(3 + 0xE9) == b"\xe9"


def test_truncation_and_padding_of_the_file_do_not_touch_prompts(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert len(load_tokenizer(folder).encode("The quick brown fox jumps")) > 2


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_a_folder_without_a_readable_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path)
