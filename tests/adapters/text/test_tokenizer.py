"""The reader of a base's tokenizer gives the same ids as transformers, whichever file declares a token."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from harness.bases.base_folder import write_base_folder
from harness.bases.tokenizer_kinds import KINDS, write_tokenizer
from headmix_adapters.text.tokenizer import TokenizerError, read_tokenizer

TEXTS = (
    "The quick brown fox",
    "  two leading spaces,  two inside and one behind ",
    "<s>x</s> y</s><|im_start|>user\nhi<|im_end|>[CLS] a [SEP]",
    "a<pad>b <pad> c<extra>d <tool>e <image> f[INST]",
    "Call 1234567 Über 東京 Привет 😀\n\n\t\ufeff e\u0301",
    "",
)
SPECIAL = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
Files = Mapping[str, Any]
DECLARATIONS: Mapping[str, tuple[dict[str, Any], Files]] = {
    "nothing more": ({}, {}),
    "a new token in tokenizer_config.json": ({"pad_token": "<pad>"}, {}),
    "a new token with flags": ({"pad_token": {"__type": "AddedToken", "content": "<pad>"} | SPECIAL}, {}),
    "a piece of the vocabulary as a special token": ({"sep_token": "fox", "mask_token": "ing"}, {}),
    "special tokens without a role": ({"additional_special_tokens": ["<extra>", "[INST]"]}, {}),
    "special tokens without a role, newer": ({"extra_special_tokens": ["<extra>"]}, {}),
    "a model's own roles": ({"image_token": "<image>", "extra_special_tokens": {"tool_token": "<tool>"}}, {}),
    "special_tokens_map.json alone": (
        {},
        {"special_tokens_map.json": {"pad_token": {"content": "<pad>"} | SPECIAL | {"lstrip": True}}},
    ),
    "special_tokens_map.json against the config": (
        {"pad_token": "<tool>"},
        {"special_tokens_map.json": {"pad_token": "<pad>", "additional_special_tokens": ["<extra>"]}},
    ),
    "added_tokens.json": ({"pad_token": "<pad>"}, {"added_tokens.json": {"<tool>": 900, "<pad>": 800}}),
    "added_tokens_decoder, which makes the older files count for nothing": (
        {
            "added_tokens_decoder": {
                "1": {"content": "<s>"} | SPECIAL | {"rstrip": True},
                "900": {"content": "<tool>"} | SPECIAL | {"special": False, "single_word": True},
            }
        },
        {"special_tokens_map.json": {"pad_token": "<pad>"}, "added_tokens.json": {"<extra>": 901}},
    ),
    "special tokens cut like text": ({"split_special_tokens": True, "pad_token": "<pad>"}, {}),
}


def same_ids(ours: Any, theirs: PreTrainedTokenizerBase, text: str) -> None:
    for special in (True, False):
        assert ours.encode(text, add_special_tokens=special) == theirs(text, add_special_tokens=special).input_ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("declared", DECLARATIONS)
def test_tokens_are_found_whole_whichever_file_declares_them(tmp_path: Path, kind: str, declared: str) -> None:
    config, files = DECLARATIONS[declared]
    folder = write_tokenizer(tmp_path, kind, files=files, config=config)
    ours, theirs = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        same_ids(ours, theirs, text)
        ids = theirs(text).input_ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert ours.size == len(theirs)
    assert {role: text for role, text in ours.roles.items() if text} == theirs.special_tokens_map
    assert ours.end_token == theirs.eos_token_id


CLASSES = {
    "byte-level": ("GPT2Tokenizer", "GPT2TokenizerFast", "PreTrainedTokenizerFast", None),
    "qwen2": ("Qwen2Tokenizer", "Qwen2TokenizerFast", "PreTrainedTokenizerFast", None),
    "llama2": ("PreTrainedTokenizerFast", None),
    "gemma": ("GemmaTokenizer", "GemmaTokenizerFast", "PreTrainedTokenizerFast"),
    "metaspace": ("PreTrainedTokenizerFast", None),
    "unigram": ("PreTrainedTokenizerFast", None),
    "wordpiece": ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", None),
}
MODEL_TYPES = {"byte-level": "gpt2", "qwen2": "qwen2", "gemma": "gemma3_text", "wordpiece": "bert"}


@pytest.mark.parametrize(
    ("kind", "tokenizer_class"), [(kind, name) for kind, names in CLASSES.items() for name in names]
)
def test_classes_and_flags_change_no_ids(tmp_path: Path, kind: str, tokenizer_class: str | None) -> None:
    """tokenizer.json takes precedence over `add_bos_token` and `add_eos_token`, and the contradiction is noted."""
    for number, (bos, eos) in enumerate(itertools.product((None, True, False), repeat=2)):
        flags = {"add_bos_token": bos, "add_eos_token": eos}
        folder = write_tokenizer(
            tmp_path / str(number),
            kind,
            tokenizer_class=tokenizer_class,
            model_type=MODEL_TYPES.get(kind, "llama"),
            config={name: value for name, value in flags.items() if value is not None},
        )
        ours, theirs = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
        for text in TEXTS:
            same_ids(ours, theirs, text)


def test_a_flag_that_has_no_effect_is_noted(tmp_path: Path) -> None:
    """A configuration like e5-mistral's: it asks for the end token, but tokenizer.json only adds the first token."""
    folder = write_tokenizer(tmp_path, "llama2", config={"add_bos_token": True, "add_eos_token": True})
    tokenizer = read_tokenizer(folder)
    assert tokenizer.encode("fox")[0] == 1
    assert tokenizer.encode("fox")[-1] != 2
    assert tokenizer.notes == (
        "add_eos_token is true in tokenizer_config.json; tokenizer.json doesn't add it, and counts",
    )


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text())
def test_any_text_has_the_ids_that_transformers_gives(
    readers: Mapping[str, tuple[Any, PreTrainedTokenizerBase]], kind: str, text: str
) -> None:
    same_ids(*readers[kind], text)


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, tuple[Any, PreTrainedTokenizerBase]]:
    folders = {
        kind: write_tokenizer(tmp_path_factory.mktemp(kind), kind, config={"pad_token": "<pad>"}) for kind in KINDS
    }
    return {kind: (read_tokenizer(f), AutoTokenizer.from_pretrained(f)) for kind, f in folders.items()}


def test_a_declared_token_without_a_row_in_the_base_is_plain_text(tmp_path: Path) -> None:
    """Its id would collide with those of an adapter's own words."""
    folder = write_tokenizer(
        tmp_path, "llama2", config={"pad_token": "<pad>", "additional_special_tokens": ["<extra>"]}
    )
    size = read_tokenizer(write_tokenizer(tmp_path / "plain", "llama2")).size
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": size + 1}), encoding="utf-8")
    tokenizer = read_tokenizer(folder)
    assert tokenizer.token_id("<pad>") == size
    assert tokenizer.token_id("<extra>") is None
    assert max(tokenizer.encode("a<extra>b")) < size
    assert tokenizer.notes == (f"the token '<extra>' has no row in the base's vocabulary of {size + 1}: plain text",)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_that_is_cut_keeps_the_special_tokens_around_it(tmp_path: Path, kind: str) -> None:
    folder = write_tokenizer(tmp_path, kind)
    ours, theirs = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    text = "The quick brown fox jumps"
    for length in (1, 2, 3, 5, 100):
        expected = theirs(text, truncation=True, max_length=length).input_ids if length > 2 else None
        cut = ours.encode_cut(text, length)
        assert cut == expected or expected is None
    assert ours.encode(text) == ours.encode_cut(text, 100)


def test_every_declared_end_token_ends_a_generation(tmp_path: Path) -> None:
    assert read_tokenizer(write_base_folder(tmp_path)).eos_ids == {0, 2}


def test_generation_config_decides_over_config(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 7}), encoding="utf-8")
    assert read_tokenizer(folder).eos_ids == {7, 2}


def test_a_text_is_closed_with_the_tokenizers_end_token_or_else_the_configs(tmp_path: Path) -> None:
    """GPT-2's tokenizer_config.json names no token at all."""
    folder = write_base_folder(tmp_path)
    assert read_tokenizer(folder).end_token == 2
    (folder / "tokenizer_config.json").unlink()
    assert read_tokenizer(folder).end_token is None  # config.json has two
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 0}), encoding="utf-8")
    assert read_tokenizer(folder).end_token == 0


def test_truncation_and_padding_of_the_file_do_not_touch_prompts(tmp_path: Path) -> None:
    folder = write_base_folder(tmp_path)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert len(read_tokenizer(folder).encode("The quick brown fox jumps")) > 2


@pytest.mark.parametrize("content", [None, "", "{}"])
def test_a_folder_without_a_readable_tokenizer_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"])
def test_a_config_that_is_no_json_object_is_named(tmp_path: Path, name: str) -> None:
    folder = write_tokenizer(tmp_path, "byte-level")
    for content in ("{", "[]"):
        (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(TokenizerError, match=name):
            read_tokenizer(folder)
